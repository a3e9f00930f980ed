"""Verdict and promotion of a release. Whatever copies a release asks :func:`require_promoted` first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from registry_pipelines.chain.attesting import attest
from registry_pipelines.chain.channels import (
    channel_for,
    channel_of,
    going_to,
    next_channel,
    policies_of,
    reached,
)
from registry_pipelines.chain.left_behind import left_behind
from registry_pipelines.chain.next_steps import denials_with_next_steps, lets_go, next_steps, promoting, typed
from registry_pipelines.chain.passed import attest_what_passed
from registry_pipelines.chain.releases import no_release_note
from registry_pipelines.chain.result import WAITS, Scalar, StageResult, held_text
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, roles_for
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote import channels, verdicts
from registry_pipelines.promote.documents import Policy, Promotion
from registry_pipelines.promote.interventions import GLASS
from registry_pipelines.promote.judge import judge as judge_evidence
from registry_pipelines.promote.judge import require_allowed as ask_to_run
from registry_pipelines.promote.judge import require_promoted as ask_to_leave
from registry_pipelines.promote.order import Channel
from registry_pipelines.promote.person import Person, account
from registry_pipelines.promote.starts import read_starts, starts_within
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

PROMOTION_WAIT_S = 300.0
"""For others who move the same channel: a promotion reads all evidence of a release, which takes seconds."""

NEXT = "the next channel is "
"""How the note begins that says where a release goes on to."""


def judge(session: Session, release: Release, *, until: str = "") -> StageResult:
    """Judge a release by what its registry holds, and attach the signed verdict; ``ok`` is the verdict. Of an image
    whose channels have several policies there is a verdict by each; ``ok`` is that for the channel it comes to next,
    and the others are told. What passes is signed as cosign's record of a scan, too, where the scanner's key is here.

    until: the last stage that somebody asked for, which what is to be done next leads to; this one unless told.
    """
    result = _judge(session, release, until)
    passed = attest_what_passed(session, release) if result.ok else None
    return replace(result, changed=True) if passed and passed.changed else result


def _judge(session: Session, release: Release, until: str) -> StageResult:
    image = session.image(release.image)
    policies = policies_of(session, image)
    if len(policies) == 1:
        return _judged(session, release, session.policy_of(image, image.order[0]), until)
    coming = next_channel(session, release) or image.order[-1]
    found = {name: _judged(session, release, session.policy_of(image, own[0]), until) for name, own in policies.items()}
    own = found[coming.policy or image.policy]
    told = [
        f"for {', '.join(each.name for each in policies[name])}: {other.action}"
        + (f": {other.reasons[0]}" if not other.ok and other.reasons else "")
        for name, other in found.items()
        if other is not own
    ]
    facts = {**own.facts, "channel": coming.name}
    facts |= {f"verdict_{name}": each.facts["verdict"] for name, each in found.items()}
    changed = any(each.changed for each in found.values())
    return replace(own, facts=facts, changed=changed, notes=[*own.notes, *told])


def _judged(session: Session, release: Release, policy: Policy, until: str) -> StageResult:
    started = time.monotonic()
    signer, verifier = session.keys.signer("promoter"), session.verifier()
    place, subject = session.source(release), session.subject(release)
    verdict = judge_evidence(place, subject, policy, verifier, image=release.image, now=session.now())
    consumers = session.consumers(release, policy)
    published = verdicts.publish(place, subject, verdict, signer, verifier, consumers=consumers)
    attested = attest(session, release, verdict.policy, signer, allow=verdict.allow)
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
    notes += [{"about": "note", "text": text} for text in (*verdict.notes, *attested)]
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


def promote(
    session: Session, release: Release, by: Person | None = None, *, channel: str = "", until: str = ""
) -> StageResult:
    """Move a channel tag to a release, because somebody asks. by: who; the account of this process unless told.
    channel: which, of an image with several. until: as :func:`judge` has it. Without, notes tell which replicas still
    have the other release. Raises PromotionDenied with every reason, InputError."""
    own = channel_for(session, release, channel)
    with _moving(session, release, own) as still:
        return _promoted(session, release, own, by or account(), until, still=still)


def promote_automatically(session: Session, release: Release) -> StageResult:
    """The same for a run that nobody asked to promote: through the channels in order, as far as they say ``promote:
    auto`` and let it in, and never back from a higher version. Where it comes to none, an allowed release waits for a
    person; then ``facts["waits"]`` is true. One that a person promoted meanwhile is told as promoted. Raises
    PromotionDenied with every reason where it does not come to the first."""
    image = session.image(release.image)
    result = _automatically(session, release, image.order[0])
    for channel in image.order[1:]:
        if result.facts.get("waits"):
            break
        try:
            further = _automatically(session, release, channel)
        except PromotionHeld as held:
            return _further(result, channel.name, held_text(held.state), held.reasons, held.next_steps)
        except PromotionDenied as denied:
            return _further(result, channel.name, "denied", denied.reasons, denied.next_steps)
        if further.facts.get("waits"):
            return _further(result, channel.name, WAITS, further.notes, further.next_steps)
        changed = result.changed or further.changed
        told = [each for each in result.notes if not each.startswith(NEXT)]  # it is there
        result = replace(further, changed=changed, notes=[*told, *further.notes])
    return result


def _further(result: StageResult, channel: str, why: str, notes: Sequence[str], steps: Sequence[str]) -> StageResult:
    """What came to one channel, with what keeps it from the next."""
    told = [f"{channel}: {why}", *(f"{channel}: {note}" for note in notes)]
    facts = {**result.facts, "next_channel": channel, "next": why}
    return replace(result, facts=facts, notes=[*result.notes, *told], next_steps=list(steps))


def _automatically(session: Session, release: Release, channel: Channel) -> StageResult:
    started = time.monotonic()
    image, place, verifier = session.image(release.image), session.source(release), session.verifier()
    own = f"images.{image.name}" + (f".channels.{channel.name}" if len(image.order) > 1 else "")
    why = f"{own} has `promote: manual`"
    if channel.promote == "auto":
        with _moving(session, release, channel) as still:  # the look and the move are one: another may promote now
            newer = channels.newer_on(place, release, verifier, channel=channel.name)
            if not newer:
                return _promoted(session, release, channel, None, still=still)
        why = f"{channel.name} names {newer}, a higher version: going back is for a person to ask"
    with denials_with_next_steps(session, release, channel=channel.name):
        done = promoted_already(session, release, channel)
    if done:
        return _result(release, done, started)
    return StageResult(
        stage="promote",
        subject=release.key,
        action=WAITS,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "channel": channel.name, "waits": True},
        next_steps=lets_go(session, release, channel.name),
        notes=[why],
    )


def promoted_already(session: Session, release: Release, channel: Channel) -> Promotion | None:
    """What the gate says now about a release and a channel of its image: the promotion that has it there, None where it
    may come. Nothing is written. Raises PromotionDenied with every reason, RegistryError."""
    image = session.image(release.image)
    return channels.promoted_already(
        session.source(release),
        release,
        session.policy_of(image, channel),
        session.verifier(),
        channel=channel.name,
        order=image.order,
        now=session.now(),
    )


@contextmanager
def _moving(session: Session, release: Release, channel: Channel) -> Iterator[Callable[[], None]]:
    """As the only one who moves a channel, of all processes that share the state; others are waited for. What it gives
    raises StateLocked where another took over meanwhile."""
    place = session.source(release)
    name = Digest.of(f"{place} {channel.name}".encode()).hex[:2]  # few lock files, however many channels
    what = "another process promotes"
    with session.alone(f"promote/{name}", what, do="Try again", wait_s=PROMOTION_WAIT_S) as lease:
        yield lease.check if lease else _nothing


def _nothing() -> None:
    """A lock file is nobody else's before its process ended."""


def _promoted(
    session: Session,
    release: Release,
    channel: Channel,
    by: Person | None,
    until: str = "",
    *,
    still: Callable[[], None],
) -> StageResult:
    """still: raises where somebody else may move the channel now."""
    started = time.monotonic()
    image = session.image(release.image)
    from registry_pipelines.chain.moving import check_tag_moves  # most who load this promote nothing

    check_tag_moves(session, image, channel.name)
    with denials_with_next_steps(session, release, until, channel=channel.name):
        done = channels.promote(
            session.source(release),
            release,
            session.policy_of(image, channel),
            session.verifier(),
            session.keys.signer(*roles_for(PROMOTION_TYPE)),
            channel=channel.name,
            order=image.order,
            now=session.now(),
            by=by,
            still=still,
        )
    result = _result(release, done, started, by)
    notes = [*result.notes, no_release_note(image, release.tag)]
    after = image.order[image.order.index(channel) + 1 :]
    if after:
        command = typed(session.config, *promoting(image, release.tag, after[0].name))
        notes.append(f"{NEXT}{after[0].name}: `{command}`")
    behind = () if until else left_behind(session, release, channel)
    return replace(result, notes=[*filter(None, notes), *behind])


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
        **({"break_glass": record.break_glass} if record.break_glass else {}),
    }
    return StageResult(
        stage="promote",
        subject=release.key,
        action=f"{record.channel} names it" + (" now" if done.changed else " (unchanged)"),
        digest=release.digest,
        changed=done.changed,
        seconds=time.monotonic() - started,
        facts=facts,
        alerts=[f"BREAK-GLASS: {each}" for each in done.accepted],
        notes=[f"{record.promoted_by} promoted it before, at {record.time}"] if other else [],
    )


@dataclass(frozen=True)
class ChannelState:
    """How a release stands with one channel, in plain words."""

    name: str
    state: str
    why: tuple[str, ...] = ()
    """What keeps it from there, one sentence each."""


def standings(session: Session, release: Release) -> list[ChannelState]:
    """How a release stands with each channel of its image, in order; of the one it comes to next what the gate says
    now. Nothing is written. Raises RegistryError."""
    image, place = session.image(release.image), session.source(release)
    came = [each.name for each in reached(session, release)] if session.keys.trusted_if_any() else []
    coming, found = next_channel(session, release), []
    for channel in image.order:
        if digest_at(place, channel.name) == release.digest:
            found.append(ChannelState(channel.name, "names it"))
        elif channel.name in came:
            found.append(ChannelState(channel.name, "named it before"))
        elif len(image.order) == 1 or channel != coming:
            found.append(ChannelState(channel.name, "does not name it"))
        else:
            found.append(_coming_to(session, release, channel))
    return found


def _coming_to(session: Session, release: Release, channel: Channel) -> ChannelState:
    try:
        promoted_already(session, release, channel)
    except PromotionHeld as held:
        return ChannelState(channel.name, f"{held_text(held.state)}: {held.reasons[0]}", tuple(held.reasons))
    except PromotionDenied as denied:
        return ChannelState(channel.name, f"may not come there: {denied.reasons[0]}", tuple(denied.reasons))
    return ChannelState(channel.name, WAITS if channel.promote == "manual" else "may come there")


def goes_on(session: Session, release: Release) -> str:
    """The channel that a release may come to by itself now; empty for none. Nothing is written. Raises
    RegistryError."""
    coming = next_channel(session, release)
    if coming is None or coming.promote != "auto":
        return ""
    state = _coming_to(session, release, coming)
    newer = channels.newer_on(session.source(release), release, session.verifier(), channel=coming.name)
    return "" if state.why or newer else coming.name


def start_problems(session: Session, release: Release) -> list[str]:
    """What keeps a release that is allowed from the channel it comes to next by the way it starts: what is missing, too
    large or too slow; empty where its policy asks nothing. Read from the registry now. Raises ContentError,
    RegistryError."""
    image, place = session.image(release.image), session.source(release)
    policy = session.policy_of(image, next_channel(session, release) or image.order[-1])
    if not policy.asks_about_start:
        return []
    top = place.registry.get_manifest(place.repository, release.digest)
    platforms = {str(entry.digest): str(entry.platform) for entry in images_of(read_entries(place, top))}
    return starts_within(platforms, read_starts(place, platforms, policy, session.verifier()), policy).reasons


def promotion_steps(session: Session, release: Release, channel: str) -> list[str]:
    """What would let a release come to a channel where the gate lets it not; empty for one that it lets. Nothing is
    written. Raises RegistryError."""
    try:
        with denials_with_next_steps(session, release, channel=channel):
            promoted_already(session, release, channel_of(session.image(release.image), channel))
    except PromotionDenied as denied:
        return denied.next_steps
    return []


def require_allowed(session: Session, release: Release) -> None:
    """Raise PromotionDenied unless the gate lets a release be run here: by the policy of the channel it comes to next,
    or of one that it came to."""
    image = session.image(release.image)
    coming = next_channel(session, release) or image.order[-1]
    with denials_with_next_steps(session, release, channel=coming.name):
        policy = session.policy_of(image, coming)
        ask_to_run(session.source(release), release, policy, session.verifier(), now=session.now())


def require_promoted(session: Session, release: Release, *, target: str = "") -> list[str]:
    """Raise PromotionDenied unless the gate lets a release leave its source registry; what the verdict accepted.

    target: where to; then one of the channels that have it must let it. Otherwise any may.
    """
    image = session.image(release.image)
    wanted = going_to(image.order, target) if target else image.order
    there = [each for each in reached(session, release) if each in wanted] if len(image.order) > 1 else []
    denials: list[PromotionDenied] = []
    for channel in reversed(there or wanted[-1:]):
        try:
            return leaves_from(session, release, channel)
        except PromotionDenied as denied:
            denials.append(denied)
    raise denials[0]


def broken_glass(accepted: Sequence[str]) -> list[str]:
    """What is said loudly of a copy that may leave through a break-glass alone. accepted: what the gate answered."""
    by_glass = accepted and accepted[0].startswith(GLASS)
    return [f"BREAK-GLASS: {each}" for each in accepted] if by_glass else []


def leaves_from(session: Session, release: Release, channel: Channel) -> list[str]:
    """The same, by one channel."""
    with denials_with_next_steps(session, release, channel=channel.name):
        return ask_to_leave(
            session.source(release),
            release,
            session.policy_of(session.image(release.image), channel),
            session.verifier(),
            channel=channel.name,
            now=session.now(),
        )
