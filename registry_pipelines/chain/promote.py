"""Verdict and promotion of a release. Whatever copies a release asks :func:`require_promoted` first."""

from __future__ import annotations

import time
from dataclasses import replace

from registry_pipelines.chain.left_behind import left_behind
from registry_pipelines.chain.next_steps import denials_with_next_steps, lets_go, next_steps
from registry_pipelines.chain.releases import no_release_note
from registry_pipelines.chain.result import WAITS, Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import PromotionDenied
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, roles_for
from registry_pipelines.promote import channels, verdicts
from registry_pipelines.promote.documents import Promotion
from registry_pipelines.promote.judge import judge as judge_evidence
from registry_pipelines.promote.judge import require_allowed as ask_to_run
from registry_pipelines.promote.judge import require_promoted as ask_to_leave
from registry_pipelines.promote.person import Person, account
from registry_pipelines.promote.starts import read_starts, starts_within
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.release import Release


def judge(session: Session, release: Release, *, until: str = "") -> StageResult:
    """Judge a release by what its registry holds, and attach the signed verdict; ``ok`` is the verdict.

    until: the last stage that somebody asked for, which what is to be done next leads to; this one unless told.
    """
    started = time.monotonic()
    signer, verifier = session.keys.signer("promoter"), session.verifier()
    place, subject = session.source(release), session.subject(release)
    verdict = judge_evidence(place, subject, session.policy(release), verifier, image=release.image, now=session.now())
    published = verdicts.publish(place, subject, verdict, signer, verifier, consumers=session.consumers(release))
    facts: dict[str, Scalar] = {
        "release": release.key,
        "verdict": "allow" if verdict.allow else "deny",
        "policy": verdict.policy,
        "policy_digest": verdict.policy_digest,
        "advisories_newest": verdict.advisories.newest,
        "advisories_digest": verdict.advisories.digest,
        "reasons": len(verdict.reasons),
        "accepted": len(verdict.accepted),
    }
    facts |= {f"findings_{severity.lower()}": count for severity, count in verdict.counts.items()}
    notes: list[dict[str, Scalar]] = [{"about": "reason", "text": text} for text in verdict.reasons]
    notes += [{"about": "accepted", "text": text} for text in verdict.accepted]
    notes += [{"about": "note", "text": text} for text in verdict.notes]
    word = "allow" if verdict.allow else "deny"
    return StageResult(
        stage="judge",
        subject=release.key,
        action=f"{word} by policy {verdict.policy}" + ("" if published.changed else " (unchanged)"),
        digest=published.digest,
        changed=published.changed,
        seconds=time.monotonic() - started,
        facts=facts,
        rows=notes,
        reasons=list(verdict.reasons) or [f"accepted: {text}" for text in verdict.accepted],
        next_steps=next_steps(session, release, verdict.steps, until=until),
        notes=[text for text in verdict.notes if text.startswith("warning ")],
        ok=verdict.allow,
    )


def promote(session: Session, release: Release, by: Person | None = None, *, until: str = "") -> StageResult:
    """Move the image's channel tag to a release, because somebody asks. by: who; the account of this process unless
    told. until: as :func:`judge` has it. Without, notes tell which replicas still have the other release. Raises
    PromotionDenied with every reason."""
    return _promoted(session, release, by or account(), until)


def promote_automatically(session: Session, release: Release) -> StageResult:
    """The same for a run that nobody asked to promote: where the image says ``promote: auto``, and never back from a
    higher version. Elsewhere an allowed release waits for a person; then ``facts["waits"]`` is true. One that a person
    promoted meanwhile is told as promoted. Raises PromotionDenied with every reason."""
    started = time.monotonic()
    image, place, verifier = session.image(release.image), session.source(release), session.verifier()
    why = f"images.{image.name} has `promote: manual`"
    if image.promote == "auto":
        newer = channels.newer_on(place, release, verifier, channel=image.channel)
        if not newer:
            return _promoted(session, release, None)
        why = f"{image.channel} names {newer}, a higher version: going back is for a person to ask"
    policy = session.policy(release)
    with denials_with_next_steps(session, release):
        done = channels.promoted_already(place, release, policy, verifier, channel=image.channel, now=session.now())
    if done:
        return _result(release, done, started)
    return StageResult(
        stage="promote",
        subject=release.key,
        action=WAITS,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "channel": image.channel, "waits": True},
        next_steps=lets_go(session, release),
        notes=[why],
    )


def _promoted(session: Session, release: Release, by: Person | None, until: str = "") -> StageResult:
    started = time.monotonic()
    with denials_with_next_steps(session, release, until):
        done = channels.promote(
            session.source(release),
            release,
            session.policy(release),
            session.verifier(),
            session.keys.signer(*roles_for(PROMOTION_TYPE)),
            channel=session.image(release.image).channel,
            now=session.now(),
            by=by,
        )
    result = _result(release, done, started, by)
    notes = [*result.notes, no_release_note(session.image(release.image), release.tag)]
    return replace(result, notes=[*filter(None, notes), *(() if until else left_behind(session, release))])


def _result(release: Release, done: Promotion, started: float, by: Person | None = None) -> StageResult:
    """by: who asked this time, which need not be who promoted it."""
    record = done.record
    other = by and not done.changed and (record.promoted_by, record.identity) != (by.name, by.identity)
    facts: dict[str, Scalar] = {
        "release": release.key,
        "channel": record.channel,
        "record": done.digest,
        "from_digest": record.from_digest,
        "promoted_by": record.promoted_by,
        **({"identity": record.identity} if record.identity else {}),
    }
    return StageResult(
        stage="promote",
        subject=release.key,
        action=f"{record.channel} names it" + (" now" if done.changed else " (unchanged)"),
        digest=release.digest,
        changed=done.changed,
        seconds=time.monotonic() - started,
        facts=facts,
        notes=[f"{record.promoted_by} promoted it before, at {record.time}"] if other else [],
    )


def start_problems(session: Session, release: Release) -> list[str]:
    """What keeps a release that is allowed from being promoted by the way it starts: what is missing, too large or too
    slow; empty where its policy asks nothing. Read from the registry now. Raises ContentError, RegistryError."""
    policy, place = session.policy(release), session.source(release)
    if not policy.asks_about_start:
        return []
    top = place.registry.get_manifest(place.repository, release.digest)
    platforms = {str(entry.digest): str(entry.platform) for entry in images_of(read_entries(place, top))}
    return starts_within(platforms, read_starts(place, platforms, policy, session.verifier()), policy).reasons


def promotion_steps(session: Session, release: Release) -> list[str]:
    """What would let a release be promoted that the gate lets not; empty for one that it lets. Nothing is written.
    Raises RegistryError."""
    try:
        with denials_with_next_steps(session, release):
            channels.promoted_already(
                session.source(release),
                release,
                session.policy(release),
                session.verifier(),
                channel=session.image(release.image).channel,
                now=session.now(),
            )
    except PromotionDenied as denied:
        return denied.next_steps
    return []


def require_allowed(session: Session, release: Release) -> None:
    """Raise PromotionDenied unless the gate lets a release be run here."""
    with denials_with_next_steps(session, release):
        ask_to_run(session.source(release), release, session.policy(release), session.verifier(), now=session.now())


def require_promoted(session: Session, release: Release) -> list[str]:
    """Raise PromotionDenied unless the gate lets a release leave its source registry; what the verdict accepted."""
    with denials_with_next_steps(session, release):
        return ask_to_leave(
            session.source(release),
            release,
            session.policy(release),
            session.verifier(),
            channel=session.image(release.image).channel,
            now=session.now(),
        )
