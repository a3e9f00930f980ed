"""The way of a release to a channel: where it comes from, how long it was there, who approved it. Read from the
registry, and held against what the channel asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry_pipelines.deploying.record import DeploymentRecord, latest, read_deployments
from registry_pipelines.errors import DigestInvalid
from registry_pipelines.evidence.model import Attestations, Verifier, key_name
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.attestors import Expression, choices, names_in, read_expression
from registry_pipelines.promote.distinct import without_own_key
from registry_pipelines.promote.documents import TIME_FORMAT, PromotionRecord, Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.order import Channel, channel_before
from registry_pipelines.promote.standing import Standing, records
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.settings import Duration

if TYPE_CHECKING:  # few channels ask
    from registry_pipelines.promote.approvals import Approvals

LAST = datetime.max.replace(tzinfo=UTC)
"""After every record."""

MAX_WALKED = 50
"""Promotions of the channel before that are walked back to find when a release left it."""


@dataclass(frozen=True)
class Way:
    """How a release comes to a channel, as signed records show it now."""

    channel: Channel
    before: str = ""
    """The channel that it comes from; empty for the first."""
    stayed: timedelta = timedelta()
    """The longest time that it was under that channel without a break; read only where the channel asks."""
    unapproved: tuple[tuple[str, str], ...] = ()
    """Each capacity that the channel wants an approval of and none counts in, and why."""
    deployed: Mapping[str, DeploymentRecord | None] = field(default_factory=dict)
    """Of each deployment that the channel asks for the newest note about the release; None for none."""


def read_way(
    place: Place,
    standing: Standing,
    order: Sequence[Channel],
    channel: Channel,
    known: Attestations,
    verifier: Verifier,
    *,
    now: datetime,
    attestors: str = "",
) -> Way:
    """Read what ``channel`` asks of the way. order: all channels of the image. known: what was read and verified about
    the release's digest. attestors: that the channel's policy names; whose key approved as one of them has said its
    word. Raises RegistryError."""
    before, release = channel_before(order, channel.name), standing.release
    if returns(standing, channel.name):
        return Way(channel, before)
    unapproved: list[tuple[str, str]] = []
    if channel.approvals:
        from registry_pipelines.promote.approvals import read_approvals  # few channels ask

        approvals = read_approvals(place, release.digest, verifier, known=known)
        unapproved = list(_unapproved(channel, approvals, release.image, now, _vouching(attestors, verifier)))
    stayed = timedelta()
    if channel.after is not None and before:
        stays = _stays(place, standing, before, verifier, now)
        for stay in stays:
            stayed = max(stayed, stay)
            if stayed >= channel.after:
                break
    deployed: dict[str, DeploymentRecord | None] = {}
    if channel.deployed is not None:
        notes = read_deployments(known, release.digest, now)
        deployed = {name: latest(notes, name, release.image) for name in channel.deployed.names}
    return Way(channel, before, stayed, tuple(unapproved), deployed)


def _vouching(attestors: str, verifier: Verifier) -> Expression | None:
    """The attestors of a policy, where one of them approves."""
    expression = read_expression(attestors) if attestors else None
    known = (verifier.attestor(name) for name in names_in(expression)) if expression else ()
    return expression if any("approval" in each.attests for each in known if each) else None


def _unapproved(
    channel: Channel, approvals: Approvals, image: str, now: datetime, vouching: Expression | None
) -> Iterator[tuple[str, str]]:
    """Each capacity that nobody's approval counts in, and why; the same key counts in one of them, or as one of the
    attestors whose approval the policy wants."""

    def keys_as(capacity: str) -> frozenset[str]:
        return frozenset(each.key_id for each in approvals.standing(capacity, image=image, now=now))

    given: dict[str, frozenset[str]] = {}
    for capacity in channel.approvals:
        if why := approvals.why_none(capacity, image=image, now=now):
            yield capacity, why
        else:
            given[capacity] = keys_as(capacity)
    said = {name: keys for name in (names_in(vouching) if vouching else ()) if (keys := keys_as(name))}
    ways = choices(vouching, said) if vouching else iter([frozenset[str]()])
    shared = [list(_sharing({name: said[name] for name in sorted(way)}, given)) for way in ways]
    yield from min(shared, key=len, default=[])


def _sharing(before: Mapping[str, frozenset[str]], given: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    """The capacities that no key is left for, when those of ``before`` have theirs."""
    left = {**before, **given}
    while (name := without_own_key(left)) is not None:
        keys = ", ".join(key_name(key) for key in sorted(left.pop(name)))
        if name in given:
            yield name, f"it was approved by {keys} alone, which counts in another capacity: one key counts once"


def returns(standing: Standing, channel: str) -> bool:
    """Whether the gate let the release come to a channel before, so that it goes back there by its policy alone: in
    trouble nobody waits for hours and persons a second time. What a break-glass let in does not count."""
    return any(not each.break_glass for each in standing.promotions(channel))


def enters(standing: Standing, way: Way) -> Outcome:
    """What speaks against a release that its policy allows, by the way it comes. Not from the channel before, or it did
    not come up where it must have run: denied. Else ``held`` says what is still missing: ``time``, ``deployment`` or
    ``approval``."""
    channel, outcome = way.channel, Outcome()
    if returns(standing, channel.name):
        return outcome
    if way.before and not returns(standing, way.before):
        why = f"order: {channel.name} comes after {way.before}, and the gate never let this release be there"
        return Outcome([why], [Step(kind="promote", about=(way.before,))])
    down = [record for record in way.deployed.values() if record and record.outcome != "running"]
    for record in down:
        why = (
            f"deployment: it did not come up at {record.deployment} ({record.time}): {'; '.join(record.reasons)[:300]}"
        )
        outcome.reasons.append(why)
        outcome.steps.append(Step(kind="deploy", about=(record.deployment,)))
    if down:
        return outcome
    for capacity, why in way.unapproved:
        outcome.reasons.append(f"approval: {channel.name} wants one as {capacity}: {why}")
        outcome.steps.append(Step(kind="approve", about=(capacity,)))
        outcome.held = "approval"
    _ran(way, outcome)
    if channel.after is not None and way.stayed < channel.after:
        left = Duration(seconds=int((channel.after - way.stayed).total_seconds()) or 1)
        outcome.reasons.append(
            f"time: {channel.name} wants {channel.after} under {way.before} without a break, it was there for "
            f"{_spoken(way.stayed)}"
        )
        outcome.steps.append(Step(kind="wait", about=(f"{_spoken(left)} under {way.before}",)))
        outcome.held = outcome.held or "time"
    return outcome


def _ran(way: Way, outcome: Outcome) -> None:
    """Hold a release that did not run long enough, or that nobody read back."""
    asked = way.channel.deployed
    for name, record in way.deployed.items() if asked else ():
        if asked is None or (record and record.ran >= asked.run_for):
            continue
        if record is None:
            why = f"deployment: {way.channel.name} wants it at {name}, and nobody read back that it runs there"
            outcome.steps.append(Step(kind="deploy", about=(name,)))
        else:
            why = (
                f"deployment: {way.channel.name} wants it at {name} for {asked.run_for} without a break, it was seen "
                f"there for {_spoken(record.ran)} (last {record.time})"
            )
            outcome.steps.append(Step(kind="deploy", about=(f"{name} {asked.run_for} after {record.since}",)))
        outcome.reasons.append(why)
        outcome.held = outcome.held or "deployment"


def releases_before(place: Place, release: Release, channel: str, verifier: Verifier) -> list[Release]:
    """What a channel named before a release came to it, the latest first, each once, as the chain of signed records
    shows it. Raises RegistryError."""
    found: dict[Digest, Release] = {}
    for put in _walk(place, release.digest, release.image, channel, verifier, LAST):
        if put.to_digest != release.digest:
            found.setdefault(put.to_digest, Release(release.image, put.version, put.to_digest))
    return list(found.values())


def _stays(place: Place, standing: Standing, channel: str, verifier: Verifier, now: datetime) -> Iterator[timedelta]:
    """How long a release was under a channel, each time, the newest first: until now, or until the record of the
    release that took its place. What no chain of signed records shows counts for nothing."""
    named, end = digest_at(place, channel), now.astimezone(UTC)
    for put in _walk(place, named, standing.release.image, channel, verifier, end) if named else ():
        if put.to_digest == standing.release.digest:
            yield end - _moment(put)
        if put.from_digest != put.to_digest:  # a second record of the same move begins no new stay
            end = _moment(put)


def _walk(
    place: Place, named: Digest, image: str, channel: str, verifier: Verifier, bound: datetime
) -> Iterator[PromotionRecord]:
    """The records of a channel backwards, each about what the one after it came from, as far as that is unbroken.
    named: the digest to begin with. bound: no record is after it."""
    walked: set[PromotionRecord] = set()
    for _ in range(MAX_WALKED):
        found = [each for each in _promotions(place, named, image, channel, verifier) if each not in walked]
        put = max((each for each in found if _moment(each) <= bound), key=_moment, default=None)
        if put is None:
            return
        walked.add(put)  # several may be of one second
        yield put
        bound = _moment(put)
        try:
            named = Digest.parse(put.from_digest)
        except DigestInvalid:  # empty for the first release of a channel
            return


def _promotions(place: Place, digest: Digest, image: str, channel: str, verifier: Verifier) -> list[PromotionRecord]:
    found = (record for record, _ in records(place, digest, verifier))
    return [each for each in found if (each.image, each.channel) == (image, channel)]


def _moment(record: PromotionRecord) -> datetime:
    return datetime.strptime(record.time, TIME_FORMAT).replace(tzinfo=UTC)


def _spoken(length: timedelta) -> str:
    """``2 d 3 h``, ``25 min``: the two largest units."""
    minutes = int(length.total_seconds()) // 60
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    told = [f"{count} {unit}" for count, unit in parts if count][:2]
    return " ".join(told) or f"{int(length.total_seconds())} s"
