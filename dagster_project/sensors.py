"""Sensors that find releases, and what all sensors of releases share.

The cursor is the truth about what was asked for (:mod:`dagster_project.memory`). A sensor that raises keeps its old
cursor: a registry that is down fails the tick, visibly, and the next one starts from the same place. Trouble with one
image or one release is told in the tick's log and holds nothing else up.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Generic, Protocol, TypeAlias, TypeVar

import dagster as dg

from dagster_project.memory import Memory, fingerprint, recall
from dagster_project.moving import whole_keys
from dagster_project.partitions import PARTITION_TAG, RELEASES, release_keys, under_way
from dagster_project.people import PROMOTE_JOB
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, EcrRegistry, GarRegistry, Image
from registry_pipelines.config.events import PubSubEvents, SqsEvents
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.tags import OrderKey, order_key
from registry_pipelines.progress import count_text
from registry_pipelines.release import Release

LOOKS_PER_RECONCILE = 20
"""Every so many looks the sensor also finds runs that were lost and keys whose release is gone."""
MAX_ATTEMPTS = 3
"""Runs asked for one release before a person has to look: a step retries network trouble by itself already."""
LONGEST_LOOK_S = 30
"""Seconds after which a look begins nothing more: Dagster ends a tick after 60 s and forgets it, so that the next would
take as long again. What was not reached comes first in the next look."""

MAX_RUNS = 5000
"""Failed runs that are looked at after a cursor was reset, the newest."""

UNFINISHED_DAYS = 1
"""A run that failed longer ago is a person's: three were asked for by then."""

MAX_RUNS_OF_ONE = 10
"""The newest runs about one release that are looked at."""

Found = TypeVar("Found")
"""What an image's registry answers to a sensor's question."""

Part = TypeVar("Part")
"""What one part of it is."""

Known: TypeAlias = dict[str, Release]
"""Partition keys and their releases, in the order they were added."""


def by_version(release: Release) -> tuple[str, OrderKey]:
    """Sort key: images together, versions as people count them (v1.9 before v1.10, rc before the release): the newest
    is promoted last."""
    return release.image, order_key(release.tag)


def materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """Partition keys of an asset that were ever materialized."""
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def known_releases(chain: Chain, keys: Sequence[str], images: Collection[str]) -> Known:
    """The releases of some images by partition key, in the order of the keys. What the state folder does not know is
    left out: somebody typed it in the UI, or the folder was lost."""
    releases = chain.known_keys()
    return {key: releases[key] for key in keys if key in releases and releases[key].image in images}


@dataclass
class Look(Generic[Found]):
    """What a look at source registries found. found: by image, those that answered. silent: those that did not, with
    what went wrong. rest: images that were not reached in time."""

    found: dict[str, Found] = field(default_factory=dict)
    silent: dict[str, RegistryPipelinesError] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def only(self, part: Callable[[Found], Part]) -> "Look[Part]":
        """The same with a part of each answer."""
        return Look({name: part(found) for name, found in self.found.items()}, self.silent, self.rest)

    def notes(self) -> list[str]:
        """What was left out, in words."""
        troubles = [f"{name} cannot be looked at: {error}" for name, error in self.silent.items()]
        return [*troubles, *([f"next time: {', '.join(self.rest)}"] if self.rest else [])]


class Rounds(Protocol):
    """Remembers what the last look ended with, where it did not reach everything."""

    last: str


def look_at(images: Sequence[str], memory: Rounds, ask: Callable[[str], Found]) -> Look[Found]:
    """Ask about images, one after another, where the last look stopped. Raises the first error when none answers: then
    it is the registry's."""
    order = next_after(images, memory.last, len(images))
    look, started = Look[Found](), monotonic()
    for place, name in enumerate(order):
        if place and monotonic() - started >= LONGEST_LOOK_S:
            look.rest = order[place:]
            break
        try:
            look.found[name] = ask(name)
        except RegistryPipelinesError as error:  # one repository's trouble must not hide the pushes to the others
            look.silent[name] = error
    if look.silent and not look.found and not look.rest:
        raise next(iter(look.silent.values()))
    memory.last = order[-len(look.rest) - 1] if look.rest else ""
    return look


def look_for_pushed(
    context: dg.SensorEvaluationContext, chain: Chain, images: Sequence[str], memory: Memory, cap: int
) -> dg.SensorResult:
    """One look of the push sensor: new releases, and every so many looks the lost and the gone. What an image has when
    it is looked at first was there before: it gets its partition, and no run unless it was let go already."""
    if whole := whole_keys(release_keys(context.instance)):
        return make_first(context, whole)
    reconcile = (memory.looks + 1) % LOOKS_PER_RECONCILE == 0
    return result_of(context, list_pushed(context, chain, images, memory, cap, reconcile=reconcile), memory)


def make_first(context: dg.SensorEvaluationContext, whole: Sequence[str]) -> dg.SensorResult:
    """Nothing is looked at before the keys of earlier versions are renamed."""
    return dg.SensorResult(skip_reason=f"{count_text(len(whole), 'short key')} to be made first", cursor=context.cursor)


@dataclass
class Pushes:
    """What follows from a look. requests: runs to ask for. left: images of which more are new than one look asks for.
    silent: those that did not answer. live: how many releases were found. notes: what a person should know."""

    requests: list[dg.RunRequest]
    added: list[str]
    gone: list[str]
    left: set[str]
    silent: set[str]
    live: int
    notes: list[str]


def list_pushed(
    context: dg.SensorEvaluationContext,
    chain: Chain,
    images: Sequence[str],
    memory: Memory,
    cap: int,
    *,
    reconcile: bool,
) -> Pushes:
    """Look at everything. The partitions are read before the registry is: a build that pushes in between is then new,
    never gone."""
    partitions = release_keys(context.instance)
    skipped = () if reconcile else known_releases(chain, partitions, images).values()
    look = look_at(images, memory, lambda name: list(chain.releases([name], known=skipped)))
    first = memory.look_first({name: what_is_sought(chain.config.images[name]) for name in images}, look.found)
    memory.looks += 1
    return follow(context, chain, images, memory, cap, partitions, look, first=first, reconcile=reconcile)


def follow(
    context: dg.SensorEvaluationContext,
    chain: Chain,
    images: Sequence[str],
    memory: Memory,
    cap: int,
    partitions: Sequence[str],
    look: Look[list[Release]],
    *,
    first: Collection[str] = (),
    gone: Sequence[str] = (),
    reconcile: bool = False,
) -> Pushes:
    """What a look leads to, noted in the memory. A digest keeps the key it got first, whatever further tags it gets.
    What a lost state folder does not know is known again when its release has been found. partitions: read before the
    look. first: images that were looked at first. gone: keys whose releases are known to be gone. reconcile: the look
    saw all there is of the images that answered."""
    instance, gone = context.instance, list(gone)
    keys = {(each.image, each.digest): key for key, each in known_releases(chain, partitions, images).items()}
    releases = sorted((each for found in look.found.values() for each in found), key=by_version)
    named = chain.keys_of(each for each in releases if (each.image, each.digest) not in keys)
    live = [named[each] if each in named else keys[each.image, each.digest] for each in releases]
    known = known_releases(chain, partitions, images)
    memory.rename({release.key: key for key, release in known.items()})
    new = untried(instance, known, live, memory)
    before = there_before(instance, new, first)
    before -= let_go_before(
        context, chain, {key: each for key, each in zip(live, releases, strict=True) if key in before}
    )
    memory.pass_over(before)
    wanted = [key for key in new if key not in before]
    if reconcile:
        present, answered = set(live), {release.image for release in releases}
        # A registry that no longer lets us see a repository answers as if it were empty: nothing is removed then.
        gone += [key for key in partitions if image_of(key) in answered and key not in present]
        wanted += lost(instance, known, present, memory)
        wanted += unfinished(instance, known, present, memory)
        memory.keep({*present, *known}.difference(gone))
    # Dagster fails a tick that names one key twice, and then every tick after it.
    wanted = list(dict.fromkeys(wanted))
    requests = [memory.ask(key) for key in wanted[:cap]]
    added = [*(key for key in new if key in before), *(str(request.partition_key) for request in requests)]
    passed = f"{len(before)} release{'s were' if len(before) > 1 else ' was'} there before: not run"
    notes = [*([passed] if before else []), *look.notes()]
    left = {image_of(key) for key in wanted[cap:]}
    return Pushes(requests, added, gone, left, {*look.silent, *look.rest}, len(live), notes)


def result_of(context: dg.SensorEvaluationContext, found: Pushes, memory: Memory) -> dg.SensorResult:
    """What the tick answers."""
    for note in found.notes:
        context.log.warning("%s", note)
    added = [RELEASES.build_add_request(found.added)] if found.added else []
    reason = "; ".join([f"{count_text(found.live, 'release')}, none new", *found.notes])
    return dg.SensorResult(
        run_requests=found.requests,
        dynamic_partitions_requests=[*added, *([RELEASES.build_delete_request(found.gone)] if found.gone else [])],
        skip_reason=None if found.requests else reason,
        cursor=memory.write(),
    )


def untried(instance: dg.DagsterInstance, known: Known, live: Sequence[str], memory: Memory) -> list[str]:
    """Releases that no run was asked for, here or by anybody else: what was run by hand or by the demonstration is
    noted as tried, and what is superseded too: after the cursor was reset everything looks new."""
    new = [key for key in dict.fromkeys(live) if not memory.noted(key)]
    settled = settled_releases(instance, known) if new else set()
    for key in settled.intersection(new):
        memory.ask(key)
    return [key for key in new if key not in settled]


def what_is_sought(image: Image) -> str:
    """What a look at an image looks for. When that changes, what is there then was there before: a pattern that takes
    more tags is no push."""
    return fingerprint(" ".join([image.registry, image.repository, *image.tags, *image.forms]))


def image_of(key: str) -> str:
    """The image of a partition key."""
    return key.partition(":")[0]


def there_before(instance: dg.DagsterInstance, new: Sequence[str], first: Collection[str]) -> set[str]:
    """The new releases of images that are looked at first, of which no run of ours was ever about. The others have one
    that ended without a verdict: after the cursor was reset they are asked for again."""
    keys = {key for key in new if image_of(key) in first}
    if not keys:
        return keys
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
    return keys.difference(run.tags.get(PARTITION_TAG, "") for run in instance.get_runs(filters=failed, limit=MAX_RUNS))


def let_go_before(context: dg.SensorEvaluationContext, chain: Chain, before: Known) -> set[str]:
    """Those of the releases that were there before that were let go with signed evidence, and are under their channel:
    the command line did that. A run, which changes nothing, is their page in the UI."""
    return {key for key in named_by_channels(context, chain, before) if is_let_go(chain, before[key])}


def is_let_go(chain: Chain, release: Release) -> bool:
    """Whether signed evidence says so; where that cannot be read now, it is not known."""
    try:
        chain.require_promoted(release)
    except RegistryPipelinesError:
        return False
    return True


def named_by_channels(context: dg.SensorEvaluationContext, chain: Chain, releases: Known) -> dict[str, str]:
    """Those of the releases that their channel names now, by key, and the digest."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(release.image for release in releases.values()):
        try:
            named = set(chain.on_channels(name).values())
        except RegistryPipelinesError as error:  # one repository's trouble must not hold the others
            context.log.warning("%s: its channel cannot be read: %s", name, error)
            continue
        found |= {key: each.digest for key, each in releases.items() if each.image == name and each.digest in named}
    return found


def lost(instance: dg.DagsterInstance, known: Known, present: set[str], memory: Memory) -> list[str]:
    """Releases that were asked for but neither reached a verdict nor have a run that is under way: the run was lost, or
    failed for reasons of the machinery. Not those that were tried often enough, nor the superseded, nor those whose
    newest run a person ended (a run that its machine ends is a failure for Dagster)."""
    settled = settled_releases(instance, known)
    keys = [key for key in known if key in present and 0 < memory.tried(key) < MAX_ATTEMPTS and key not in settled]
    return [key for key in keys if _newest(instance, key) is not dg.DagsterRunStatus.CANCELED]


def unfinished(instance: dg.DagsterInstance, known: Known, present: set[str], memory: Memory) -> list[str]:
    """Releases that were promoted, and whose newest run failed before they were everywhere: its worker died once too
    often, or a registry did not answer for longer than a step tries. Not those that were tried often enough."""
    since = datetime.now(UTC) - timedelta(days=UNFINISHED_DAYS)
    failures = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    failed = {run.tags.get(PARTITION_TAG, "") for run in instance.get_runs(filters=failures, limit=MAX_RUNS)}
    keys = [key for key in known if key in present and key in failed and 0 < memory.tried(key) < MAX_ATTEMPTS]
    if not keys:
        return []
    promoted, busy = materialized(instance, "promotion"), under_way(instance) | superseded(instance, known)
    over = [key for key in keys if key in promoted and key not in busy]
    return [key for key in over if _newest(instance, key) is dg.DagsterRunStatus.FAILURE]


def _newest(instance: dg.DagsterInstance, key: str) -> dg.DagsterRunStatus | None:
    """How the newest of a release's runs that take it everywhere stands."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={PARTITION_TAG: key}), limit=MAX_RUNS_OF_ONE)
    return next((run.status for run in runs if run.job_name in ("release", PROMOTE_JOB)), None)


def settled_releases(instance: dg.DagsterInstance, known: Known) -> set[str]:
    """Keys that no push asks a run for: judged, under way, or superseded."""
    return materialized(instance, "verdict") | under_way(instance) | superseded(instance, known)


def superseded(instance: dg.DagsterInstance, known: Known) -> set[str]:
    """Releases that were found before one that their image promoted. A sensor that promoted them would take the channel
    tag back: a rollback nobody asked for."""
    promoted = materialized(instance, "promotion")
    latest = {release.image: place for place, (key, release) in enumerate(known.items()) if key in promoted}
    return {key for place, (key, release) in enumerate(known.items()) if place < latest.get(release.image, -1)}


def at_start(config: Config) -> dg.DefaultSensorStatus:
    """Whether a sensor is on before anybody touched it in the UI."""
    return dg.DefaultSensorStatus.RUNNING if config.sensors.running else dg.DefaultSensorStatus.STOPPED


def push_sensors(config: Config, job: Job) -> list[dg.SensorDefinition]:
    """One sensor per source registry, so that one that is down does not hide the pushes to the others. Those that tell
    of their pushes have theirs in ``told``."""
    sources = dict.fromkeys(image.registry for image in config.images.values())
    return [push_sensor(config, registry, job) for registry in sources if events_of(config, registry) is None]


def events_of(config: Config, registry: str) -> SqsEvents | PubSubEvents | None:
    """The queue that a registry's events come from; None where it tells nothing."""
    settings = config.registries[registry]
    return settings.events if isinstance(settings, EcrRegistry | GarRegistry) else None


def push_sensor(config: Config, registry: str, job: Job) -> dg.SensorDefinition:
    """The sensor that finds releases in a source registry."""
    images = [name for name, image in config.images.items() if image.registry == registry]

    @dg.sensor(
        name=f"push_{registry.replace('-', '_')}",
        job=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description=f"New version tags in {registry} ({', '.join(images)}): adds the release's partition and asks for "
        "its run, at most "
        f"{config.sensors.max_requests} at a time. Finds lost runs and gone releases too.",
    )
    def push(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_pushed(context, chain, images, recall(context), config.sensors.max_requests)

    return push


def next_after(keys: Sequence[str], last: str, count: int) -> list[str]:
    """The next ``count`` in a circle that starts after key ``last``."""
    start = keys.index(last) + 1 if last in keys else 0
    return [*keys[start:], *keys[:start]][:count]
