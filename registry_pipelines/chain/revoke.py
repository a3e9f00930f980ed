"""A shipped release turns out bad: deny it, take the channels back, tell every place that has it.

Each step is done again by the same command until all of them are: what is there already is left as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from registry_pipelines.chain import mirror_release, replicate, scan, sign
from registry_pipelines.chain.intervene import finish, interventions_of
from registry_pipelines.chain.next_steps import promoting, typed
from registry_pipelines.chain.promote import judge, promote
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import (
    ContentError,
    InputError,
    PromotionDenied,
    RegistryPipelinesError,
)
from registry_pipelines.evidence.predicates import REVOCATION_TYPE, roles_for
from registry_pipelines.promote import intervening
from registry_pipelines.promote.order import Channel
from registry_pipelines.promote.person import Person, account
from registry_pipelines.promote.ways import releases_before
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.transfer.batch import Item, copy_items

MOST_TRIED = 10
"""Earlier releases that are tried for a channel, the latest first."""


@dataclass
class _Work:
    """What is done about one release, and what is left."""

    session: Session
    release: Release
    by: Person
    back_to: Release | None
    rows: list[dict[str, Scalar]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    """Places that could not be told."""
    steps: list[str] = field(default_factory=list)
    changed: bool = False

    @property
    def name(self) -> str:
        return f"{self.release.image}:{self.release.tag}"

    def done(self, where: str, what: str) -> None:
        self.rows.append({"where": where, "what": what})

    def failed(self, where: str, why: str) -> None:
        self.rows.append({"where": where, "what": f"NOT DONE: {why}"})
        self.problems.append(f"{where}: {why}")


def revoke(
    session: Session, release: Release, by: Person | None = None, *, reason: str, back_to: Release | None = None
) -> StageResult:
    """Sign that a release is revoked, and deny it by every policy; take each channel that names it back to the last
    release that the gate lets pass (``back_to``, where one is told); bring what was signed to every target and mirror
    that has the release, and the earlier one with its channel tag.

    Not ``ok`` while something is left; the same call does the rest. Raises InputError, RegistryError of the source.
    """
    started = time.monotonic()
    place = session.source(release)
    if back_to is not None and (back_to.image, back_to.digest) in ((release.image, release.digest),):
        raise InputError("a channel does not go back to what is revoked", do="Name an earlier release")
    work = _Work(session, release, by or account(), back_to)
    signed, new = intervening.revoke(
        place,
        release,
        session.verifier(),
        session.keys.signer(*roles_for(REVOCATION_TYPE)),
        by=work.by,
        reason=reason,
        now=session.now(),
        channels=[each.name for each in _naming(session, release)],
    )
    naming = _naming(session, release)  # again: what moved before it was signed, its own promotion did not see
    work.changed |= new
    work.done(str(place), "revoked" if new else "was revoked")
    _judge(work)
    good = {each.name: earlier for each in naming if (earlier := _take_back(work, each))}
    _tell(work)
    _bring(work, good)
    _look(work)
    close = typed(session.config, "revoke", work.name, "--close")
    again = typed(session.config, "revoke", work.name, "--reason", signed.document.reason)
    return StageResult(
        stage="revoke",
        subject=release.key,
        action=("revoked" if new else "was revoked") + (": not all is done" if work.problems else ", everywhere"),
        digest=signed.digest,
        changed=work.changed,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "by": signed.document.by,
            "reason": signed.document.reason,
            "left": len(work.problems),
            **{f"{channel}_names": each.key for channel, each in good.items()},
        },
        rows=work.rows,
        alerts=[f"REVOKED {work.name}: {signed.sentence()}"],
        reasons=work.problems,
        next_steps=[*work.steps, *([again] if work.problems else [f"{close}  # it is listed until then"])],
        ok=not work.problems,
        exit_code=ContentError.exit_code if work.problems else 0,
    )


def close(
    session: Session, release: Release, by: Person | None = None, *, reason: str = "", lift: bool = False
) -> StageResult:
    """Say that all is done about a revocation: it is listed no more, and goes on denying. lift: it was a mistake, and
    the release may be judged again. Raises InputError where there is none, or where a channel still names it."""
    started, name = time.monotonic(), f"{release.image}:{release.tag}"
    found = [each for each in interventions_of(session, release).revocations if lift or not each.closed]
    if not found:
        raise InputError(f"no revocation of {name} is open")
    naming = [each.name for each in _naming(session, release)]
    if naming and not lift:
        raise InputError(
            f"{', '.join(naming)} still names {name}: not all is done",
            do=f"Promote another release, or run `{typed(session.config, 'revoke', name, '--reason', 'WHY')}` again",
        )
    for each in found:
        finish(session, release, each, by, reason=reason, lift=lift)
    step = typed(session.config, "judge", name)
    return StageResult(
        stage="revoke",
        subject=release.key,
        action="the revocation is lifted" if lift else "closed: it stays denied, and is listed no more",
        digest=found[0].digest,
        changed=True,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "closed": len(found)},
        next_steps=[f"{step}  # its last verdict is deny"] if lift else [],
    )


def _naming(session: Session, release: Release) -> list[Channel]:
    """The channels that name a release now."""
    place = session.source(release)
    return [each for each in session.image(release.image).order if digest_at(place, each.name) == release.digest]


def _judge(work: _Work) -> None:
    """The verdict says no from now on, for every reader of summaries."""
    try:
        result = judge(work.session, work.release)
    except RegistryPipelinesError as error:
        work.failed("verdict", str(error.what))
        return
    work.changed |= result.changed
    work.done("verdict", result.action)


def _take_back(work: _Work, channel: Channel) -> Release | None:
    """The release that a channel names in place of the revoked one; None where there is none that may."""
    session, release, image = work.session, work.release, work.session.image(work.release.image)
    where = f"channel {channel.name}"
    candidates = [work.back_to] if work.back_to else _before(session, release, channel)
    refused: list[str] = []
    for earlier in candidates[:MOST_TRIED]:
        try:
            result = _promoted(work, earlier, channel)
        except RegistryPipelinesError as error:
            why = error.reasons[0] if isinstance(error, PromotionDenied) else error.what
            refused.append(f"{earlier.tag}: {why}")
            continue
        work.changed |= result.changed
        work.done(where, f"names {earlier.tag} again")
        return earlier
    told = f" ({'; '.join(refused)})" if refused else ""
    work.failed(where, f"names it still: no earlier release may come back{told}")
    work.steps.append(typed(session.config, *promoting(image, "ANOTHER", channel.name)))
    return None


def _promoted(work: _Work, earlier: Release, channel: Channel) -> StageResult:
    """Judged by today's advisories where the last report is not enough: the older a release, the older that is."""
    session = work.session.remembering()
    judge(session, earlier)
    try:
        return promote(session, earlier, work.by, channel=channel.name, until="revoke")
    except PromotionDenied:
        scan.vulnerabilities(session, earlier)
        sign.sign(session, earlier)
        judge(session, earlier)
        return promote(session.remembering(), earlier, work.by, channel=channel.name, until="revoke")


def _before(session: Session, release: Release, channel: Channel) -> list[Release]:
    """What the channel named before, the latest first, as signed records say; nothing that is revoked."""
    place, verifier = session.source(release), session.verifier()
    found = releases_before(place, release, channel.name, verifier)
    return [each for each in found if not interventions_of(session, each).revoked]


def _places(work: _Work) -> Iterator[tuple[str, Place]]:
    """Targets, and the stops of mirrors, each with its name."""
    session, image = work.session, work.session.image(work.release.image)
    for target in image.targets:
        yield target, session.places.target(image, target)
    for name, mirror in session.config.mirrors.items():
        if image.name in mirror.images:
            for stop in session.stops(mirror, image.repository):
                yield f"{name} ({stop.registry.name})", stop


def _tell(work: _Work) -> None:
    """Bring what was signed about the revoked release to every place that has it. This is the one copy that asks no
    gate: the release is there, and what comes is that it is denied."""
    session, release = work.session, work.release
    for name, place in _places(work):
        try:
            if digest_at(place, release.digest) is None:
                work.done(name, "does not have it")
                continue
            [outcome] = copy_items([Item(session.source(release), release.digest, place)], engine=session.engine())
            error = outcome if isinstance(outcome, RegistryPipelinesError) else outcome.error
            if error is not None:
                raise error
        except RegistryPipelinesError as error:
            work.failed(name, f"is not told: {error.what}")
            work.silent.add(name)
        else:
            work.done(name, "is told")


def _bring(work: _Work, good: dict[str, Release]) -> None:
    """The earlier release to the places of its channel, with the channel's tag."""
    session, image = work.session, work.session.image(work.release.image)
    for channel in image.order:
        earlier = good.get(channel.name)
        if earlier is None:
            continue
        for target in channel.targets or ():
            try:
                replicate.replicate(session, earlier, target)
                work.done(target, f"{channel.name} names {earlier.tag} there")
            except RegistryPipelinesError as error:
                work.failed(target, f"{earlier.tag} is not brought there: {error.what}")
        for name, mirror in session.config.mirrors.items():
            if image.name in mirror.images and channel.name == image.channel:
                try:
                    mirror_release.mirror_release(session, earlier, name)
                    work.done(name, f"{channel.name} names {earlier.tag} there")
                except RegistryPipelinesError as error:
                    work.failed(name, f"{earlier.tag} is not brought there: {error.what}")


def _look(work: _Work) -> None:
    """Where a channel tag names the revoked release still, at a place that could be asked."""
    release, image = work.release, work.session.image(work.release.image)
    for name, place in _places(work):
        for channel in image.order if name not in work.silent else ():
            try:
                if digest_at(place, channel.name) == release.digest:
                    work.failed(name, f"{channel.name} names it there still")
            except RegistryPipelinesError as error:
                work.failed(name, f"cannot be asked what {channel.name} names: {error.what}")


__all__ = ["close", "revoke"]
