"""What a person decided beside the policy, signed and attached to the release: a break-glass, a revocation, and what
ends either. Plain data, and how it is read.

- A **break-glass** lets one digest come to one channel, and stay there, although the gate says no; until it expires or
  is closed. It excuses what a policy asks for. It excuses no revocation, no version tag that names something else, and
  no release that is not whole.
- A **revocation** denies one digest everywhere, as whichever image, whatever its verdicts say. Closing it says that all
  is done and takes it off the list; it goes on denying. Only lifting it, which needs a person's key, lets the digest be
  judged again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.model import Attestations, VerifiedAttestation
from registry_pipelines.evidence.predicates import BREAK_GLASS_TYPE, CLOSING_TYPE, LIFTING_TYPE, REVOCATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.oci.times import CLOCK_SKEW
from registry_pipelines.promote.documents import TIME_FORMAT, is_time
from registry_pipelines.promote.person import Identity

_T = TypeVar("_T", bound="Intervention")

LONGEST_GLASS = timedelta(days=7)
"""A break-glass is for the time until the release is put right; what lasts longer is an exception of the policy."""


class Intervention(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them say: who did what to which digest, when and why."""

    image: str
    """The configuration's name, as which the release was known to whoever did it."""
    version: str
    """The release's version tag."""
    release: Digest
    reason: str
    by: str
    """The person."""
    identity: Identity | Literal[""] = ""
    """How the person's name came."""
    time: str
    """RFC 3339, UTC, whole seconds."""


class BreakGlass(Intervention, frozen=True, kw_only=True):
    """A release is let go against the policy. JSON of the predicate, field by field."""

    channel: str
    """The one channel that it may come to."""
    expires: str
    """RFC 3339, UTC: from this second on it excuses nothing."""
    excused: tuple[str, ...] = ()
    """What spoke against the release when the glass was broken."""


class Revocation(Intervention, frozen=True, kw_only=True):
    """A release turned out bad. JSON of the predicate, field by field."""

    channels: tuple[str, ...] = ()
    """The channels that named it then."""


class Closing(Intervention, frozen=True, kw_only=True):
    """The end of a break-glass; that all is done about a revocation; or, of the type that only a person's key is
    believed for, that a revocation is lifted."""

    ends: Digest
    """Manifest of what it ends."""


GLASS = "break-glass by "
"""How the sentence of one begins."""


@dataclass(frozen=True)
class BrokenGlass:
    """A believed break-glass."""

    document: BreakGlass
    digest: Digest
    """Of the manifest that carries it: its id."""
    closed: Closing | None = None

    def excuses(self, channel: str, image: str, now: datetime) -> bool:
        """Whether it lets its release come to a channel of an image at this moment."""
        told = self.document
        begun = told.time <= (now.astimezone(UTC) + CLOCK_SKEW).strftime(TIME_FORMAT)
        return not self.closed and (told.channel, told.image) == (channel, image) and begun and not self.expired(now)

    def expired(self, now: datetime) -> bool:
        """Whether its time is over; it is listed until it is closed all the same."""
        return self.document.expires <= now.astimezone(UTC).strftime(TIME_FORMAT)

    def sentence(self) -> str:
        """For people, without a full stop."""
        told = self.document
        return f"{GLASS}{told.by} for {told.channel} until {told.expires}: {told.reason}"


@dataclass(frozen=True)
class Revoked:
    """A believed revocation that nobody lifted."""

    document: Revocation
    digest: Digest
    """Of the manifest that carries it: its id."""
    closed: Closing | None = None
    """That all is done; it denies all the same."""

    def sentence(self) -> str:
        """For people, without a full stop."""
        return f"revoked by {self.document.by} at {self.document.time}: {self.document.reason}"


@dataclass(frozen=True)
class Interventions:
    """All about one digest that trusted keys signed, the newest first."""

    glasses: tuple[BrokenGlass, ...] = ()
    revocations: tuple[Revoked, ...] = ()
    """Those that nobody lifted."""

    @property
    def revoked(self) -> Revoked | None:
        """The newest revocation; None where the release is not revoked."""
        return self.revocations[0] if self.revocations else None

    @property
    def listed(self) -> tuple[BrokenGlass | Revoked, ...]:
        """What stands in every list until it is closed."""
        everything: list[BrokenGlass | Revoked] = [*self.revocations, *self.glasses]
        return tuple(each for each in everything if not each.closed)

    def excuse(self, channel: str, image: str, now: datetime) -> BrokenGlass | None:
        """The break-glass that lets the release come to a channel now. None where it is revoked."""
        holding = (each for each in self.glasses if each.excuses(channel, image, now))
        return None if self.revocations else next(holding, None)


def read_interventions(known: Attestations, digest: Digest) -> Interventions:
    """What was signed about ``digest``. known: what was read and verified about it.

    What cannot be read as a break-glass, a closing or a lifting counts for nothing. A revocation by a believed key
    counts even when parts of it cannot be read: it denies.
    """
    closings = {each.ends: each for _, each in _documents(known, CLOSING_TYPE, Closing, digest)}
    lifted = {each.ends for _, each in _documents(known, LIFTING_TYPE, Closing, digest)}
    glasses = [
        BrokenGlass(document, found.descriptor.digest, closings.get(found.descriptor.digest))
        for found, document in _documents(known, BREAK_GLASS_TYPE, BreakGlass, digest)
        if _is_short(document)
    ]
    revocations = [
        Revoked(_revocation(copies[0], digest), copies[0].descriptor.digest, _first(closings, copies))
        for copies in _each_with_copies(known.of_type(REVOCATION_TYPE))
        if not any(found.descriptor.digest in lifted for found in copies)
    ]
    return Interventions(
        tuple(sorted(glasses, key=_age, reverse=True)), tuple(sorted(revocations, key=_age, reverse=True))
    )


def _is_short(document: BreakGlass) -> bool:
    """Whether it ends, and no later after its beginning than one may: whoever signs it writes both times."""
    if not is_time(document.expires):
        return False
    begins, ends = (datetime.strptime(each, TIME_FORMAT) for each in (document.time, document.expires))
    return ends - begins <= LONGEST_GLASS


def _each_with_copies(found: Sequence[VerifiedAttestation]) -> list[list[VerifiedAttestation]]:
    """A revocation lies in two places, as a referrer and under cosign's ``.att`` tag, so that nobody hides it who may
    write one of them; the referrer first, whose manifest is its own."""
    together: dict[bytes, list[VerifiedAttestation]] = {}
    for each in sorted(found, key=lambda each: each.descriptor.artifact_type != SIGSTORE_BUNDLE):
        together.setdefault(msgspec.json.encode([each.key_id, each.predicate], order="deterministic"), []).append(each)
    return list(together.values())


def _first(closings: Mapping[Digest, Closing], copies: Sequence[VerifiedAttestation]) -> Closing | None:
    return next((closings[each.descriptor.digest] for each in copies if each.descriptor.digest in closings), None)


def _age(found: BrokenGlass | Revoked) -> tuple[str, Digest]:
    return found.document.time, found.digest


def _documents(
    known: Attestations, kind: str, form: type[_T], digest: Digest
) -> Iterator[tuple[VerifiedAttestation, _T]]:
    for found in known.of_type(kind):
        document = _decoded(found, form)
        if document is not None and document.release == digest and is_time(document.time):
            yield found, document


def _decoded(found: VerifiedAttestation, form: type[_T]) -> _T | None:
    try:
        return decode_json(encode_json(found.predicate), form, what="statement")
    except ManifestInvalid:
        return None


def _revocation(found: VerifiedAttestation, digest: Digest) -> Revocation:
    """As it says, or, where that cannot be read, by whom it is signed."""
    read = _decoded(found, Revocation)
    if read is not None:
        return read
    why = "the statement cannot be read, so it is taken for the digest that it is signed for"
    return Revocation(image="", version="", release=digest, reason=why, by=found.key_id[:19], time="")


NONE = Interventions()
"""Nobody intervened."""
