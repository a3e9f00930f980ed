"""Sign a break-glass, a revocation, or the end of either, and attach it to its release. What they mean:
:mod:`registry_pipelines.promote.interventions`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from registry_pipelines.errors import ContentError, InputError, RegistryError
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import BREAK_GLASS_TYPE, CLOSING_TYPE, LIFTING_TYPE, REVOCATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, encode_json
from registry_pipelines.promote.documents import TIME_FORMAT
from registry_pipelines.promote.interventions import (
    LONGEST_GLASS,
    BreakGlass,
    BrokenGlass,
    Closing,
    Intervention,
    Interventions,
    Revocation,
    Revoked,
    read_interventions,
)
from registry_pipelines.promote.person import Person
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release

_T = TypeVar("_T")

MAX_REASON_CHARACTERS = 500
"""Of a reason; it stands in tables and notices."""

MAX_EXCUSED = 20
"""Reasons that a break-glass names; the signed verdict has all of them."""


def break_glass(
    place: Place,
    release: Release,
    verifier: Verifier,
    signer: Signer,
    *,
    channel: str,
    by: Person,
    reason: str,
    lasts: timedelta,
    now: datetime,
    excused: Sequence[str] = (),
) -> BrokenGlass:
    """Let a release come to a channel against its policy, for a time. excused: what speaks against it now.

    Raises InputError: no reason, no time or more than :data:`LONGEST_GLASS`; a key that nobody would believe; or a
    release that is revoked, which nothing excuses. Raises RegistryError.
    """
    if not timedelta() < lasts <= LONGEST_GLASS:
        raise InputError(
            "a break-glass lasts some time, at most 7 days",
            do="Write 4h, for example; what may stay for longer is an exception of the policy, with an expiry",
        )
    top = place.registry.resolve(place.repository, release.digest)
    if revoked := _read(place, release.digest, verifier).revoked:
        raise InputError(
            f"{release.image}:{release.tag} is {revoked.sentence()}",
            do=f"Nothing excuses that. Where it was a mistake, `revoke {release.image}:{release.tag} --lift`",
        )
    document = BreakGlass(
        **_told(release, by, reason, now),
        channel=channel,
        expires=_written(now + lasts),
        excused=tuple(excused[:MAX_EXCUSED]),
    )
    _sign(place, top, BREAK_GLASS_TYPE, document, signer, verifier)
    found = [each for each in _read(place, release.digest, verifier).glasses if each.document == document]
    return _believed(found, signer, "person")


def revoke(
    place: Place,
    release: Release,
    verifier: Verifier,
    signer: Signer,
    *,
    by: Person,
    reason: str,
    now: datetime,
    channels: Sequence[str] = (),
) -> tuple[Revoked, bool]:
    """Deny a release everywhere, and whether that is new: of one that is revoked already the revocation is the answer.
    channels: those that name it. Raises InputError: no reason, or a key that nobody would believe. Raises
    RegistryError."""
    top = place.registry.resolve(place.repository, release.digest)
    if (there := _read(place, release.digest, verifier).revoked) and not there.closed:
        return there, False
    document = Revocation(**_told(release, by, reason, now), channels=tuple(channels))
    _sign(place, top, REVOCATION_TYPE, document, signer, verifier)
    _sign_under_tag(place, top, REVOCATION_TYPE, document, signer)
    found = [each for each in _read(place, release.digest, verifier).revocations if each.document == document]
    return _believed(found, signer, "person or promoter"), True


def end(
    place: Place,
    release: Release,
    verifier: Verifier,
    signer: Signer,
    found: BrokenGlass | Revoked,
    *,
    by: Person,
    reason: str,
    now: datetime,
    lift: bool = False,
) -> Closing:
    """Close a break-glass, say that all is done about a revocation, or ``lift`` it: the release may be judged again.
    Raises InputError: a break-glass is not lifted, or the key is none that would be believed. Raises RegistryError."""
    if lift and isinstance(found, BrokenGlass):
        raise InputError("a break-glass is closed, not lifted")
    top = place.registry.resolve(place.repository, release.digest)
    document = Closing(**_told(release, by, reason or "done", now), ends=found.digest)
    _sign(place, top, LIFTING_TYPE if lift else CLOSING_TYPE, document, signer, verifier)
    after = _read(place, release.digest, verifier)
    left = {each.digest for each in (after.revocations if lift else after.listed)}
    _believed([] if found.digest in left else [document], signer, "person" if lift else "person or promoter")
    return document


def _believed(found: Sequence[_T], signer: Signer, role: str) -> _T:
    """What was just written, read back as others will read it."""
    if not found:
        raise InputError(
            f"the key {signer.key_id[:19]} is not believed as {role}, so what it signs counts for nothing",
            do="Sign with a key that is, or trust this one: signing.person",
        )
    return found[0]


def _read(place: Place, digest: Digest, verifier: Verifier) -> Interventions:
    return read_interventions(read_attestations(place, digest, verifier), digest)


def _sign(place: Place, top: Descriptor, kind: str, document: Intervention, signer: Signer, verifier: Verifier) -> None:
    """Raises InputError for a key that is not believed, before anything is written."""
    if signer.key_id not in verifier.believed(kind):
        nothing: list[Intervention] = []
        _believed(nothing, signer, "person")
    attest_once(place, top, kind, msgspec.json.decode(encode_json(document)), signer)


def _sign_under_tag(place: Place, top: Descriptor, kind: str, document: Intervention, signer: Signer) -> None:
    """The same in a second place, where that can be written: a registry without the referrers API keeps their list
    under a tag, which whoever may push can write anew without one of them."""
    with suppress(RegistryError, ContentError):  # tags that never move, or something that is not cosign's
        attest_once(place, top, kind, msgspec.json.decode(encode_json(document)), signer, att_tag=True)


def _told(release: Release, by: Person, reason: str, now: datetime) -> dict[str, Any]:
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON_CHARACTERS or not text.isprintable():
        raise InputError(
            "a reason is wanted: why is this done?" if not text else "the reason is long, or has hidden characters",
            do=f"Write --reason TEXT, of at most {MAX_REASON_CHARACTERS} characters",
        )
    return {
        "image": release.image,
        "version": release.tag,
        "release": release.digest,
        "reason": text,
        "by": by.name,
        "identity": by.identity,
        "time": _written(now),
    }


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(TIME_FORMAT)
