"""Gather a release's evidence from the registry: nothing a caller says, nothing an orchestrator remembers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import ContentError, DigestInvalid, EvidenceError, ManifestInvalid
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.attestors import Attestor
from registry_pipelines.evidence.model import Attestations, Certified, Rejected, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, PROVENANCE_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.evidence.referrers import read_artifacts
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.approvals import NO_APPROVALS, Approvals, read_approvals
from registry_pipelines.promote.bases import KnownBase, Standing
from registry_pipelines.promote.origins import Origin, covered_by, read_origins
from registry_pipelines.promote.streaming import Indexes, read_indexes
from registry_pipelines.promote.vex import attested_vex
from registry_pipelines.registry.image_warnings import warnings_of
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import WarningId, summed
from registry_pipelines.scan.openvex import VexStatement
from registry_pipelines.scan.predicates import REPORT_TYPES, read_reports, signed_report
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, Report
from registry_pipelines.sign.cosign import ImageSignature, verify_image

if TYPE_CHECKING:
    from registry_pipelines.evidence.notation.trust import Trust
    from registry_pipelines.promote.documents import WeightRules
    from registry_pipelines.promote.same_tree import Regrouped
    from registry_pipelines.promote.weights import JudgedWeights


@dataclass(frozen=True)
class JudgedReport:
    """The vulnerability report the policy is applied to."""

    report: Report
    attestation: VerifiedAttestation | None
    """None: nobody trusted signed it. Its findings are named, and the release is denied."""
    superseded_by: Report | None = None
    """A later report, or another of the same second, that is not signed. Unsigned evidence can only deny: this is how a
    rescan that finds something stops a release whose older, clean report was signed."""


@dataclass(frozen=True)
class Evidence:
    """Everything a policy is applied to, for exactly one digest."""

    release: Digest
    image: str
    now: datetime
    images: tuple[Entry, ...]
    """Everything below the release that some client could start, however it is called."""
    warnings: Mapping[WarningId, str]
    """What may keep it from starting, or lets clients start different images: id to sentence."""
    signatures: tuple[ImageSignature, ...]
    signature_problem: str
    """Why there is no believed signature; empty when there is one."""
    notation: Certified | None = field(default=None, kw_only=True)
    """Signatures by certificate; None where no policy wants one."""
    attestations: Attestations
    report: JudgedReport | None
    rejected: tuple[Rejected, ...]
    """Everything that was not believed or could not be read."""
    origins: tuple[Origin, ...] = ()
    """What it was converted from, by each believed derivation record; empty for a release that was not."""
    indexes: Indexes = field(default_factory=dict)
    """By which nodes may start each image before it is fetched whole; read only for a policy that asks."""
    standing_on: Standing = field(default_factory=dict)
    """Which base each image stands on; read only for a policy that asks."""
    regrouped: Mapping[Digest, Regrouped] = field(default_factory=dict)
    """What is known of each image that was rechunked; read only for a policy that asks."""
    vex: tuple[VexStatement, ...] = ()
    """What trusted people signed about its findings."""
    reports: tuple[tuple[Report, VerifiedAttestation], ...] = ()
    """Every vulnerability report that a trusted key signed."""
    approvals: Approvals = NO_APPROVALS
    """What people said about it."""
    attestors: Mapping[str, Attestor] = field(default_factory=dict)
    """Those that the policy names, as far as they are known."""
    certified: Mapping[str, Certified] = field(default_factory=dict)
    """Image signatures by certificates that count as those attestors; of each that has certificates."""
    weights: tuple[JudgedWeights, ...] = ()
    """Weights that are attached to it; read only for a policy that asks."""
    problem: str = ""
    """Why the release itself is not whole, so that nothing else here was read; empty when it is."""

    @property
    def platforms(self) -> dict[Digest, Platform]:
        """Digest and platform of each image, in the index's order."""
        return {entry.digest: entry.platform for entry in self.images}

    def repeats(self, attestation: VerifiedAttestation) -> bool:
        """Whether it is cosign's record of a report that its key signed under our type, too. It comes after the verdict
        that allows it, so that no verdict rests on it."""
        if attestation.predicate_type != VULNERABILITIES_TYPE:
            return False
        return all(signed is not attestation for _, signed in self.reports)

    def covered(self, predicate_type: str) -> set[Digest]:
        """Platform manifests that the verified attestations of this type cover, taken together.

        Provenance of the top digest covers all that this digest binds, unless it names single platforms itself; that of
        an origin covers what was made of it.
        """
        platforms: set[Digest] = set()
        if predicate_type == PROVENANCE_TYPE:
            platforms.update(*(origin.covers for origin in self.origins))
        for attestation in self.attestations.of_type(predicate_type):
            platforms |= self.covered_by(attestation)
        return platforms

    def covered_by(self, attestation: VerifiedAttestation) -> set[Digest]:
        """Platform manifests that one verified attestation covers."""
        everything = set(self.platforms)
        if attestation.predicate_type == CYCLONEDX_TYPE:
            named = set(_named_by_sbom(attestation.predicate))
            return everything & (named or set(attestation.subjects))
        if attestation.predicate_type == PROVENANCE_TYPE:
            return set(covered_by(attestation, frozenset(everything)))
        return everything


def gather(
    place: Place,
    top: ManifestBytes,
    verifier: Verifier,
    *,
    image: str,
    now: datetime,
    known: Attestations | None = None,
    indexes: bool = False,
    trees: bool = False,
    notation: bool = False,
    attestors: Collection[str] = (),
    bases: Sequence[KnownBase] | None = None,
    weights: WeightRules | None = None,
) -> Evidence:
    """Read signatures, attestations and reports about ``top`` and verify them.

    known: what :func:`read_attestations` found for this digest and verifier just now, when the caller has it. indexes:
    read those by which nodes stream, too. trees: read what is signed of images that were rechunked. notation: ask about
    a signature by certificate. attestors: those that the
    policy names, which ``verifier`` is ``under``. bases: those that an image may stand on, for a policy that asks.
    weights: what is asked about weights, of such a policy.

    Raises RegistryError when the registry does not answer. Bad evidence raises nothing: it is listed as rejected and
    the rules find it missing. A release that is itself broken is told in ``problem``.
    """
    try:
        evidence = _gathered(
            place, top, verifier, image=image, now=now, known=known, indexes=indexes, attestors=attestors, bases=bases
        )
        if trees:
            from registry_pipelines.promote.same_tree import read_regrouped  # few policies ask

            said = read_regrouped(place, evidence.attestations, top.digest, evidence.images, verifier)
            evidence = replace(evidence, regrouped=said)
        if weights is not None:
            from registry_pipelines.promote.weights import read_weights  # few policies ask

            evidence = replace(
                evidence, weights=read_weights(place, (top.digest, *evidence.platforms), verifier, weights)
            )
        return replace(evidence, notation=verifier.certified(place, top.descriptor)) if notation else evidence
    except ContentError as error:
        return Evidence(
            release=top.digest,
            image=image,
            now=now,
            images=(),
            warnings={},
            signatures=(),
            signature_problem="",
            attestations=Attestations((), ()),
            report=None,
            rejected=(),
            problem=error.what,
        )


def signed_about(known: Attestations, digest: Digest) -> tuple[Report, VerifiedAttestation] | None:
    """The vulnerability report about ``digest`` that counts of those that a trusted key signed; None: there is none.

    known: what was read and verified about this digest.
    """
    signed, _ = _signed_reports(known, digest)
    return max(signed, key=lambda pair: pair[0].order, default=None)


def reports_about(place: Place, digest: Digest, known: Attestations) -> list[Report]:
    """Every vulnerability report about ``digest``, attached by anybody or signed by a trusted key, each once.

    known: what was read and verified about this digest. Raises RegistryError, ClosureIncomplete (more referrers than
    are read).
    """
    signed, _ = _signed_reports(known, digest)
    attached, _ = _attached_reports(place, digest)
    return list(dict.fromkeys([*attached, *(report for report, _ in signed)]))


def _gathered(
    place: Place,
    top: ManifestBytes,
    verifier: Verifier,
    *,
    image: str,
    now: datetime,
    known: Attestations | None,
    indexes: bool,
    attestors: Collection[str],
    bases: Sequence[KnownBase] | None,
) -> Evidence:
    digest = top.digest
    entries = read_entries(place, top)
    images = images_of(entries)
    attestations = known or read_attestations(place, digest, verifier)
    signatures: tuple[ImageSignature, ...] = ()
    problem = ""
    try:
        signatures = verify_image(place, digest, verifier, known=attestations).signatures
    except EvidenceError as error:
        problem = error.what
    signed, refused = _signed_reports(attestations, digest)
    unsigned, unreadable = _attached_reports(place, digest)
    origins, foreign = read_origins(place, attestations, digest, images, verifier)
    vex, unstated = attested_vex(attestations, digest)
    streaming, unsafe = read_indexes(place, images, verifier) if indexes else ({}, [])
    named = {name: attestor for name in attestors if (attestor := verifier.attestor(name))}
    return Evidence(
        release=digest,
        image=image,
        now=now,
        images=images,
        warnings=summed(warnings_of(place, entries)),
        signatures=signatures,
        signature_problem=problem,
        attestations=attestations,
        report=_choose(signed, unsigned),
        rejected=(*attestations.rejected, *foreign, *refused, *unreadable, *unsafe, *unstated),
        origins=origins,
        indexes=streaming,
        vex=vex,
        standing_on=_standing_on(place, images, origins, bases),
        reports=tuple(signed),
        approvals=read_approvals(place, digest, verifier, known=attestations),
        attestors=named,
        certified={
            name: _certified(place, top, each.certificates, now) for name, each in named.items() if each.certificates
        },
    )


def _standing_on(
    place: Place, images: Sequence[Entry], origins: Sequence[Origin], bases: Sequence[KnownBase] | None
) -> Standing:
    if bases is None:
        return {}
    from registry_pipelines.promote.base_evidence import read_standing_on  # few policies ask

    return read_standing_on(place, images, origins, bases)


def _certified(place: Place, top: ManifestBytes, trust: Trust, now: datetime) -> Certified:
    from registry_pipelines.evidence.revocation import Revocations  # certificates bring 80 modules along
    from registry_pipelines.sign.notation import verify_notation

    try:
        found = verify_notation(place, top.descriptor, trust, revocation=Revocations(), now=now)
    except EvidenceError as error:
        return Certified(problem=error.what)
    return found.certified()


def _choose(signed: list[tuple[Report, VerifiedAttestation]], unsigned: list[Report]) -> JudgedReport | None:
    if not signed:
        newest = max(unsigned, key=lambda report: report.order, default=None)
        return None if newest is None else JudgedReport(newest, None)
    report, attestation = max(signed, key=lambda pair: pair[0].order)
    later = [other for other in unsigned if other != report and other.order[:2] >= report.order[:2]]
    return JudgedReport(report, attestation, superseded_by=max(later, key=lambda report: report.order, default=None))


def _signed_reports(
    attestations: Attestations, digest: Digest
) -> tuple[list[tuple[Report, VerifiedAttestation]], list[Rejected]]:
    """Each report once of a key: where one was allowed, cosign's record of it repeats it, and adds nothing."""
    reports: list[tuple[Report, VerifiedAttestation]] = []
    rejected: list[Rejected] = []
    said: set[tuple[Report, str]] = set()
    for attestation in (each for kind in REPORT_TYPES for each in attestations.of_type(kind)):
        where = str(attestation.descriptor.digest)
        try:
            report = signed_report(attestation)
        except (EvidenceError, ManifestInvalid) as error:
            rejected.append(Rejected(where, error.what))
            continue
        if report.subject == digest:
            if (report, attestation.key_id) not in said:
                reports.append((report, attestation))
            said.add((report, attestation.key_id))
        else:
            rejected.append(Rejected(where, f"the signed vulnerability report is about {report.subject}"))
    return reports, rejected


def _attached_reports(place: Place, digest: Digest) -> tuple[list[Report], list[Rejected]]:
    artifacts, rejected = read_artifacts(place, digest, kinds=(REPORT_MEDIA_TYPE,))
    reports, refused = read_reports(artifacts[REPORT_MEDIA_TYPE], digest)
    return reports, [*rejected, *refused]


def _named_by_sbom(document: Mapping[str, Any]) -> Iterator[Digest]:
    """Digests by which a CycloneDX document names the image it describes: ``metadata.component`` and its properties.

    Ours names the platform manifest there, syft puts it into ``version``. A document that names another digest covers
    nothing here, whatever its statement's subject says.
    """
    metadata = document.get("metadata")
    component = metadata.get("component") if isinstance(metadata, dict) else None
    if not isinstance(component, dict):
        return
    texts = [component.get("version"), component.get("bom-ref")]
    texts.extend(each.get("value") for each in _dicts(component.get("properties")))
    texts.extend(f"sha256:{each.get('content')}" for each in _dicts(component.get("hashes")))
    for text in texts:
        try:
            yield Digest.parse(str(text).removeprefix("pkg:oci/").rpartition("@")[2])
        except DigestInvalid:
            continue


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
