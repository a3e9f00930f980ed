"""Approvals: signed statements that a person looked at a release, in a capacity (QA, security), and lets it go.

An approval is about one digest, so it says nothing about the next release. It may end on a day, and it may be taken
back. Who counts in which capacity is the verifier's to say, never the statement's: see ``Verifier.counts_as``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import APPROVAL_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.oci.times import CLOCK_SKEW
from registry_pipelines.promote.documents import TIME_FORMAT, is_time
from registry_pipelines.promote.person import Identity, Person
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.settings import NAME

MAX_NOTE_CHARACTERS = 2000
"""Of a note; it is shown in a table."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says about a release. JSON of the predicate, field by field."""

    image: str
    """The configuration's name: one digest may be two images' release, and is approved for one."""
    repository: str
    release: Digest
    version: str
    """The release's version tag."""
    capacity: str
    """As what it is given, for example ``qa``."""
    says: Literal["approve", "withdraw"] = "approve"
    """``withdraw`` takes back every approval in this capacity that was given before."""
    approved_by: str
    identity: Identity
    """How the person's name came; the signing key is what is believed."""
    note: str = ""
    time: str
    """RFC 3339, UTC, whole seconds."""
    expires: str = ""
    """RFC 3339, UTC: the moment from which it does not count; empty for never."""


@dataclass(frozen=True)
class PublishedApproval:
    """An approval, or a withdrawal, as it lies in the registry, signed by a key that counts in its capacity."""

    approval: Approval
    digest: Digest
    """Of the manifest that carries it."""
    key_id: str
    changed: bool = False
    """Whether publishing wrote it just now."""


@dataclass(frozen=True)
class Approvals:
    """All that people said about a digest, as far as it is believed."""

    published: tuple[PublishedApproval, ...]
    """Oldest first, with withdrawals and what has ended."""
    rejected: tuple[Rejected, ...]
    """What looked like an approval, or may have been one, and was not believed."""

    def standing(self, capacity: str, *, image: str, now: datetime) -> tuple[PublishedApproval, ...]:
        """Those that count at ``now``, oldest first: given in this capacity for this image, after the last withdrawal,
        not ended, and not of the future. Several of one key are several here: who wants two people compares
        ``key_id``."""
        said = [each for each in self.published if (each.approval.capacity, each.approval.image) == (capacity, image)]
        withdrawn = max((each.approval.time for each in said if each.approval.says == "withdraw"), default="")
        moment = _written(now)
        latest = _written(now + CLOCK_SKEW)
        return tuple(
            each
            for each in said
            if each.approval.says == "approve"
            and withdrawn < each.approval.time <= latest
            and (not each.approval.expires or moment < each.approval.expires)
        )

    def why_none(self, capacity: str, *, image: str, now: datetime) -> str:
        """Why nobody's approval counts, as the end of a sentence; empty where one does."""
        if self.standing(capacity, image=image, now=now):
            return ""
        said = [each for each in self.published if (each.approval.capacity, each.approval.image) == (capacity, image)]
        if not said:
            return f"nobody approved it as {capacity}"
        last = said[-1].approval
        if last.says == "withdraw":
            return f"{last.approved_by} withdrew it as {capacity} at {last.time}" + (
                f": {last.note}" if last.note else ""
            )
        if last.expires and last.expires <= _written(now):
            return f"the approval of {last.approved_by} as {capacity} ended at {last.expires}"
        return f"the approval of {last.approved_by} as {capacity} is dated {last.time}, which is not past"


NO_APPROVALS = Approvals((), ())


def new_approval(
    place: Place,
    release: Release,
    capacity: str,
    by: Person,
    *,
    now: datetime,
    note: str = "",
    lasts: timedelta | None = None,
    withdraw: bool = False,
) -> Approval:
    """An approval of ``release`` that is not signed yet. lasts: how long it counts; for ever unless told.

    Raises InputError: the capacity is no name, the note is long or has characters that are not seen.
    """
    try:
        NAME.check(capacity)
    except ValueError as error:
        raise InputError(f"the capacity of an approval: {error}", do="Write --as qa, for example") from error
    text = note.strip()
    if len(text) > MAX_NOTE_CHARACTERS or not text.replace("\n", " ").isprintable():
        raise InputError(f"a note has at most {MAX_NOTE_CHARACTERS} characters, all of which can be seen")
    try:
        expires = _written(now + lasts) if lasts is not None else ""
    except OverflowError as error:
        raise InputError("an approval ends in the year 9999 at the latest", do="Leave the end out") from error
    return Approval(
        image=release.image,
        repository=str(place),
        release=release.digest,
        version=release.tag,
        capacity=capacity,
        says="withdraw" if withdraw else "approve",
        approved_by=by.name,
        identity=by.identity,
        note=text,
        time=_written(now),
        expires=expires,
    )


def publish(
    place: Place, release: Descriptor, approval: Approval, signer: Signer, verifier: Verifier
) -> PublishedApproval:
    """Sign what a person says and attach it to its release.

    One that says the same as the last one of the same key and person is not written again; one that says something
    else is dated after all that was said before. Raises InputError when the key does not count in this capacity:
    nobody would believe it. Raises SignatureInvalid when it is about another digest, RegistryError.
    """
    if approval.release != release.digest:
        raise SignatureInvalid(f"the approval is about {approval.release}, not {release.digest}", where=str(place))
    if not verifier.counts_as(signer.key_id, approval.capacity, APPROVAL_TYPE):
        raise InputError(
            f"the key {signer.key_id[:19]} does not count as {approval.capacity}, so nobody would believe it",
            do="Sign with a key that does (--key FILE), or trust this one: signing.person, or trust.attestors",
        )
    known = read_attestations(place, release.digest, verifier)
    said = [
        each
        for each in read_approvals(place, release.digest, verifier, known=known).published
        if (each.approval.capacity, each.approval.image) == (approval.capacity, approval.image)
    ]
    if said and said[-1].key_id == signer.key_id and _same(said[-1].approval, approval):
        return said[-1]
    if said and approval.time <= said[-1].approval.time:
        after = datetime.strptime(said[-1].approval.time, TIME_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)
        approval = msgspec.structs.replace(approval, time=_written(after))
    predicate = msgspec.json.decode(encode_json(approval))
    made = attest_once(place, release, APPROVAL_TYPE, predicate, signer, known=known)
    return PublishedApproval(approval, made.descriptor.digest, signer.key_id, changed=True)


def read_approvals(place: Place, digest: Digest, verifier: Verifier, *, known: Attestations | None = None) -> Approvals:
    """Every believed approval of ``digest``, oldest first (equal times: a withdrawal last). Raises RegistryError.

    known: what was read and verified about this digest just now, when the caller has it.
    """
    attestations = known or read_attestations(place, digest, verifier)
    published: list[PublishedApproval] = []
    rejected = list(attestations.rejected)
    for attestation in attestations.of_type(APPROVAL_TYPE):
        where = str(attestation.descriptor.digest)
        try:
            approval = _approval_of(attestation, digest, verifier, where)
        except (SignatureInvalid, ManifestInvalid) as error:
            rejected.append(Rejected(where, error.what))
        else:
            published.append(PublishedApproval(approval, attestation.descriptor.digest, attestation.key_id))
    published.sort(key=lambda each: (each.approval.time, each.approval.says == "withdraw", each.digest))
    return Approvals(tuple(published), tuple(rejected))


def _approval_of(attestation: VerifiedAttestation, digest: Digest, verifier: Verifier, where: str) -> Approval:
    approval = decode_json(encode_json(attestation.predicate), Approval, where=where, what="approval")
    if approval.release != digest:
        raise SignatureInvalid(f"the approval is about {approval.release}, not {digest}", where=where)
    if not verifier.counts_as(attestation.key_id, approval.capacity, APPROVAL_TYPE):
        raise SignatureInvalid(
            f"it is signed by {attestation.key_id[:19]}, which does not count as {approval.capacity[:63]}", where=where
        )
    for name, text in (("time", approval.time), ("expires", approval.expires)):
        if (name == "time" or text) and not is_time(text):
            raise SignatureInvalid(f"`{name}` {text[:40]!r} of the approval is not a time", where=where)
    return approval


def _same(one: Approval, other: Approval) -> bool:
    """Whether both say the same, whenever they were made."""
    return one == msgspec.structs.replace(other, time=one.time)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(TIME_FORMAT)
