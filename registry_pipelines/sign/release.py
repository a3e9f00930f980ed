"""Sign a release: the image, and what the build and the scanner attached to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from registry_pipelines.build.interface import PROVENANCE_ARTIFACT, SLSA_PROVENANCE
from registry_pipelines.errors import InputError, ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once, attest_statement, read_attestations
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Attestations, Signer
from registry_pipelines.evidence.referrers import read_artifacts
from registry_pipelines.evidence.statements import check_statement, read_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json
from registry_pipelines.registry.interface import Place
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.scan.interface import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, Report
from registry_pipelines.scan.predicates import CYCLONEDX_TYPE, VULNERABILITIES_TYPE, vulnerability_predicate
from registry_pipelines.sign.cosign import SignedImage, sign_image

CLOCK_SKEW = timedelta(minutes=10)
"""A report may be this far in the future: it was made on another machine."""


@dataclass(frozen=True)
class SignedRelease:
    """What is signed now, and what is not and why."""

    image: SignedImage
    attestations: tuple[Attested, ...]
    withheld: tuple[str, ...]
    """Why the vulnerability attestation was not made, mostly the policy's own reasons; empty when it was made."""
    problems: tuple[str, ...]
    """Evidence that is not attached, or that could not be signed, one sentence each. The gate will deny."""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.image.changed or any(item.changed for item in self.attestations)


def sign_release(
    place: Place,
    subject: Descriptor,
    signer: Signer,
    *,
    report_passes: Callable[[Report], Sequence[str]],
    identity: str = "",
    att_tag: bool = False,
    now: datetime | None = None,
) -> SignedRelease:
    """Sign ``subject``, the release's top manifest, and attest the evidence attached to it.

    Provenance is signed byte for byte, each SBOM as a CycloneDX attestation; the newest vulnerability report only when
    ``report_passes`` gives no reason against it. identity: the repository named in the signature, the place itself
    unless told. att_tag: write cosign's ``.att`` tag too. now: UTC, the clock unless told. Nothing here decides whether
    the release ships. Running it again writes nothing.

    What is attached is unsigned, so whoever may push to this repository is believed about this release's provenance,
    packages and findings, and about nothing else: a statement of any other type than SLSA provenance (a verdict, say),
    or about anything that is not below ``subject``, is not signed, nor is a report from the future.
    Raises RegistryError, ManifestInvalid, ClosureIncomplete.
    """
    top = place.registry.get_manifest(place.repository, subject.digest)
    known = read_attestations(place, subject.digest, verifier_of(signer))
    image = sign_image(place, subject, signer, identity=identity or str(place), known=known)
    own = frozenset({subject.digest, *(image.digest for image in read_images(place, top, configs=False))})
    work = _Work(place, subject, signer, known, att_tag, own, (now or datetime.now(UTC)) + CLOCK_SKEW)
    found, rejected = read_artifacts(
        place, subject.digest, kinds=(PROVENANCE_ARTIFACT, SBOM_MEDIA_TYPE, REPORT_MEDIA_TYPE)
    )
    work.problems.extend(str(item) for item in rejected)
    work.attest_provenance([content for _, content in found[PROVENANCE_ARTIFACT]])
    work.attest_sboms([content for _, content in found[SBOM_MEDIA_TYPE]])
    withheld = work.attest_report([content for _, content in found[REPORT_MEDIA_TYPE]], report_passes)
    return SignedRelease(image, tuple(work.made), tuple(withheld), tuple(work.problems))


@dataclass
class _Work:
    """One release being signed; collects what was made and what stood in the way."""

    place: Place
    subject: Descriptor
    signer: Signer
    known: Attestations
    att_tag: bool
    own: frozenset[Digest]
    latest: datetime
    made: list[Attested] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attest_provenance(self, statements: Sequence[bytes]) -> None:
        if not statements:
            self.problems.append("no provenance is attached")
        for statement in dict.fromkeys(statements):
            try:
                self._check_provenance(statement)
                self.made.append(
                    attest_statement(
                        self.place, self.subject, statement, self.signer, known=self.known, att_tag=self.att_tag
                    )
                )
            except (SignatureInvalid, InputError) as error:
                self.problems.append(f"provenance cannot be signed: {error.what}")

    def _check_provenance(self, statement: bytes) -> None:
        claim = read_statement(statement)
        check_statement(claim, self.subject.digest, predicate_type=SLSA_PROVENANCE)
        foreign = [digest for digest in claim.subjects if digest not in self.own]
        if foreign:
            raise SignatureInvalid(f"the statement is also about {foreign[0]}, which is no image of this release")

    def attest_sboms(self, documents: Sequence[bytes]) -> None:
        if not documents:
            self.problems.append("no SBOM is attached")
        for document in dict.fromkeys(documents):
            try:
                decode_json(document, dict, what="SBOM")
                # The bytes as they are: an SBOM of another tool may say more than any model of it can hold.
                self._attest(CYCLONEDX_TYPE, msgspec.Raw(document))
            except (ManifestInvalid, InputError) as error:
                self.problems.append(f"an SBOM cannot be signed: {error.what}")

    def attest_report(self, contents: Sequence[bytes], passes: Callable[[Report], Sequence[str]]) -> list[str]:
        report = self._newest_report(contents)
        if report is None:
            return ["no vulnerability report about this digest is attached"]
        withheld = list(passes(report))
        if not withheld:
            self._attest(VULNERABILITIES_TYPE, vulnerability_predicate(report))
        return withheld

    def _newest_report(self, contents: Sequence[bytes]) -> Report | None:
        reports: list[Report] = []
        for content in contents:
            try:
                report = Report.decode(content)
            except ManifestInvalid as error:
                self.problems.append(f"a vulnerability report cannot be read: {error.what}")
                continue
            if report.subject != self.subject.digest:
                self.problems.append(f"an attached vulnerability report is about {report.subject}")
            elif not self._is_past(report.scanned_at):
                self.problems.append(
                    f"an attached vulnerability report is of {report.scanned_at[:40]!r}, not of the past"
                )
            else:
                reports.append(report)
        return max(
            reports, key=lambda item: (item.scanned_at, item.advisories.newest, len(item.findings)), default=None
        )

    def _is_past(self, text: str) -> bool:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return False
        return moment.tzinfo is not None and moment <= self.latest

    def _attest(self, predicate_type: str, predicate: dict[str, object] | msgspec.Raw) -> None:
        self.made.append(
            attest_once(
                self.place,
                self.subject,
                predicate_type,
                predicate,
                self.signer,
                known=self.known,
                att_tag=self.att_tag,
            )
        )
