"""Releases with evidence, as the stages before promotion leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.referrers import Referrer, open_referrers
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Verdict
from registry_pipelines.promote.gate import report_breaches
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.verdicts import publish
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.report import (
    NO_ECOSYSTEM,
    REPORT_MEDIA_TYPE,
    SBOM_MEDIA_TYPE,
    AdvisoryFacts,
    Finding,
    Report,
    Unknown,
)
from registry_pipelines.sign.release import SignedRelease, sign_release
from tests.evidence.parts import Key, push_index

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PROVENANCE = {"buildDefinition": {"buildType": "urn:x"}, "runDetails": {"builder": {"id": "urn:y"}}}
ARM64 = Platform(os="linux", architecture="arm64")
CRITICAL = Finding(
    component="pkg:pypi/jinja2@3.1.2",
    ids=("CVE-2026-1", "PYSEC-2026-1"),
    severity="CRITICAL",
    score=9.8,
    fixed_versions=("3.1.6",),
)
UNCOVERED = Unknown(kind="uncovered", subject="pkg:conda/python@3.11", reason=NO_ECOSYSTEM)
UNDECLARED = tuple(
    Unknown(kind="undeclared", subject=f"pkg:generic/lib{name}.so.1", reason="only its file shows it")
    for name in "abcdefg"
)


@dataclass
class Candidate:
    """A release of two platforms in a place."""

    place: Place
    key: Key
    name: str
    top: Descriptor
    children: list[Descriptor]

    @property
    def release(self) -> Release:
        return Release("app", f"v1-{self.name}", self.top.digest)

    def attach(self, kind: str, content: bytes) -> Descriptor:
        return attach(self.place, subject=self.top, artifact_type=kind, content=content, media_type=kind)

    def attach_provenance(self, *subjects: Digest) -> None:
        everything = subjects or (self.top.digest, *(child.digest for child in self.children))
        statement = write_statement("https://slsa.dev/provenance/v1", PROVENANCE, subjects=everything, name="app")
        self.attach(PROVENANCE_ARTIFACT, statement)

    def attach_sbom(self, manifest: Descriptor) -> None:
        component = {
            "type": "container",
            "name": self.top.digest,
            "version": manifest.digest,
            "bom-ref": manifest.digest,
        }
        document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": component}}
        self.attach(SBOM_MEDIA_TYPE, json.dumps(document).encode())

    def report(
        self,
        findings: Sequence[Finding] = (),
        unknowns: Sequence[Unknown] = (),
        *,
        covers: Sequence[Descriptor] | None = None,
        newest: str = "2026-11-22T00:00:00Z",
        scanned_at: str = "2026-11-23T10:00:00Z",
        subject: Digest | None = None,
    ) -> Report:
        return Report(
            subject=subject or self.top.digest,
            covers=tuple(child.digest for child in (self.children if covers is None else covers)),
            advisories=AdvisoryFacts(digest=Digest.of(newest.encode()), newest=newest, records=2, source="pypa"),
            findings=tuple(findings),
            unknowns=tuple(unknowns),
            components=1,
            scanned_at=scanned_at,
        )

    def attach_report(self, *findings: Finding, **changes: Any) -> None:
        self.attach(REPORT_MEDIA_TYPE, self.report(findings, **changes).encode())

    def attach_everything(self, *findings: Finding, **changes: Any) -> None:
        self.attach_provenance()
        for child in self.children:
            self.attach_sbom(child)
        self.attach_report(*findings, **changes)

    def sign(self, policy: Policy = DEFAULT_POLICY, key: Key | None = None) -> SignedRelease:
        return sign_release(
            self.place,
            self.top,
            (key or self.key).signers,
            self.key.verifier,
            report_passes=lambda report, signed: report_breaches(report, policy, image="app", now=NOW),
            now=NOW,
        )

    def judge(self, policy: Policy = DEFAULT_POLICY, *, now: datetime = NOW) -> Verdict:
        return judge(self.place, self.top, policy, self.key.verifier, image="app", now=now)

    def publish(self, verdict: Verdict) -> Any:
        return publish(self.place, self.top, verdict, self.key.signer, self.key.verifier)


def candidate(place: Place, key: Key, name: str = "good") -> Candidate:
    """A release that nobody vouched for yet."""
    top, children = push_index(place, name, tag=f"v1-{name}")
    return Candidate(place, key, name, top, children)


def day(text: str) -> date:
    return date.fromisoformat(text)


def copied_evidence(release: Candidate) -> Candidate:
    """Another index of the same images to which all evidence of a release was attached anew: signed bytes as they are,
    and manifests that name another subject. Who may push can do it, without any key."""
    place = release.place
    stored = place.registry.get_manifest(place.repository, release.top.digest)
    index = stored.content()
    assert isinstance(index, Index)
    other = manifest_bytes(msgspec.structs.replace(index, annotations={"another": "one"}))
    place.registry.put_manifest(place.repository, other, tag="another")
    for each in open_referrers(place, release.top.digest):
        assert isinstance(each, Referrer)
        again = manifest_bytes(msgspec.structs.replace(each.manifest, subject=other.descriptor))
        place.registry.put_manifest(place.repository, again)
    assert len(list(open_referrers(place, other.digest))) > 0
    return Candidate(place, release.key, "another", other.descriptor, release.children)
