"""Sensors of registries that tell of their pushes themselves: a message names a tag, and the registry is asked.

Messages are dropped by the tick after the one that acted on them: by then the cursor holds what they told. A daemon
that is killed in between gets them again, and asks with the same run keys, which Dagster serves once. Registries are
listed all the same now and then, for events are best effort.
"""

from collections.abc import Collection, Sequence
from time import time

import dagster as dg

from dagster_project.memory import Memory, recall
from dagster_project.moving import whole_keys
from dagster_project.partitions import release_keys, under_way
from dagster_project.report import Metadata
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import (
    Pushes,
    at_start,
    events_of,
    follow,
    known_releases,
    list_pushed,
    look_at,
    make_first,
    materialized,
    result_of,
    superseded,
    what_is_sought,
)
from registry_pipelines.chain import Chain
from registry_pipelines.chain.events import Heard
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.events.told import Fact
from registry_pipelines.release import Release

HELD_INTERVALS = 12
"""A message is held for so many intervals: the next tick drops it, and one that fails gets it again soon."""
MAX_MESSAGES = 100
"""Taken by one tick: their receipts, some 400 bytes each, stand in the cursor."""
SHORTEST_HOLD_S = 120
"""A tick has 60 s, and the next begins after it."""


def told_sensors(config: Config, job: Job) -> list[dg.SensorDefinition]:
    """One sensor for each registry that has events."""
    return [told_sensor(config, name, job) for name in config.registries if events_of(config, name) is not None]


def told_sensor(config: Config, registry: str, job: Job) -> dg.SensorDefinition:
    """The sensor that hears of releases in a registry, and of what happens to them there."""
    images = [name for name, image in config.images.items() if image.registry == registry]
    events = events_of(config, registry)
    assert events is not None  # noqa: S101  for mypy; see told_sensors
    seconds = max(1, int(events.interval.total_seconds()))
    about = ", ".join(images) or "copies alone"

    @dg.sensor(
        name=f"push_{registry.replace('-', '_')}",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=at_start(config),
        description=f"What {registry} tells of {about}: pushes, each of which gets its partition and its run, at most "
        f"{config.sensors.max_requests} at a time; scans and replications. It is listed every {events.reconcile} too.",
    )
    def push(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        hold_s = max(SHORTEST_HOLD_S, HELD_INTERVALS * seconds)
        return look_for_told(context, chain, registry, images, recall(context), hold_s=hold_s)

    return push


def look_for_told(
    context: dg.SensorEvaluationContext,
    chain: Chain,
    registry: str,
    images: Sequence[str],
    memory: Memory,
    *,
    hold_s: int,
) -> dg.SensorResult:
    """One look: what the queue tells, or everything when that is due. A queue that does not answer is said, and its
    registry is listed at the usual interval."""
    if whole := whole_keys(release_keys(context.instance)):
        return make_first(context, whole)
    cap, now = min(chain.config.sensors.max_requests, MAX_MESSAGES), time()
    drop(context, chain, registry, memory)
    heard, notes = listen(chain, registry, most=cap, hold_s=hold_s)
    if is_due(chain.config, registry, images, memory, now, silent=heard is None):
        found = list_pushed(context, chain, images, memory, cap, reconcile=True)
        memory.listed_s = memory.listed_s if memory.last else now
    elif heard is not None and heard.images:
        found = ask_about(context, chain, images, memory, cap, heard)
    else:
        found = Pushes([], [], [], set(), set(), 0, [])
    found.notes += notes
    if heard is None:
        return result_of(context, found, memory)
    memory.receipts = heard.receipts_without({*found.left, *found.silent})
    found.notes += heard.notes
    known = known_releases(chain, release_keys(context.instance), list(chain.config.images)) if heard.facts else {}
    found.notes += [f"{fact.repository}: {fact.said} ({fact.digest[:19]})" for fact, _ in heard.facts if not fact.ok]
    asked = {request.partition_key for request in found.requests}
    for key, said in scanned_again(context.instance, chain, heard, known).items():
        if key not in asked and len(found.requests) < cap:
            run_key = f"{key}#scan {said}#{memory.life}"
            found.requests.append(dg.RunRequest(run_key=run_key, partition_key=key))
    result = result_of(context, found, memory)
    return result._replace(asset_events=[*shown(chain.config, registry, heard.facts, known)])


def drop(context: dg.SensorEvaluationContext, chain: Chain, registry: str, memory: Memory) -> None:
    """Acknowledge what the cursor that this tick was given holds. What cannot be dropped comes again, and is known."""
    receipts, memory.receipts = memory.receipts, []
    if not receipts:
        return
    try:
        chain.acknowledge(registry, receipts)
    except RegistryPipelinesError as error:
        context.log.warning("messages cannot be acknowledged and come again: %s", error)


def listen(chain: Chain, registry: str, *, most: int, hold_s: int) -> tuple[Heard | None, list[str]]:
    """What the queue tells; None and why when it does not answer."""
    try:
        return chain.hear(registry, most=most, hold_s=hold_s), []
    except RegistryPipelinesError as error:
        return None, [f"its events cannot be read: {error}"]


def is_due(config: Config, registry: str, images: Sequence[str], memory: Memory, now: float, *, silent: bool) -> bool:
    """Whether everything is to be looked at: the time has come, an image was never looked at, or the last look did not
    reach all."""
    events = events_of(config, registry)
    if not images or events is None:
        return False
    wait = config.sensors.interval if silent else events.reconcile
    looked_for = memory.looked_for or {}
    new = any(looked_for.get(name) != what_is_sought(config.images[name]) for name in images)
    return new or bool(memory.last) or not 0 <= now - memory.listed_s < wait.total_seconds()


def ask_about(
    context: dg.SensorEvaluationContext,
    chain: Chain,
    images: Sequence[str],
    memory: Memory,
    cap: int,
    heard: Heard,
) -> Pushes:
    """Ask the registry for the tags and digests that messages named."""
    partitions = release_keys(context.instance)
    known = known_releases(chain, partitions, images)

    def ask(name: str) -> tuple[list[Release], list[str]]:
        named = chain.releases([name]) if name in heard.whole else chain.releases_named(name, heard.tags.get(name, ()))
        deleted = heard.gone.get(name, ())
        told = {key: each for key, each in known.items() if each.image == name and each.digest in deleted}
        return list(named), [key for key, each in told.items() if not chain.is_there(each)]

    look = look_at(heard.images, Memory(), ask)
    gone = [key for _, keys in look.found.values() for key in keys]
    found = look.only(lambda answer: answer[0])
    pushes = follow(context, chain, images, memory, cap, partitions, found, gone=gone)
    memory.forget(gone)
    return pushes


def scanned_again(
    instance: dg.DagsterInstance, chain: Chain, heard: Heard, known: dict[str, Release]
) -> dict[str, str]:
    """Releases that have a verdict, were not let go, and of which a scan has ended since, by key, and what that said:
    the verdict may have waited for it. Those that are out are looked at by the nightly rescan."""
    told = {fact.digest: f"{fact.at} {fact.said}" for fact, _ in heard.facts if fact.topic == "scan"}
    if not told:
        return {}
    judged = materialized(instance, "verdict")
    out = materialized(instance, "promotion") | under_way(instance) | superseded(instance, known)
    found: dict[str, str] = {}
    for key, release in known.items():
        if key not in judged or key in out or release.image not in heard.scanned:
            continue
        about = [told[digest] for digest in digests_of(chain, release, told) if digest in told]
        if about:
            found[key] = max(about)
    return found


def digests_of(chain: Chain, release: Release, told: Collection[str]) -> list[str]:
    """The digest of a release, or those of its platforms' images: scanners look at these."""
    if release.digest in told:
        return [release.digest]
    try:
        return [str(digest) for digest in chain.platform_digests(release)]
    except RegistryPipelinesError:
        return []


def shown(
    config: Config, registry: str, facts: Sequence[tuple[Fact, tuple[str, ...]]], known: dict[str, Release]
) -> list[dg.AssetObservation]:
    """What the registry told about releases, on the pages of their assets."""
    targets = [name for name, target in config.targets.items() if target.registry == registry]
    keys = {(release.image, str(release.digest)): key for key, release in known.items()}
    events: list[dg.AssetObservation] = []
    for fact, images in facts:
        for name in dict.fromkeys(images):
            key = keys.get((name, fact.digest))
            if key is None:
                continue
            if fact.topic == "scan":
                places = [dg.AssetKey("vulnerabilities")]
            elif fact.topic == "replication":
                places = [dg.AssetKey(["replica", each]) for each in config.images[name].targets if each in targets]
            else:
                continue
            events += [observed(place, key, fact) for place in places]
    return events


def observed(asset: dg.AssetKey, key: str, fact: Fact) -> dg.AssetObservation:
    """One fact as an event of an asset's partition."""
    words: Metadata = {"said": fact.said, "at": fact.at, "from": fact.source, "registry": fact.registry, "ok": fact.ok}
    verb = "scan" if fact.topic == "scan" else "replication"
    return dg.AssetObservation(asset, partition=key, metadata=words, description=f"{verb}: {fact.said}")
