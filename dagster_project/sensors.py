"""Sensors: releases that appeared, and releases that may ship now.

The cursor is the truth about what was asked for. Dagster keeps a ``run_key`` for ever, also after a failed run, so each
key here ends with the number of the attempt. A sensor that raises keeps its old cursor: trouble with a registry fails
the tick, visibly, and the next one starts from the same place.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256

import dagster as dg

from dagster_project.partitions import RELEASES
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.tags import OrderKey, order_key
from registry_pipelines.release import Release

LOOKS_PER_RECONCILE = 20
"""Every so many looks the sensor also finds runs that were lost and keys whose release is gone."""
MAX_ATTEMPTS = 3
"""Runs asked for one release before a person has to look: a step retries network trouble by itself already."""
MAX_JUDGED = 10
"""Releases judged in one tick of the promotion sensor; a tick has 60 s, a judgement takes about a second."""
JUDGED_EVERY = 10
"""The promotion sensor sleeps so many intervals of the push sensor: advisories and exceptions change by the hour."""

UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Memory:
    """What a sensor keeps in its cursor.

    attempts: by fingerprint of the key (16 hex digits, so 3,000 releases stay below 100 KB), how many runs were asked
    for, and for which evidence (the end of its digest; empty for a push). looks: how many there were. last: the last
    key that was judged.
    """

    attempts: dict[str, tuple[str, int]] = field(default_factory=dict)
    looks: int = 0
    last: str = ""

    @classmethod
    def read(cls, cursor: str | None) -> "Memory":
        """From a cursor; a first tick has none."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def write(self) -> str:
        """As a cursor."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def tried(self, key: str, evidence: str = "") -> int:
        """How many runs were asked for, for this evidence."""
        about, count = self.attempts.get(fingerprint(key), ("", 0))
        return count if about == evidence[-16:] else 0

    def ask(self, key: str, evidence: str = "") -> dg.RunRequest:
        """The request for the next attempt at a release."""
        attempt = self.tried(key, evidence) + 1
        self.attempts[fingerprint(key)] = (evidence[-16:], attempt)
        return dg.RunRequest(run_key=f"{key}#{evidence}#{attempt}", partition_key=key)

    def keep(self, keys: Iterable[str]) -> None:
        """Forget everything about other keys."""
        marks = {fingerprint(key) for key in keys}
        self.attempts = {mark: tried for mark, tried in self.attempts.items() if mark in marks}


def fingerprint(key: str) -> str:
    """A short name for a key."""
    return sha256(key.encode()).hexdigest()[:16]


def by_version(release: Release) -> tuple[str, OrderKey]:
    """Sort key: images together, versions as people count them (v1.9 before v1.10, rc before the release): the newest
    is promoted last."""
    return release.image, order_key(release.tag)


def under_way(instance: dg.DagsterInstance) -> set[str]:
    """Partition keys with a run that waits or runs."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=UNDER_WAY))
    return {key for run in runs if (key := run.tags.get("dagster/partition"))}


def materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """Partition keys of an asset that were ever materialized."""
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def known_releases(instance: dg.DagsterInstance, images: Collection[str]) -> list[Release]:
    """The partitions of some images, in the order they were added; keys that are no releases are left out."""
    found = []
    for key in instance.get_dynamic_partitions(str(RELEASES.name)):
        try:
            release = Release.parse(key)
        except RegistryPipelinesError:  # somebody typed it in the UI; nothing can be done with it
            continue
        if release.image in images:
            found.append(release)
    return found


def look_for_pushed(
    instance: dg.DagsterInstance, chain: Chain, images: Collection[str], memory: Memory, cap: int
) -> dg.SensorResult:
    """One look of the push sensor: new releases, and every so many looks the lost and the gone.

    The known keys are read before the registry is: a build that pushes in between is then new, never gone. A digest
    keeps the key it got first, whatever further tags it gets.
    """
    memory.looks += 1
    reconcile = memory.looks % LOOKS_PER_RECONCILE == 0
    known = known_releases(instance, images)
    keys = {(release.image, release.digest): release.key for release in known}
    found = sorted(chain.releases(images, known=() if reconcile else known), key=by_version)
    live = [keys.get((release.image, release.digest), release.key) for release in found]
    wanted = untried(instance, live, memory)
    gone: list[str] = []
    if reconcile:
        present, answered = set(live), {release.image for release in found}
        # A registry that no longer lets us see a repository answers as if it were empty: nothing is removed then.
        gone = [release.key for release in known if release.image in answered and release.key not in present]
        wanted += lost(instance, known, present, memory)
        memory.keep(present)
    requests = [memory.ask(key) for key in wanted[:cap]]
    changes = [RELEASES.build_add_request([str(request.partition_key) for request in requests])] if requests else []
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[*changes, *([RELEASES.build_delete_request(gone)] if gone else [])],
        skip_reason=None if requests else f"{len(live)} releases, none of them new",
        cursor=memory.write(),
    )


def untried(instance: dg.DagsterInstance, live: Sequence[str], memory: Memory) -> list[str]:
    """Releases that no run was asked for, here or by anybody else: what was run by hand or by the demonstration is
    noted as tried."""
    new = [key for key in live if not memory.tried(key)]
    settled = materialized(instance, "verdict") | under_way(instance) if new else set()
    for key in settled.intersection(new):
        memory.ask(key)
    return [key for key in new if key not in settled]


def lost(instance: dg.DagsterInstance, known: Sequence[Release], present: set[str], memory: Memory) -> list[str]:
    """Releases that were asked for but neither reached a verdict nor have a run that is under way: the run was lost, or
    failed for reasons of the machinery. Not those that were tried often enough, nor the superseded."""
    settled = materialized(instance, "verdict") | under_way(instance) | superseded(instance, known)
    keys = [release.key for release in known if release.key in present]
    return [key for key in keys if 0 < memory.tried(key) < MAX_ATTEMPTS and key not in settled]


def superseded(instance: dg.DagsterInstance, known: Sequence[Release]) -> set[str]:
    """Releases that were found before one that their image promoted. A sensor that promoted them would take the channel
    tag back: a rollback nobody asked for."""
    promoted = materialized(instance, "promotion")
    latest = {release.image: place for place, release in enumerate(known) if release.key in promoted}
    return {release.key for place, release in enumerate(known) if place < latest.get(release.image, -1)}


def push_sensors(config: Config, job: Job) -> list[dg.SensorDefinition]:
    """One sensor per source registry, so that one that is down does not hide the pushes to the others."""
    sources = dict.fromkeys(image.registry for image in config.images.values())
    return [push_sensor(config, registry, job) for registry in sources]


def push_sensor(config: Config, registry: str, job: Job) -> dg.SensorDefinition:
    """The sensor that finds releases in a source registry."""
    images = [name for name, image in config.images.items() if image.registry == registry]

    @dg.sensor(
        name=f"push_{registry.replace('-', '_')}",
        job=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"New version tags in {registry} ({', '.join(images)}): adds the release's partition and asks for "
        "its run, at most "
        f"{config.sensors.max_requests} at a time. Finds lost runs and gone releases too.",
    )
    def push(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        memory = Memory.read(context.cursor)
        return look_for_pushed(context.instance, chain, images, memory, config.sensors.max_requests)

    return push


def held_back(instance: dg.DagsterInstance, images: Collection[str]) -> list[Release]:
    """Releases with a verdict that were neither promoted nor superseded, and have no run under way."""
    known = known_releases(instance, images)
    judged = materialized(instance, "verdict")
    out = materialized(instance, "promotion") | under_way(instance) | superseded(instance, known)
    return [release for release in known if release.key in judged and release.key not in out]


def next_after(releases: Sequence[Release], last: str, count: int) -> list[Release]:
    """The next ``count`` in a circle that starts after key ``last``."""
    keys = [release.key for release in releases]
    start = keys.index(last) + 1 if last in keys else 0
    return [*releases[start:], *releases[:start]][:count]


def evidence_that_allows(chain: Chain, release: Release) -> str:
    """Digest of the verdict when it is allow today, else empty. Advisories are matched again first, and what is inside
    the limits now is attested: a verdict believes signed reports only."""
    if not chain.vulnerabilities(release).ok:
        return ""
    chain.sign(release)
    verdict = chain.judge(release)
    return verdict.digest if verdict.ok else ""


def look_for_allowed(
    context: dg.SensorEvaluationContext, chain: Chain, images: Collection[str], memory: Memory
) -> dg.SensorResult:
    """One look of the promotion sensor: judge held releases again, by digest, and ask for runs of those that pass."""
    held = held_back(context.instance, images)
    memory.keep(release.key for release in held)
    requests = []
    for release in next_after(held, memory.last, MAX_JUDGED):
        memory.last = release.key
        try:
            allowed = evidence_that_allows(chain, release)
        except RegistryPipelinesError as error:  # one release's trouble must not hold the others
            context.log.warning("%s: cannot be judged: %s", release.key, error)
            continue
        if allowed and memory.tried(release.key, allowed) < MAX_ATTEMPTS:
            requests.append(memory.ask(release.key, allowed))
    reason = None if requests else f"{len(held)} releases are held, none may go"
    return dg.SensorResult(run_requests=requests, skip_reason=reason, cursor=memory.write())


def promotion_sensor(config: Config, job: Job) -> dg.SensorDefinition:
    """The sensor that lets held releases go when the evidence passes: newer advisories, an exception, a policy."""

    @dg.sensor(
        name="promotion",
        job=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds()) * JUDGED_EVERY),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Releases that were refused, or whose promotion failed, judged again by digest against today's "
        f"advisories and policy, {MAX_JUDGED} at a time; asks for a run when the verdict is allow now.",
    )
    def promotion(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_allowed(context, chain, list(config.images), Memory.read(context.cursor))

    return promotion
