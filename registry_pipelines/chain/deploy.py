"""Roll promoted releases out to where they run, read back what runs, and sign that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry_pipelines.chain.channels import channel_of
from registry_pipelines.chain.deploy_places import open_platform, wanted_at
from registry_pipelines.chain.deployed import last_rolled_out, notes_about
from registry_pipelines.chain.next_steps import promoting, typed
from registry_pipelines.chain.promote import broken_glass, leaves_from
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.deploying.platform import RELEASE
from registry_pipelines.deploying.record import (
    TIME_FORMAT,
    DeploymentRecord,
    attest_deployment,
    latest,
    time_after,
)
from registry_pipelines.deploying.rollout import Limits, RolledOut, Wanted, against, before_of, roll_out
from registry_pipelines.errors import InputError, PromotionDenied
from registry_pipelines.evidence.predicates import DEPLOYMENT_TYPE, roles_for
from registry_pipelines.progress import count_text
from registry_pipelines.promote.standing import latest_record
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.deploying.model import DeploySettings
    from registry_pipelines.deploying.platform import Look, Platform
    from registry_pipelines.oci.digest import Digest

NOT_UP = 1
"""Exit code where a release did not come up; what came of it stands in the result."""


@dataclass(frozen=True)
class _Plan:
    """What would be done, and by what."""

    settings: DeploySettings
    release: Release
    channel: str
    wanted: Wanted
    look: Look
    alerts: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether it runs there already, all of it and ready."""
        own = self.look.written == self.wanted.image and self.look.settled and not self.look.parted
        return own and not against(self.look, self.wanted)


def deploy(session: Session, name: str, release: Release | None = None, *, dry_run: bool = False) -> StageResult:
    """Roll out what the channel of a deployment names, and attach the signed note of what was read back.

    release: that one, which the channel must name; what it names unless told. dry_run: only say what runs and what
    would. Not ``ok`` where it did not come up; what ran before runs again then, unless ``rollback`` is off; nor where
    the gate says no by the end. Run again it goes on where it was ended, and reads back what runs.

    Raises PromotionDenied (not what the channel names, or the gate lets it not leave), NotFound (nothing is there, or
    the digest is not where it is pulled from), InputError (no such container, a workload that cannot be rolled out, no
    key of the promoter), Forbidden, RegistryError (somebody else changed it meanwhile; the platform did not answer: run
    it again).
    """
    started, settings = time.monotonic(), session.deployment(name)
    release, channel = _release(session, settings, release)
    alerts = broken_glass(leaves_from(session, release, channel_of(session.image(release.image), channel)))
    wanted = wanted_at(session, settings, release)
    signer = None if dry_run else session.keys.signer(*roles_for(DEPLOYMENT_TYPE))
    platform = open_platform(settings)
    try:
        plan = _Plan(settings, release, channel, wanted, platform.look(), tuple(alerts))
        if plan.look.blocked and not plan.runs:
            raise InputError(plan.look.blocked, where=platform.where, do="Change that first; nothing was written")
        if signer is None:
            return _planned(session, plan, platform.where, started)
        done, record = _act(session, plan, platform)
        changed = False
        if record.outcome != "running" or _tells_more(session, record):
            source = session.source(release)
            changed = attest_deployment(source, session.subject(release), record, signer).changed
    finally:
        platform.close()
    result = _result(plan, done, record, started, changed=changed or done.changed)
    return _looked_back(session, plan, result) if done.changed and result.ok else result


def _looked_back(session: Session, plan: _Plan, result: StageResult) -> StageResult:
    """A roll-out takes minutes: what was said against the release meanwhile is asked once more. Not ``ok`` then; going
    back is the next roll-out, of what the channel names by then."""
    release, image = plan.release, session.image(plan.release.image)
    if digest_at(session.source(release), plan.channel) != release.digest:
        again = f"{plan.channel} names another release by now; deploy that"
        return replace(result, ok=False, exit_code=PromotionDenied.exit_code, reasons=[again])
    try:
        leaves_from(session, release, channel_of(image, plan.channel))
    except PromotionDenied as denied:
        told = [f"while it was rolled out: {each}" for each in denied.reasons]
        return replace(result, ok=False, exit_code=denied.exit_code, reasons=told, next_steps=denied.next_steps)
    return result


def due(session: Session, name: str) -> tuple[Release, str] | None:
    """The release that is to be rolled out or read back again now, and why; None for nothing. What did not come up is
    tried again when a person asks. Nothing is written. Raises PromotionDenied, RegistryError."""
    settings = session.deployment(name)
    channel = settings.channel or session.image(settings.image).order[-1].name
    if digest_at(session.places.source(session.image(settings.image)), channel) is None:
        return None
    release, channel = _release(session, settings, None)
    leaves_from(session, release, channel_of(session.image(release.image), channel))
    last = last_rolled_out(session, settings)
    if last is None or last.digest != release.digest:  # of an earlier release that is back there are notes, too
        return release, f"rollout {last.time if last else ''}"
    if last.outcome != "running":
        return None
    begun = datetime.strptime(last.since, TIME_FORMAT).replace(tzinfo=UTC)
    longer = [each for each in waited_for(session, name) if last.ran < each <= session.now() - begun]
    return (release, f"ran {max(longer)}") if longer else None


def waited_for(session: Session, name: str) -> list[timedelta]:
    """How long releases must run at a deployment before they come to some channel, shortest first."""
    asked = {
        each.deployed.run_for
        for image in session.config.images.values()
        for each in image.order
        if each.deployed and name in each.deployed.names
    }
    return sorted(asked)


def _release(session: Session, settings: DeploySettings, asked: Release | None) -> tuple[Release, str]:
    """What the channel names, and the channel. Raises PromotionDenied for another release, InputError for an image of
    another name, RegistryError."""
    image = session.image(settings.image)
    channel, place = channel_of(image, settings.channel or image.order[-1].name).name, session.places.source(image)
    if asked is not None and asked.image != image.name:
        raise InputError(f"deploy.{settings.name} is for {image.name}, not {asked.image}")
    named = digest_at(place, channel)
    if named is None or (asked is not None and asked.digest != named):
        what = f"it names {named.short}" if named else "it names nothing yet"
        tag = asked.tag if asked else "RELEASE"
        denied = PromotionDenied(
            f"{channel} of {image.name} does not name {asked.tag if asked else 'any release'}, and only what it names "
            "is rolled out",
            reasons=[f"promotion: {what}"],
            where=f"{place}:{channel}",
        )
        denied.tell([typed(session.config, *promoting(image, tag, channel))])
        raise denied
    return asked or Release(image.name, _version(session, settings.image, channel, named), named), channel


def _version(session: Session, image: str, channel: str, digest: Digest) -> str:
    """The version tag that a channel's release was promoted as; without a record the gate says so."""
    place, verifier = session.places.source(session.image(image)), session.verifier()
    found = latest_record(place, digest, verifier, channel=channel, image=image)
    return found[0].version if found else channel


def _act(session: Session, plan: _Plan, platform: Platform) -> tuple[RolledOut, DeploymentRecord]:
    """Roll out, unless it runs, and what is to be signed."""
    last = latest(notes_about(session, plan.release), plan.settings.name, plan.release.image)
    known = last is not None and last.outcome == "running" and last.revision == plan.look.revision
    if plan.runs:
        before = last.before if last and known else before_of(plan.look, plan.wanted)
        done = RolledOut("running", (), before, plan.look, changed=False)
    else:
        own = plan.settings
        # What came up once and fails now is no roll-out that could be taken back.
        rollback = own.rollback and not (known and plan.look.written == plan.wanted.image)
        limits = Limits(own.wait.total_seconds(), own.health.total_seconds(), rollback)
        where, progress = platform.where, session.progress
        done = roll_out(
            platform, plan.look, plan.wanted, limits, lambda text: progress.waiting(where, reason=text, left_s=None)
        )
    since, at = _when(session, plan, done, last)
    return done, DeploymentRecord(
        deployment=plan.settings.name,
        image=plan.release.image,
        version=plan.release.tag,
        digest=plan.release.digest,
        channel=plan.channel,
        where=platform.where,
        written=plan.wanted.image,
        outcome=done.outcome,
        reasons=done.reasons,
        seen=tuple(sorted(done.look.digests)),
        instances=len(done.look.instances),
        before=done.before,
        revision=done.look.revision,
        since=since,
        time=at,
    )


def _when(session: Session, plan: _Plan, done: RolledOut, last: DeploymentRecord | None) -> tuple[str, str]:
    """Since when what was read back runs there, empty where it does not, and the time of its record. last: the newest
    record about this release."""
    now, running = session.now(), done.outcome == "running"
    if running and last and last.outcome == "running" and last.revision == done.look.revision:  # without a break
        return last.since, max(last.time, now.strftime(TIME_FORMAT))
    if not running:  # it must not stand behind what a clock wrote that was ahead of this one
        last = latest(notes_about(session, plan.release, of_future=True), plan.settings.name, plan.release.image)
    at = time_after(now, last, last_rolled_out(session, plan.settings) if done.changed else None)
    return at if running else "", at


def _tells_more(session: Session, record: DeploymentRecord) -> bool:
    """Whether a look that found it running is worth a signed note: the first one, and one by which it ran as long as
    some channel waits for. Any other would say the same."""
    release = Release(record.image, record.version, record.digest)
    last = latest(notes_about(session, release), record.deployment, record.image)
    if last is None or last.outcome != "running" or last.since != record.since:
        return True
    return any(last.ran < each <= record.ran for each in waited_for(session, record.deployment))


def _planned(session: Session, plan: _Plan, where: str, started: float) -> StageResult:
    look = plan.look
    action = "runs already" if plan.runs else "would go on" if look.written == plan.wanted.image else "would roll out"
    notes = [f"it is not settled: {look.failed or look.progress}"] if not look.settled else []
    if look.written != plan.wanted.image and look.setter:
        notes.append(f"{look.setter} wrote the image last")
    if "@" not in look.written:
        told = (
            "is known from what runs" if "@" in look.ran else "is not known; a roll-out that fails goes back to the tag"
        )
        notes.append(f"it is written by tag now; its digest {told}")
    return StageResult(
        stage="deploy",
        subject=plan.settings.name,
        action=f"{action}: {plan.release.tag}",
        digest=plan.release.digest,
        seconds=time.monotonic() - started,
        facts=_facts(plan, look),
        rows=_rows(plan, look, where),
        alerts=list(plan.alerts),
        notes=notes,
    )


def _result(plan: _Plan, done: RolledOut, record: DeploymentRecord, started: float, *, changed: bool) -> StageResult:
    ok = done.outcome == "running"
    ran = f", for {int(record.ran.total_seconds())} s without a break" if record.ran else ""
    action = f"runs {plan.release.tag}{ran}" + ("" if changed else " (unchanged)")
    if done.outcome == "taken back":
        action = f"{plan.release.tag} did not come up; back to {done.before}"
    elif not ok:
        action = f"{plan.release.tag} did not come up"
    return StageResult(
        stage="deploy",
        subject=plan.settings.name,
        action=action,
        digest=plan.release.digest,
        changed=changed,
        seconds=time.monotonic() - started,
        facts={
            **_facts(plan, done.look),
            "outcome": record.outcome,
            "before": record.before,
            "since": record.since,
            "ran_s": int(record.ran.total_seconds()),
        },
        rows=_rows(plan, done.look, record.where),
        alerts=list(plan.alerts),
        reasons=list(done.reasons),
        notes=_written_over(plan, done),
        ok=ok,
        exit_code=0 if ok else NOT_UP,
    )


def _written_over(plan: _Plan, done: RolledOut) -> list[str]:
    """Whose image it took the place of, where that was no roll-out of ours."""
    look = plan.look
    ours = look.annotations.get(RELEASE) == look.written
    told = done.changed and look.setter and not ours and look.written != plan.wanted.image
    return [f"{look.setter} had written {look.written}"] if told else []


def _facts(plan: _Plan, look: Look) -> dict[str, Scalar]:
    return {
        "deployment": plan.settings.name,
        "release": plan.release.key,
        "channel": plan.channel,
        "written": look.written,
        "wanted": plan.wanted.image,
        "instances": len(look.instances),
        "revision": look.revision,
    }


def _rows(plan: _Plan, look: Look, where: str) -> Sequence[dict[str, Scalar]]:
    """What runs, by digest, and what is to: a row for each digest that instances run."""
    found: dict[str, list[bool]] = {}
    for each in look.instances:
        found.setdefault(each.digest or "not told", []).append(each.ready)
    return [
        {
            "where": where,
            "written": look.written,
            "runs": digest,
            "is": "the release" if digest in plan.wanted.digests else "another image" if ":" in digest else "not known",
            "ready": f"{sum(ready)} of {count_text(len(ready), 'instance')}",
            "wanted": plan.wanted.image,
        }
        for digest, ready in (found or {"nothing": []}).items()
    ]


__all__ = ["deploy", "due", "waited_for"]
