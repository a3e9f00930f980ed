"""Break-glass: a release comes to a channel against its policy, for a time. And the list of what is open, of images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from registry_pipelines.chain.channels import channel_of
from registry_pipelines.chain.next_steps import promoting, typed
from registry_pipelines.chain.promote import judge, promoted_already
from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import InputError, PromotionDenied
from registry_pipelines.evidence.artifacts import PREDICATE_ANNOTATION
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import (
    BREAK_GLASS_TYPE,
    CLOSING_TYPE,
    LIFTING_TYPE,
    REVOCATION_TYPE,
    roles_for,
)
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_EMPTY, SIGSTORE_BUNDLE
from registry_pipelines.progress import count_text
from registry_pipelines.promote import intervening
from registry_pipelines.promote.interventions import BrokenGlass, Interventions, Revoked, read_interventions
from registry_pipelines.promote.person import Person, account
from registry_pipelines.promote.ways import releases_before
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.threads import Pool

THREADS = 16
"""Releases whose lists of referrers are asked for at once: a small request each."""

OPENED = frozenset({BREAK_GLASS_TYPE, REVOCATION_TYPE})


def open_glass(
    session: Session, release: Release, by: Person | None = None, *, reason: str, lasts: timedelta, channel: str = ""
) -> StageResult:
    """Sign that a release may come to a channel (the last of its image unless told) against its policy, until when and
    why. It is judged first, so that what is known against it is on record. Raises InputError: no reason, nothing that
    is against it, or something that no break-glass excuses."""
    started = time.monotonic()
    image, place = session.image(release.image), session.source(release)
    wanted = channel_of(image, channel or image.channel)
    judge(session, release)
    against = _against(session, release, wanted.name)
    if not against:
        if glass := interventions_of(session, release).excuse(wanted.name, image.name, session.now()):
            raise InputError(
                f"{release.image}:{release.tag} has one already: {glass.sentence()}",
                do=f"For another end or reason: "
                f"`{typed(session.config, 'break-glass', 'close', f'{release.image}:{release.tag}')}`, then open one",
            )
        raise InputError(
            f"nothing is against {release.image}:{release.tag} on {wanted.name}: it needs no break-glass",
            do=f"Run `{typed(session.config, *promoting(image, release.tag, wanted.name))}`",
        )
    made = intervening.break_glass(
        place,
        release,
        session.verifier(),
        session.keys.signer(*roles_for(BREAK_GLASS_TYPE)),
        channel=wanted.name,
        by=by or account(),
        reason=reason,
        lasts=lasts,
        now=session.now(),
        excused=against,
    )
    told = made.document
    return StageResult(
        stage="break-glass",
        subject=release.key,
        action=f"{wanted.name} may name it until {told.expires}",
        digest=made.digest,
        changed=True,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "channel": wanted.name, "by": told.by, "expires": told.expires},
        alerts=[f"BREAK-GLASS {release.image}:{release.tag}: {made.sentence()}"],
        notes=[f"excused: {each}" for each in against],
        next_steps=[
            typed(session.config, *promoting(image, release.tag, wanted.name)),
            typed(session.config, "break-glass", "close", f"{release.image}:{release.tag}")
            + "  # as soon as it is put right; it is listed until then",
        ],
    )


def _against(session: Session, release: Release, channel: str) -> list[str]:
    try:
        promoted_already(session, release, channel_of(session.image(release.image), channel))
    except PromotionDenied as denied:
        return denied.reasons
    return []


def close_glasses(session: Session, release: Release, by: Person | None = None, *, reason: str = "") -> StageResult:
    """Sign that every break-glass of a release holds no longer. Raises InputError where there is none."""
    started = time.monotonic()
    found = [each for each in interventions_of(session, release).listed if isinstance(each, BrokenGlass)]
    if not found:
        raise InputError(f"no break-glass of {release.image}:{release.tag} is open")
    for each in found:
        finish(session, release, each, by, reason=reason)
    image, place = session.image(release.image), session.source(release)
    naming = [each.name for each in image.order if digest_at(place, each.name) == release.digest]
    still = [name for name in naming if _against(session, release, name)]
    return StageResult(
        stage="break-glass",
        subject=release.key,
        action=f"closed {count_text(len(found), 'break-glass', 'break-glasses')}",
        digest=found[0].digest,
        changed=True,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "closed": len(found)},
        alerts=[
            f"{name} still names it, and the gate would not let it come there: copies and new starts are refused"
            for name in still
        ],
        next_steps=_instead(session, release, still[0]) if still else [],
    )


def _instead(session: Session, release: Release, channel: str) -> list[str]:
    """What a channel may name in place of a release that may not be there: the one before it, where there was one."""
    before = releases_before(session.source(release), release, channel, session.verifier())
    image = session.image(release.image)
    if not before:
        judged = typed(session.config, "judge", f"{release.image}:{release.tag}")
        return [f"{judged}  # when it is put right, then promote it again: no release was on {channel} before it"]
    command = typed(session.config, *promoting(image, before[0].tag, channel))
    return [f"{command}  # or put right what is against it, and promote it again"]


def finish(
    session: Session,
    release: Release,
    found: BrokenGlass | Revoked,
    by: Person | None = None,
    *,
    reason: str = "",
    lift: bool = False,
) -> None:
    """Sign the end of a break-glass or a revocation."""
    roles = roles_for(LIFTING_TYPE if lift else CLOSING_TYPE)
    intervening.end(
        session.source(release),
        release,
        session.verifier(),
        session.keys.signer(*roles),
        found,
        by=by or account(),
        reason=reason,
        now=session.now(),
        lift=lift,
    )


def interventions_of(session: Session, release: Release) -> Interventions:
    """What persons decided about a release, as the registry shows it now."""
    known = read_attestations(session.source(release), release.digest, session.verifier())
    return read_interventions(known, release.digest)


def glasses(session: Session, images: Sequence[str] = ()) -> StageResult:
    """Every break-glass of images (all unless named) that nobody closed, the expired, too; ``facts["open"]``. Reads the
    list of referrers of every release. Raises InputError, RegistryError."""
    return _listed(session, images, BrokenGlass)


def revocations(session: Session, images: Sequence[str] = ()) -> StageResult:
    """The same of revocations."""
    return _listed(session, images, Revoked)


def interventions(session: Session, images: Sequence[str] = ()) -> StageResult:
    """Both, each with its ``kind`` and what ends it; ``facts["break_glasses"]`` and ``facts["revocations"]``."""
    result = _listed(session, images, BrokenGlass, Revoked)
    counts: dict[str, Scalar] = {
        name: sum(row["kind"] == kind for row in result.rows) for name, kind in _COUNTED.items()
    }
    steps = [_ending(session, row) for row in result.rows]
    return replace(result, facts={**result.facts, **counts}, next_steps=list(dict.fromkeys(steps)))


_KINDS: dict[type[BrokenGlass | Revoked], tuple[str, str]] = {
    BrokenGlass: ("break-glass", "break-glasses"),
    Revoked: ("revocation", "revocations"),
}
_COUNTED = {"break_glasses": "break-glass", "revocations": "revocation"}


def _ending(session: Session, row: Mapping[str, Scalar]) -> str:
    words = ("break-glass", "close") if row["kind"] == "break-glass" else ("revoke", "--close")
    return f"{typed(session.config, *words, str(row['release']))}  # when all is done"


def _listed(session: Session, images: Sequence[str], *kinds: type[BrokenGlass | Revoked]) -> StageResult:
    started = time.monotonic()
    named = [session.image(name) for name in images] or list(session.config.images.values())
    verifier, now = session.verifier(), session.now()
    rows: list[dict[str, Scalar]] = []
    for image in named:
        for release, found in _every(session, image, verifier):
            for each in found.listed:
                if isinstance(each, kinds):
                    kind: dict[str, Scalar] = {"kind": _KINDS[type(each)][0]} if len(kinds) > 1 else {}
                    rows.append(kind | _row(release, each, now))
    what = _KINDS[kinds[0]] if len(kinds) == 1 else ("intervention", "interventions")
    return StageResult(
        stage=what[0],
        subject=", ".join(each.name for each in named),
        action=f"{count_text(len(rows), *what)} open" if rows else f"no {what[0]} is open",
        seconds=time.monotonic() - started,
        facts={"open": len(rows), "looked_at": f"{now:%Y-%m-%dT%H:%M:%SZ}"},
        rows=rows,
    )


def _row(release: Release, found: BrokenGlass | Revoked, now: datetime) -> dict[str, Scalar]:
    told = found.document
    row: dict[str, Scalar] = {"release": f"{release.image}:{release.tag}", "by": told.by, "since": told.time}
    if isinstance(found, BrokenGlass):
        state = "expired" if found.expired(now) else "open"
        row |= {"channel": found.document.channel, "until": found.document.expires, "state": state}
    return row | {"reason": told.reason, "digest": release.digest}


def _every(session: Session, image: Image, verifier: Verifier) -> list[tuple[Release, Interventions]]:
    """The releases of an image with what persons decided about them: those under a tag, and what channels name."""
    place = session.places.source(image)
    found = {each.digest: each for each in releases_of(session, image)}
    for channel in image.order:
        digest = digest_at(place, channel.name)
        if digest is not None:
            found.setdefault(digest, Release(image.name, channel.name, digest))
    with Pool(THREADS, "interventions") as pool:
        read = pool.map(lambda release: _read(place, release.digest, verifier), found.values())
        return list(zip(found.values(), read, strict=True))


def _read(place: Place, digest: Digest, verifier: Verifier) -> Interventions:
    """Opened only where the list of referrers may hold one: what we attach says its type there, too; or where there is
    a tag of attestations, in which a revocation is as well."""
    referrers = place.registry.referrers(place.repository, digest)
    if not any(map(_may_be_one, referrers)) and digest_at(place, cosign_tag(digest, "att")) is None:
        return Interventions()
    return read_interventions(read_attestations(place, digest, verifier), digest)


def _may_be_one(listed: Descriptor) -> bool:
    kind = (listed.annotations or {}).get(PREDICATE_ANNOTATION)
    return kind in OPENED or (kind is None and listed.artifact_type in (None, "", SIGSTORE_BUNDLE, OCI_EMPTY))
