"""Policies as data and as rules."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_DEPTH, Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import (
    DEFAULT_POLICY,
    AcceptedUnknown,
    Policy,
    PolicyException,
    PromotionRecord,
)
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.gate import judged, report_breaches
from registry_pipelines.registry import platforms
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.platforms import platform_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.match import match
from registry_pipelines.scan.report import Component, FindingLimits, PlatformPackages
from registry_pipelines.settings import Duration
from tests.evidence.parts import push_image, push_index
from tests.promote.parts import NOW

NOTHING = Evidence(
    release=Digest.of(b"x"),
    image="app",
    now=NOW,
    images=(),
    warnings={},
    signatures=(),
    signature_problem="",
    attestations=Attestations((), ()),
    report=None,
    rejected=(),
)


def test_the_shipped_policy_is_what_the_documents_say() -> None:
    policy = DEFAULT_POLICY
    assert policy.limits == FindingLimits(critical=0, high=0, medium=None, low=None, unknown=0, unknowns=0)
    assert (policy.undeclared, policy.fixable_only, policy.max_advisory_age) == ("list", False, timedelta(days=7))
    assert policy.unfixed_by_distribution == "list"
    assert "signature" in policy.required
    assert set(policy.predicate_types) == {
        "https://slsa.dev/provenance/v1",
        "https://cyclonedx.org/bom",
        "https://cosign.sigstore.dev/attestation/vuln/v1",
    }
    assert policy.platforms == policy.deny_warnings == policy.exceptions == policy.accept_unknowns == ()


def test_the_digest_of_a_policy_stays() -> None:
    """Verdicts name it: where it changes, every release must be judged again. A changed default, which is not in the
    digest's JSON, must change ``POLICY_MEANING``; see the test above."""
    policy = Policy(
        name="strict",
        limits=FindingLimits(high=1, medium=None, low=3),
        max_advisory_age=Duration(days=10),
        required=("sbom", "signature"),
        attestations=("https://example.com/review/v1",),
        platforms=(Platform(os="linux", architecture="arm64"),),
        undeclared="deny",
        deny_warnings=("several-images",),
        exceptions=(PolicyException(advisory="CVE-1", owner="sec", reason="r", expires=date(2027, 1, 31)),),
        accept_unknowns=(AcceptedUnknown(kind="advisories-age", until_age=Duration(days=14), reason="r"),),
    )
    assert [Policy().digest.short, policy.digest.short] == ["sha256:64beace22790", "sha256:7d8fd0e7a189"]
    written = Policy(limits=FindingLimits(), max_advisory_age=Duration(hours=7 * 24), required=Policy().required[::-1])
    assert written.digest == Policy().digest


def test_the_digest_names_the_content() -> None:
    assert Policy().digest == Policy().digest
    changed = [
        {"name": "x"},
        {"limits": FindingLimits(high=1)},
        {"limits": FindingLimits(unknowns=1)},
        {"undeclared": "deny"},
        {"fixable_only": True},
        {"unfixed_by_distribution": "deny"},
        {"max_advisory_age": Duration(days=8)},
        {"required": ("provenance", "sbom", "vulnerabilities")},
        {"attestations": ("https://example.com/review/v1",)},
        {"exceptions": (PolicyException(advisory="CVE-1", owner="sec", reason="r", expires=date(2027, 1, 31)),)},
    ]
    digests = {msgspec.structs.replace(Policy(), **fields).digest for fields in changed}
    assert len(digests | {Policy().digest}) == len(changed) + 1


def test_how_a_reason_is_worded_is_not_in_the_digest() -> None:
    """It decides nothing: correcting it must not have every release judged again."""

    def policy(wording: str, expires: date = date(2027, 1, 31)) -> Policy:
        excuse = PolicyException(advisory="CVE-1", owner="sec", reason=wording, expires=expires)
        return Policy(exceptions=(excuse,), accept_unknowns=(AcceptedUnknown(kind="unreadable", reason=wording),))

    assert policy("ticket 1").digest == policy("ticket 2, see the wiki").digest
    assert policy("ticket 1").digest != policy("ticket 1", date(2027, 2, 1)).digest


def test_the_smallest_policy_still_asks_for_an_image() -> None:
    verdict = judged(NOTHING, Policy(required=()))
    assert verdict.reasons == ("platforms: the release holds no image that could be started",)


def test_a_record_that_is_none_names_its_field() -> None:
    with pytest.raises(ManifestInvalid, match="image"):
        PromotionRecord.decode(b"{}")


def index_of(place: Place, *children: Descriptor) -> ManifestBytes:
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=children))
    place.registry.put_manifest(place.repository, index)
    return index


def test_nested_indexes_are_followed_and_bounded(place: Place) -> None:
    top, children = push_index(place)
    nested = index_of(place, top)
    assert list(platform_images(place, nested)) == [child.digest for child in children]
    for _ in range(MAX_DEPTH):
        nested = index_of(place, nested.descriptor)
    with pytest.raises(ClosureIncomplete, match="nested more than 8 deep"):
        platform_images(place, nested)


def test_too_many_manifests_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "MAX_MANIFESTS", 1)
    top, _ = push_index(place)
    with pytest.raises(ClosureIncomplete, match="more than 1 manifests"):
        platform_images(place, place.registry.get_manifest(place.repository, top.digest))


def test_an_image_without_its_config_is_incomplete(place: Place) -> None:
    push_image(place)
    config = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(b"gone"), size=4)
    lost = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=()))
    place.registry.put_manifest(place.repository, lost)
    with pytest.raises(ClosureIncomplete, match="the image config sha256:"):
        platform_images(place, lost)


def test_an_unknown_platform_does_not_hide_an_image(place: Place) -> None:
    """Only what its layers say makes a manifest an attestation."""
    image = push_image(place)
    hidden = Descriptor(
        media_type=image.media_type,
        digest=image.digest,
        size=image.size,
        platform=Platform(os="unknown", architecture="unknown"),
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    assert list(platform_images(place, index_of(place, hidden))) == [image.digest]


def test_an_empty_image_is_an_image(place: Place) -> None:
    config = push_blob(place, b'{"os":"linux","architecture":"amd64"}', media_type=media_types.OCI_CONFIG)
    empty = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=()))
    assert list(platform_images(place, empty).values()) == [Platform(os="linux", architecture="amd64")]


def test_an_exception_for_one_cve_of_a_notice_excuses_no_other(tmp_path: Path) -> None:
    """From the advisories to the policy: a notice about two vulnerabilities, one of them excused."""
    fix = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]}
    record = {
        "id": "DSA-1-1",
        "modified": "2026-11-20T00:00:00Z",
        "upstream": ["CVE-2026-1111", "CVE-2026-2222"],
        "affected": [{"package": {"ecosystem": "Debian:12", "name": "tar"}, "ranges": [fix]}],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    }
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "DSA-1-1.json").write_text(json.dumps(record))
    store = AdvisoryStore.load(tmp_path / "osv", tmp_path / "state")
    tar = Component(purl="pkg:deb/debian/tar@1", name="tar", version="1", type="deb", ecosystem="Debian:12")
    manifest = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"m"), size=1)
    platform = Platform(os="linux", architecture="amd64")
    packages = PlatformPackages(subject=Digest.of(b"x"), manifest=manifest, platform=platform, components=(tar,))
    report = match([packages], store, now=NOW)

    def reasons(*advisories: str) -> list[str]:
        excuses = tuple(
            PolicyException(advisory=name, owner="sec", reason="r", expires=date(2027, 1, 1)) for name in advisories
        )
        return report_breaches(report, Policy(exceptions=excuses), image="app", now=NOW)

    assert len(reasons()) == 2
    (left,) = reasons("CVE-2026-1111")
    assert "CVE-2026-2222 DSA-1-1" in left and "CVE-2026-1111" not in left
    assert reasons("CVE-2026-1111", "CVE-2026-2222") == reasons("DSA-1-1") == []
