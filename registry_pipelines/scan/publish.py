"""SBOMs and reports as evidence: attached to the release's top digest, read back verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType

import msgspec

from registry_pipelines.errors import EvidenceMissing, InputError, ManifestInvalid
from registry_pipelines.evidence.artifacts import attach_once, attached
from registry_pipelines.evidence.attestations import Attested, read_attestations
from registry_pipelines.evidence.model import Attestations, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, REPORT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.cyclonedx import MAX_SBOM_BYTES, Remembered, read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.predicates import attest_report, attest_sbom
from registry_pipelines.scan.report import (
    MAX_REPORT_BYTES,
    REPORT_MEDIA_TYPE,
    SBOM_MEDIA_TYPE,
    PlatformPackages,
    Report,
)


@dataclass(frozen=True)
class Published:
    """One document in the registry."""

    descriptor: Descriptor
    """The artifact manifest that carries it."""
    content: bytes
    """The document's exact bytes."""
    changed: bool
    """Whether it was attached or signed now; False: an equal one was there, signed by the same key."""
    unsigned: str = ""
    """Why its signer could not sign it, which is then the verdict's to judge; empty else."""
    trusted: bool = False
    """Whether a trusted scanner signed it, or one about the same platform; only where that was asked."""


def publish_sboms(
    place: Place, subject: Descriptor, packages: Sequence[PlatformPackages], *, signer: Signer | None = None
) -> list[Published]:
    """Attach one CycloneDX document for each platform to ``subject``, and sign each where there is a signer; what is
    there already stays as it is."""
    published = [_published(place, subject, SBOM_MEDIA_TYPE, write_cyclonedx(platform)) for platform in packages]
    if signer is None:
        return published
    from registry_pipelines.evidence.keys import verifier_of  # cryptography is loaded by who signs

    signed = read_attestations(place, subject.digest, verifier_of(signer), predicate_type=CYCLONEDX_TYPE)

    def sign(content: bytes) -> list[Attested]:
        return [attest_sbom(place, subject, content, signer, known=signed)]

    return [_signed(sbom, partial(sign, sbom.content)) for sbom in published]


def _published(place: Place, subject: Descriptor, kind: str, content: bytes) -> Published:
    descriptor, changed = attach_once(place, subject=subject, artifact_type=kind, content=content, media_type=kind)
    return Published(descriptor, content, changed)


def _signed(published: Published, sign: Callable[[], list[Attested]]) -> Published:
    """A document is there whether or not it can be signed: one may be larger than a statement that readers take."""
    try:
        return replace(published, changed=any([published.changed, *(attestation.changed for attestation in sign())]))
    except InputError as error:
        return replace(published, unsigned=error.what)


def read_sboms(
    place: Place, subject: Digest, *, known: Attestations | None = None, remembered: Remembered | None = None
) -> list[tuple[Published, PlatformPackages]]:
    """The SBOMs of a release that we wrote, one for each platform manifest, sorted by platform; bytes are verified.

    When one platform has several (an older version of this program wrote one, or anybody who may push did: nothing here
    is signed), what all of them list together counts, so that none can hide what another shows; the descriptor is that
    of the longest. Documents of other tools are passed over. known: what was read and verified about this digest; with
    it what a trusted scanner signed counts too, so that nobody hides it who may delete what is attached, and each says
    whether it is ``trusted``. remembered: as in :func:`~registry_pipelines.scan.cyclonedx.read_cyclonedx`. Raises
    EvidenceMissing when there is none.
    Not checked here: whether every platform has one.
    """
    there: dict[Digest, list[tuple[Published, PlatformPackages]]] = {}

    def read(descriptor: Descriptor, content: bytes, *, trusted: bool) -> None:
        try:
            packages = read_cyclonedx(content, where=f"{place}@{descriptor.digest}", remembered=remembered)
        except ManifestInvalid:
            return
        if packages.subject == subject:
            published = Published(descriptor, content, False, trusted=trusted)
            there.setdefault(packages.manifest.digest, []).append((published, packages))

    signed = known.of_type(CYCLONEDX_TYPE) if known else []
    documents = [msgspec.json.encode(attestation.predicate) for attestation in signed]
    for attestation, content in zip(signed, documents, strict=True):
        read(attestation.descriptor, content, trusted=True)
    unsigned = attached(
        place, subject, artifact_type=SBOM_MEDIA_TYPE, limit=MAX_SBOM_BYTES, known=_by_digest(documents)
    )
    for sbom in unsigned:
        if sbom.content not in documents and not any(_holds(sbom.content, attestation) for attestation in signed):
            read(sbom.descriptor, sbom.content, trusted=False)
    if not there:
        raise EvidenceMissing(
            "no SBOM of ours is attached",
            where=f"{place}@{subject}",
            do="Run `registry-pipelines sbom` for the release",
        )
    merged = [_merged(documents) for documents in there.values()]
    return sorted(merged, key=lambda pair: (str(pair[1].platform), pair[1].manifest.digest))


def _by_digest(documents: Sequence[bytes]) -> dict[Digest, bytes]:
    """Documents that were signed, as they are attached beside their signatures: we sign what we attach byte for byte,
    so those need not be read a second time."""
    return {Digest.of(content): content for content in documents}


def _holds(content: bytes, attestation: VerifiedAttestation) -> bool:
    """Whether a document is what was signed; reading it a second time would take longer than this."""
    try:
        return bool(msgspec.json.decode(content) == attestation.predicate)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _merged(documents: list[tuple[Published, PlatformPackages]]) -> tuple[Published, PlatformPackages]:
    """The longest document, with everything that only others list added at the end."""
    longest_first = sorted(documents, key=lambda pair: (-len(pair[1].components), pair[0].trusted))
    published, longest = longest_first[0]
    components = (component for _, packages in documents for component in packages.components)
    unknowns = (unknown for _, packages in documents for unknown in packages.unknowns)
    together = msgspec.structs.replace(
        longest,
        components=tuple(dict.fromkeys((*longest.components, *components))),
        unknowns=tuple(dict.fromkeys((*longest.unknowns, *unknowns))),
    )
    return replace(published, trusted=any(each.trusted for each, _ in documents)), together


def not_vouched_for(sboms: Sequence[tuple[Published, PlatformPackages]]) -> str:
    """Why a scanner signs no report that is made of these SBOMs, which were read with ``known``; empty when it does.
    Whoever may push can attach an SBOM."""
    platforms = [str(packages.platform) for published, packages in sboms if not published.trusted]
    return f"no trusted scanner signed the SBOM of {', '.join(platforms)}" if platforms else ""


def publish_report(
    place: Place,
    subject: Descriptor,
    report: Report,
    *,
    signer: Signer | None = None,
    known: Attestations | None = None,
) -> Published:
    """Attach a report to ``subject``, unless the newest one says the same (the time of the scan aside), and sign it
    where there is a signer. known: what was read and verified about it a moment ago with a verifier that believes the
    signer, when the caller has it.

    The newest report counts, so this one is dated after the one there: a second later when both are of one second, or
    when the other machine's clock was a little ahead. One that is further ahead is passed over.
    """
    now = datetime.fromisoformat(report.scanned_at)
    signed = known.of_type(REPORT_TYPE) if known else []
    documents = _by_digest([msgspec.json.encode(each.predicate) for each in signed])
    reports = [pair for pair in _reports(place, subject.digest, documents) if pair[1].is_past(now)]
    if reports and _timeless(reports[-1][1]) == _timeless(report):
        published, report = reports[-1]
    else:
        report = _dated_after(reports[-1][1], report) if reports else report
        published = _published(place, subject, REPORT_MEDIA_TYPE, report.encode())
    if signer is None:
        return published
    return _signed(published, lambda: [attest_report(place, subject, report, signer, known=known)])


def read_report(place: Place, subject: Digest) -> tuple[Published, Report]:
    """The newest report of a release, verified against its digest.

    Raises EvidenceMissing when there is none. Not checked here: signatures, and whether it covers every platform.
    """
    reports = _reports(place, subject)
    if not reports:
        raise EvidenceMissing(
            "no vulnerability report is attached",
            where=f"{place}@{subject}",
            do="Run `registry-pipelines scan` for the release",
        )
    return reports[-1]


def _dated_after(there: Report, report: Report) -> Report:
    before, now = (datetime.fromisoformat(scan.scanned_at) for scan in (there, report))
    if before < now:
        return report
    after = (before + timedelta(seconds=1)).astimezone(UTC)
    return msgspec.structs.replace(report, scanned_at=after.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _timeless(report: Report) -> bytes:
    return msgspec.structs.replace(report, scanned_at="").encode()


def _reports(
    place: Place, subject: Digest, known: Mapping[Digest, bytes] = MappingProxyType({})
) -> list[tuple[Published, Report]]:
    """Readable reports about the subject, oldest first. A damaged one must not hide a good one. known: as in
    ``attached``."""
    reports: list[tuple[Published, Report]] = []
    for document in attached(place, subject, artifact_type=REPORT_MEDIA_TYPE, limit=MAX_REPORT_BYTES, known=known):
        try:
            report = Report.decode(document.content, where=f"{place}@{document.descriptor.digest}")
        except ManifestInvalid:
            continue
        if report.subject == subject:
            reports.append((Published(document.descriptor, document.content, False), report))
    return sorted(reports, key=lambda pair: (pair[1].order, pair[0].descriptor.digest))
