"""What is attached to a digest, as statements of custody: signed by whom, or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.errors import EvidenceError, ManifestInvalid
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES
from registry_pipelines.evidence.identity_rules import counts
from registry_pipelines.evidence.model import Attestations, Rejected, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import (
    APPROVAL_TYPE,
    BREAK_GLASS_TYPE,
    CLOSING_TYPE,
    CYCLONEDX_TYPE,
    DERIVATION_TYPE,
    HOT_PACK_TYPE,
    IMAGE_ADVICE_TYPE,
    LIFTING_TYPE,
    OPENVEX_TYPES,
    PROVENANCE_TYPE,
    RECHUNK_TYPE,
    RECORDING_TYPE,
    REPORT_TYPE,
    REVOCATION_TYPE,
    SPDX_TYPE,
    START_TYPE,
    STREAMING_INDEX_TYPE,
    VERDICT_TYPE,
    VULNERABILITIES_TYPE,
    Role,
)
from registry_pipelines.evidence.referrers import Referrer, open_referrers, read_layer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.promote.approvals import PublishedApproval, read_approvals
from registry_pipelines.promote.interventions import BreakGlass, Closing, Intervention, Revocation
from registry_pipelines.promote.origins import Origin as Derived
from registry_pipelines.promote.origins import read_origins
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.report.custody import Chapter, Statement
from registry_pipelines.report.origin import Origin, read_origin
from registry_pipelines.sign.cosign import verify_image

_T = TypeVar("_T", bound=Intervention)

NO_KEY = "no trusted key is here, so nothing is believed"

ROLE_OF: Mapping[Role, str] = {
    "builder": PROVENANCE_TYPE,
    "indexer": DERIVATION_TYPE,
    "scanner": REPORT_TYPE,
    "person": APPROVAL_TYPE,
    "promoter": VERDICT_TYPE,
}
"""A type of statement that only keys of a role are believed for."""


NAMED: Mapping[str, str] = {
    VULNERABILITIES_TYPE: "cosign's record of a scan, for other programs: it was allowed to pass",
    IMAGE_ADVICE_TYPE: "what need not be in it, byte by byte",
    STREAMING_INDEX_TYPE: "an index by which nodes start it before it is fetched whole",
    START_TYPE: "a measurement of its start",
    HOT_PACK_TYPE: "a pack of what its start reads",
    RECORDING_TYPE: "a recording of its start",
    RECHUNK_TYPE: "that it has the same files as what it was rechunked of",
    SPDX_TYPE: "an SBOM of another form (SPDX)",
    CYCLONEDX_TYPE: "an SBOM of another program (CycloneDX)",
    VERDICT_TYPE: "the verdict once more, for who pulls from another repository; or one of another program",
    **dict.fromkeys(OPENVEX_TYPES, "that findings do not matter, or do (VEX)"),
}
"""Signed statements that have no chapter of their own, in words."""


@dataclass(frozen=True)
class Read:
    """All that is attached to one digest at one place, read once."""

    place: Place
    digest: Digest
    verifier: Verifier | None
    """Whose signatures are believed; None where no trusted key is here."""
    known: Attestations
    referrers: tuple[Referrer, ...]
    unreadable: tuple[Rejected, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    """What was found out about keys."""
    twins: set[Digest] = field(default_factory=set)
    """Unsigned documents that say what is signed, too: those are no claims of their own."""

    def role(self, key_id: str) -> str:
        """What a key is believed for, in words; empty where nothing of ours is."""
        if key_id not in self.roles:
            found = [
                role
                for role, kind in ROLE_OF.items()
                if self.verifier is not None and counts(key_id, self.verifier.believed(kind))
            ]
            self.roles[key_id] = "every role" if len(found) == len(ROLE_OF) else ", ".join(found)
        return self.roles[key_id]

    def signed(
        self,
        chapter: Chapter,
        says: str,
        by: VerifiedAttestation | None,
        *,
        evidence: str = "",
        time: str = "",
        details: Sequence[str] = (),
    ) -> Statement:
        """A statement by an attestation that is believed, or, without one, by an unsigned document (``evidence``)."""
        if by is None:
            return Statement(
                chapter=chapter, says=says, state="unsigned", time=time, evidence=evidence, details=tuple(details)
            )
        return self.vouched(chapter, says, by.descriptor.digest, by.key_id, time=time, details=details)

    def vouched(
        self,
        chapter: Chapter,
        says: str,
        evidence: str,
        key_id: str,
        *,
        time: str = "",
        details: Sequence[str] = (),
    ) -> Statement:
        """A statement whose signature by a key was verified."""
        return Statement(
            chapter=chapter,
            says=says,
            state="verified",
            time=time,
            evidence=evidence,
            signer=key_id,
            role=self.role(key_id),
            details=tuple(details),
        )

    def documents(self, kind: str, *, limit: int = MAX_BUNDLE_BYTES) -> Iterator[tuple[Digest, bytes | Rejected]]:
        """Manifest and bytes of the attached documents of a type; or why one cannot be read."""
        for each in self.referrers:
            if each.manifest.kind == kind and len(each.manifest.layers) == 1:
                yield each.descriptor.digest, read_layer(self.place, each.manifest.layers[0], limit=limit)


def read_all(place: Place, digest: Digest, verifier: Verifier | None) -> Read:
    """Read it. Raises RegistryError, ClosureIncomplete."""
    listed = list(open_referrers(place, digest))
    referrers = tuple(each for each in listed if isinstance(each, Referrer))
    if verifier is None:
        bundles = [each for each in referrers if each.carries(SIGSTORE_BUNDLE)]
        known = Attestations((), tuple(Rejected(str(each.descriptor.digest), NO_KEY) for each in bundles))
    else:
        known = read_attestations(place, digest, verifier, referrers=iter(listed))
    return Read(place, digest, verifier, known, referrers, tuple(each for each in listed if isinstance(each, Rejected)))


def made_of(read: Read) -> Iterator[Statement]:
    """Source, builder and bases, by provenance: of the digest, and of what it was converted from."""
    for origin in _origins(read):
        was = f"made of {origin.record.origin} ({origin.made_by})"
        yield read.signed("source", was, origin.attestation, details=origin.problems)
        for each in origin.provenance:
            yield from _provenance(read, each.predicate, each, of=f", as {origin.record.origin.short}")
    signed = read.known.of_type(PROVENANCE_TYPE)
    for each in signed:
        yield from _provenance(read, each.predicate, each)
    for digest, content in read.documents(PROVENANCE_ARTIFACT):
        if isinstance(content, Rejected):
            yield rejected("source", digest, content.reason)
            continue
        predicate = _predicate(content)
        if any(each.predicate == predicate for each in signed):
            read.twins.add(digest)
        elif predicate:
            yield from _provenance(read, predicate, None, evidence=digest)


def _origins(read: Read) -> Sequence[Derived]:
    if read.verifier is None or not read.known.of_type(DERIVATION_TYPE):
        return ()
    top = read.place.registry.get_manifest(read.place.repository, read.digest)
    images = images_of(read_entries(read.place, top))
    return read_origins(read.place, read.known, read.digest, images, read.verifier)[0]


def _predicate(raw: bytes) -> Mapping[str, Any]:
    try:
        statement = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    found = statement.get("predicate") if isinstance(statement, dict) else None
    return found if isinstance(found, dict) and statement.get("predicateType") == PROVENANCE_TYPE else {}


def _provenance(
    read: Read, predicate: Mapping[str, Any], by: VerifiedAttestation | None, *, evidence: str = "", of: str = ""
) -> Iterator[Statement]:
    origin = read_origin(predicate)
    for source in origin.sources:
        dirty = ", with changes that are not committed" if source.dirty else ""
        told = f"{source.uri} at {source.digest or 'no commit that is named'}{dirty}{of}"
        yield read.signed("source", f"built from {told}", by, evidence=evidence)
    if not origin.sources:
        yield read.signed("source", f"its provenance names no source{of}", by, evidence=evidence)
    yield _builder(read, origin, by, evidence, of)
    for base in origin.bases:
        yield read.signed("bases", f"built on {base.uri}@{base.digest}{of}", by, evidence=evidence)


def _builder(read: Read, origin: Origin, by: VerifiedAttestation | None, evidence: str, of: str) -> Statement:
    details = {
        "build type": origin.build_type,
        "run": origin.invocation,
        "began": origin.started,
        "further inputs by digest": str(origin.others) if origin.others else "",
    }
    return read.signed(
        "builder",
        f"built by {origin.builder or 'a builder that is not named'}{of}",
        by,
        evidence=evidence,
        time=origin.finished,
        details=[f"{name}: {value}" for name, value in details.items() if value],
    )


def rejected(chapter: Chapter, where: str, reason: str) -> Statement:
    """Something that is not believed, and why."""
    return Statement(chapter=chapter, says=f"not believed: {reason}", state="rejected", evidence=where)


def signatures(read: Read) -> Iterator[Statement]:
    """Of the image itself."""
    if read.verifier is None:
        return
    try:
        found = verify_image(read.place, read.digest, read.verifier, known=read.known)
    except EvidenceError as error:
        yield rejected("signatures", "", error.what)
        return
    for each in found.signatures:
        as_what = f" as {each.identity}" if each.identity else ""
        form = "in a bundle" if each.form == "bundle" else "under its .sig tag"
        yield read.vouched("signatures", f"signed{as_what} ({form})", each.descriptor.digest, each.key_id)


def verdicts(read: Read) -> Iterator[Statement]:
    """Every verdict with its reasons."""
    if read.verifier is None:
        return
    found = read_verdicts(read.place, read.digest, read.verifier, known=read.known)
    for each in reversed(found.published):
        told = each.verdict
        yield read.vouched(
            "verdicts",
            f"{'allowed' if told.allow else 'denied'} as {told.image} by policy {told.policy}",
            each.digest,
            each.key_id,
            time=told.time,
            details=[
                *told.reasons,
                *(f"accepted: {one}" for one in told.accepted),
                f"advisories: {told.advisories.newest or 'none'}",
                f"signed evidence it rests on: {len(told.evidence)}; policy {told.policy_digest}",
            ],
        )


def people(read: Read) -> Iterator[Statement]:
    """Approvals and break-glasses."""
    if read.verifier is None:
        return
    for each in read_approvals(read.place, read.digest, read.verifier, known=read.known).published:
        yield _approval(read, each)
    for found, glass in _interventions(read, BREAK_GLASS_TYPE, BreakGlass):
        yield read.signed(
            "people",
            f"{glass.by} ({_identity(glass)}) broke the glass for {glass.channel} until {glass.expires}: "
            f"{glass.reason}",
            found,
            time=glass.time,
            details=[f"excused: {one}" for one in glass.excused],
        )
    revoked = {found.descriptor.digest for found in read.known.of_type(REVOCATION_TYPE)}
    for found, closing in _interventions(read, CLOSING_TYPE, Closing):
        if closing.ends not in revoked:
            told = f"{closing.by} closed the break-glass {closing.ends.short}: {closing.reason}"
            yield read.signed("people", told, found, time=closing.time)


def _approval(read: Read, each: PublishedApproval) -> Statement:
    told = each.approval
    verb = "approved it" if told.says == "approve" else "took the approval back"
    ends = f"it ends at {told.expires}" if told.expires else ""
    details = [f"name: {told.identity}", *filter(None, [told.note, ends])]
    says = f"{told.approved_by} {verb} as {told.capacity}, for {told.image}"
    return read.vouched("people", says, each.digest, each.key_id, time=told.time, details=details)


def revocations(read: Read) -> Iterator[Statement]:
    """Every revocation, those that were lifted too, and what ended them."""
    revoked = set()
    for found, document in _interventions(read, REVOCATION_TYPE, Revocation):
        revoked.add(found.descriptor.digest)
        says = f"revoked by {document.by} ({_identity(document)}): {document.reason}"
        named = [f"{one} named it then" for one in document.channels]
        yield read.signed("revocations", says, found, time=document.time, details=named)
    for kind, verb in ((CLOSING_TYPE, "closed"), (LIFTING_TYPE, "lifted")):
        for found, closing in _interventions(read, kind, Closing):
            if closing.ends in revoked or kind == LIFTING_TYPE:
                says = f"{closing.by} {verb} the revocation {closing.ends.short}: {closing.reason}"
                yield read.signed("revocations", says, found, time=closing.time)


def _identity(told: Intervention) -> str:
    return f"name {told.identity or 'not proved'}"


def _interventions(read: Read, kind: str, form: type[_T]) -> Iterator[tuple[VerifiedAttestation, _T]]:
    """Documents of a type, each once: some lie in two places, as a referrer and under a tag; the referrer counts."""
    seen: set[bytes] = set()
    for found in sorted(read.known.of_type(kind), key=lambda each: each.descriptor.artifact_type != SIGSTORE_BUNDLE):
        raw = encode_json(found.predicate)
        if raw in seen:
            continue
        seen.add(raw)
        try:
            document = decode_json(raw, form, what="statement")
        except ManifestInvalid:
            continue  # `others` tells of it
        if document.release == read.digest:
            yield found, document


def others(read: Read, told: Sequence[Statement]) -> Iterator[Statement]:
    """What is attached and in no other chapter: signed statements of further types, documents that nobody here reads,
    and everything that is not believed."""
    cited = {each.evidence for each in told}
    for each in read.known.verified:
        if each.descriptor.digest not in cited:
            what = NAMED.get(each.predicate_type) or f"a statement of type {each.predicate_type}"
            yield read.signed("other", what, each)
    for damaged in dict.fromkeys([*read.known.rejected, *read.unreadable]):
        if damaged.where not in cited:
            yield rejected("other", damaged.where, damaged.reason)
    for referrer in read.referrers:
        kind, digest = referrer.manifest.kind, referrer.descriptor.digest
        if digest not in cited | read.twins and not referrer.carries(SIGSTORE_BUNDLE):
            says = f"a document of type {kind or 'that is not named'} is attached"
            yield Statement(chapter="other", says=says, state="unsigned", evidence=digest)


__all__ = [
    "NO_KEY",
    "Read",
    "made_of",
    "others",
    "people",
    "read_all",
    "rejected",
    "revocations",
    "signatures",
    "verdicts",
]
