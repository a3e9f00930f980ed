"""Sign a release: the image, and what the build and the scanner attached to it and did not sign."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.errors import InputError, ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import Attested, attest_statement, read_attestations
from registry_pipelines.evidence.model import Attestations, Signer
from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    DERIVATION_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    VULNERABILITIES_TYPE,
    Role,
)
from registry_pipelines.evidence.referrers import read_artifacts
from registry_pipelines.evidence.statements import check_statement, read_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.predicates import (
    attest_report,
    attest_sbom,
    read_reports,
    report_predicate,
    vulnerability_predicate,
)
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, Report
from registry_pipelines.sign.cosign import SignedImage, sign_image

if TYPE_CHECKING:
    from registry_pipelines.evidence.keys import KeySet


@dataclass(frozen=True)
class SignedRelease:
    """What is signed now, and what is not and why."""

    image: SignedImage
    attestations: tuple[Attested, ...]
    withheld: tuple[str, ...]
    """Why the vulnerability report was not signed, mostly the policy's own reasons; empty when it is."""
    problems: tuple[str, ...]
    """Evidence that is not attached, or that could not be signed, one sentence each. The gate will deny."""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.image.changed or any(attestation.changed for attestation in self.attestations)


def sign_release(
    place: Place,
    subject: Descriptor,
    signers: Mapping[Role, Signer],
    trusted: KeySet,
    *,
    report_passes: Callable[[Report, bool], Sequence[str]],
    identity: str = "",
    consumers: Sequence[str] = (),
    adopts: Collection[Role] = ("builder", "scanner"),
    att_tag: bool = False,
    now: datetime | None = None,
) -> SignedRelease:
    """Sign ``subject``, the release's top manifest, and attest what is attached to it and not signed yet.

    signers: the keys at hand by role; the person's must be there, and signs the image. The builder's signs provenance
    byte for byte, the scanner's each SBOM as a CycloneDX attestation, and the newest vulnerability report only when
    ``report_passes`` gives no reason against it; it is also told whether a key of ``trusted`` signed that report
    already. What the key that is wanted is not at hand for, and nobody trusted signed, is a problem. identity: the
    repository named in the signature, the place itself unless told. consumers: as in :func:`sign_image`. adopts: roles
    in whose name what is attached unsigned is signed here; what others should have signed themselves is a problem.
    att_tag: write cosign's ``.att`` tag too. now: UTC, the clock unless told. Nothing here decides whether the release
    ships. Running it again writes nothing.

    What is attached is unsigned, so whoever may push to this repository is believed for the roles that are adopted
    about this release's provenance, packages and findings, and about nothing else: a statement of any other type than
    SLSA provenance (a verdict, say), or about anything that is not below ``subject``, is not signed, nor is a report
    from the future, nor provenance beside that which a trusted key signed.
    Raises RegistryError, ManifestInvalid, ClosureIncomplete.
    """

    top = place.registry.get_manifest(place.repository, subject.digest)
    known = read_attestations(place, subject.digest, trusted.also(signers))
    image = sign_image(
        place, subject, signers["person"], identity=identity or str(place), consumers=consumers, known=known
    )
    own = frozenset({subject.digest, *(image.digest for image in read_images(place, top, configs=False))})
    work = _Signing(place, subject, signers, known, att_tag, own, now or datetime.now(UTC), frozenset(adopts))
    artifacts, rejected = read_artifacts(
        place, subject.digest, kinds=(PROVENANCE_ARTIFACT, SBOM_MEDIA_TYPE, REPORT_MEDIA_TYPE)
    )
    work.problems.extend(str(refusal) for refusal in rejected)
    work.attest_provenance([content for _, content in artifacts[PROVENANCE_ARTIFACT]])
    work.attest_sboms([content for _, content in artifacts[SBOM_MEDIA_TYPE]])
    withheld = work.attest_report(artifacts[REPORT_MEDIA_TYPE], report_passes)
    return SignedRelease(image, tuple(work.made), tuple(withheld), tuple(work.problems))


def sign_provenance(
    place: Place,
    subject: Descriptor,
    signers: Mapping[Role, Signer],
    trusted: KeySet,
    *,
    adopts: Collection[Role] = ("builder", "scanner"),
) -> tuple[Sequence[Attested], Sequence[str]]:
    """Attest the provenance that is attached to an image and not signed yet, as :func:`sign_release` does, and nothing
    else: for what a release was derived of, whose provenance is the release's. What is signed now, and why the rest is
    not. Raises RegistryError, ManifestInvalid, ClosureIncomplete."""
    top = place.registry.get_manifest(place.repository, subject.digest)
    known = read_attestations(place, subject.digest, trusted.also(signers), predicate_type=PROVENANCE_TYPE)
    own = frozenset({subject.digest, *(image.digest for image in read_images(place, top, configs=False))})
    work = _Signing(place, subject, signers, known, False, own, datetime.now(UTC), frozenset(adopts))
    artifacts, rejected = read_artifacts(place, subject.digest, kinds=(PROVENANCE_ARTIFACT,))
    work.problems.extend(str(refusal) for refusal in rejected)
    work.attest_provenance([content for _, content in artifacts[PROVENANCE_ARTIFACT]])
    return work.made, work.problems


@dataclass
class _Signing:
    """One release being signed; collects what was made and what stood in the way."""

    place: Place
    subject: Descriptor
    signers: Mapping[Role, Signer]
    known: Attestations
    att_tag: bool
    own: frozenset[Digest]
    now: datetime
    adopts: frozenset[Role]
    made: list[Attested] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attest_provenance(self, statements: Sequence[bytes]) -> None:
        if not statements and not self.known.of_type(DERIVATION_TYPE):  # a converted image has that of its origin
            self.problems.append("no provenance is attached")
        for statement in dict.fromkeys(statements):
            try:
                predicate = self._check_provenance(statement)
                if not self._is_signed(PROVENANCE_TYPE, predicate) and self.known.of_type(PROVENANCE_TYPE):
                    self.problems.append("provenance is attached beside that which is signed; nobody signed it")
                    continue
                if signer := self._signer("builder", "the provenance", PROVENANCE_TYPE, predicate):
                    self.made.append(
                        attest_statement(
                            self.place, self.subject, statement, signer, known=self.known, att_tag=self.att_tag
                        )
                    )
            except (SignatureInvalid, InputError) as error:
                self.problems.append(f"provenance cannot be signed: {error.what}")

    def _check_provenance(self, statement: bytes) -> Mapping[str, Any]:
        claim = read_statement(statement)
        check_statement(claim, self.subject.digest, predicate_type=PROVENANCE_TYPE)
        foreign = [digest for digest in claim.subjects if digest not in self.own]
        if foreign:
            raise SignatureInvalid(f"the statement is also about {foreign[0]}, which is no image of this release")
        return claim.predicate

    def attest_sboms(self, documents: Sequence[bytes]) -> None:
        if not documents:
            self.problems.append("no SBOM is attached")
        for document in dict.fromkeys(documents):
            try:
                predicate = decode_json(document, dict, what="SBOM")
                if signer := self._signer("scanner", "an SBOM", CYCLONEDX_TYPE, predicate):
                    self.made.append(
                        attest_sbom(self.place, self.subject, document, signer, known=self.known, att_tag=self.att_tag)
                    )
            except (ManifestInvalid, SignatureInvalid, InputError) as error:
                self.problems.append(f"an SBOM cannot be signed: {error.what}")

    def attest_report(
        self, documents: Sequence[tuple[Descriptor, bytes]], passes: Callable[[Report, bool], Sequence[str]]
    ) -> Sequence[str]:
        report = self._newest_report(documents)
        if report is None:
            return ["no vulnerability report about this digest is attached"]
        signed = self._is_signed(REPORT_TYPE, report_predicate(report)) or self._is_signed(
            VULNERABILITIES_TYPE, vulnerability_predicate(report)
        )
        if withheld := passes(report, signed):
            return withheld
        signer = self.signers.get("scanner")
        if signer is not None and (signed or "scanner" in self.adopts):
            made = attest_report(self.place, self.subject, report, signer, known=self.known, att_tag=self.att_tag)
            self.made.append(made)
        else:
            self._signer("scanner", "the vulnerability report", REPORT_TYPE, report_predicate(report))
        return []

    def _signer(self, role: Role, what: str, predicate_type: str, predicate: Mapping[str, Any]) -> Signer | None:
        """The key of a role; None when it is not here. Then what somebody trusted signed needs it no more."""
        signer = self.signers.get(role)
        if self._is_signed(predicate_type, predicate):
            return signer
        if role not in self.adopts:
            self.problems.append(f"{what} is not signed by its {role}, whose key signs nothing that others attached")
            return None
        if signer is None:
            self.problems.append(_unsigned(what, role))
        return signer

    def _is_signed(self, predicate_type: str, predicate: Mapping[str, Any]) -> bool:
        return any(attestation.predicate == predicate for attestation in self.known.of_type(predicate_type))

    def _newest_report(self, documents: Sequence[tuple[Descriptor, bytes]]) -> Report | None:
        reports, rejected = read_reports(documents, self.subject.digest)
        self.problems.extend(str(refusal) for refusal in rejected)
        self.problems.extend(
            f"an attached vulnerability report is of {report.scanned_at[:40]!r}, not of the past"
            for report in reports
            if not report.is_past(self.now)
        )
        past = [report for report in reports if report.is_past(self.now)]
        return max(past, key=lambda report: report.order, default=None)


def _unsigned(what: str, role: Role) -> str:
    return f"{what} is not signed, and the key of the {role} is not here"
