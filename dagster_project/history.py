"""What Dagster keeps of what was: which ended runs and which partitions may go, and that nothing else does.

Dagster's own ``retention`` is about ticks alone. A run takes with it, when it goes, the events that its assets stand
on: so no run goes that materialized what an asset or a partition has now.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

import dagster as dg

from dagster_project.partitions import PARTITION_TAG, RELEASES, release_keys, under_way
from registry_pipelines.chain import Chain
from registry_pipelines.chain.release_keys import SHORT_KEY
from registry_pipelines.config.location import History
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import count_text
from registry_pipelines.release import Release

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PAGE = 200
LONGEST_S = 1800
"""Seconds after which nothing further is looked at: the next night goes on."""
MADE = {dg.DagsterEventType.ASSET_MATERIALIZATION}


@dataclass
class Going:
    """What may go. runs: their ids, the oldest first, and when they ended (seconds since 1970). kept: old runs that
    stay, by why. partitions: keys with why. notes: what was not looked at."""

    runs: dict[str, float] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    partitions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def going(instance: dg.DagsterInstance, chain: Chain, settings: History, now: datetime) -> Going:
    """What may go by the settings. Nothing is changed."""
    found = Going()
    _partitions(found, instance, chain, settings, now)
    _runs(found, instance, settings, now)
    return found


def remove(instance: dg.DagsterInstance, found: Going) -> tuple[int, int]:
    """Remove it, each run unless it is under way now; how many runs and partitions went. Repeated, it goes on."""
    runs = partitions = 0
    busy = under_way(instance)
    for key in found.partitions:
        if key not in busy and instance.has_dynamic_partition(str(RELEASES.name), key):
            instance.delete_dynamic_partition(str(RELEASES.name), key)
            partitions += 1
    for run_id in found.runs:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status in ENDED:
            instance.delete_run(run_id)
            runs += 1
    return runs, partitions


def _runs(found: Going, instance: dg.DagsterInstance, settings: History, now: datetime) -> None:
    stands_on, live = _StandsOn(instance), set(release_keys(instance)).difference(found.partitions)
    for record in _old(instance, now - settings.runs, found):
        if len(found.runs) >= settings.most:
            found.notes.append(f"{count_text(settings.most, 'run')} at most in one night: older ones may be left")
            return
        run, ended = record.dagster_run, record.end_time or record.update_timestamp.timestamp()
        if ended > (now - settings.runs).timestamp():
            found.kept["it ended later"] += 1
        elif stands_on.newest_of(run, live):
            found.kept["the newest of its kind"] += 1
        elif stands_on.anything(run, live):
            found.kept["an asset stands on it"] += 1
        else:
            found.runs[run.run_id] = ended


def _old(instance: dg.DagsterInstance, before: datetime, found: Going) -> Iterator[dg.RunRecord]:
    started, cursor = monotonic(), None
    asked = dg.RunsFilter(statuses=ENDED, created_before=before)
    while page := instance.get_run_records(asked, limit=PAGE, cursor=cursor, ascending=True):
        if monotonic() - started > LONGEST_S:
            found.notes.append("not all old runs were looked at: the next night goes on")
            return
        yield from page
        cursor = page[-1].dagster_run.run_id


class _StandsOn:
    """What assets and lists have now; each is asked for once."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._made: dict[tuple[dg.AssetKey, str | None], str] = {}
        self._newest: dict[tuple[str, str], str] = {}

    def newest_of(self, run: dg.DagsterRun, live: Collection[str]) -> bool:
        """Whether it is the newest run of its job, of a partition that still is one."""
        partition = run.tags.get(PARTITION_TAG, "")
        if partition and partition not in live and _is_release(partition):
            return False
        named = run.job_name, partition
        if named not in self._newest:
            tags = {PARTITION_TAG: partition} if partition else {}
            newest = self._instance.get_runs(dg.RunsFilter(job_name=run.job_name, tags=tags), limit=1)
            self._newest[named] = newest[0].run_id if newest else ""  # somebody deleted all of them meanwhile
        return self._newest[named] == run.run_id

    def anything(self, run: dg.DagsterRun, live: Collection[str]) -> bool:
        """Whether an asset, or a partition that still is one, has what this run made."""
        for entry in self._instance.all_logs(run.run_id, of_type=MADE):
            event = entry.dagster_event
            if event is None or event.asset_key is None:
                continue
            partition = event.partition
            if partition and partition not in live and _is_release(partition):
                continue
            if self._maker(event.asset_key, partition) == run.run_id:
                return True
        return False

    def _maker(self, asset: dg.AssetKey, partition: str | None) -> str:
        named = asset, partition
        if named not in self._made:
            only = [partition] if partition else None
            asked = dg.AssetRecordsFilter(asset, asset_partitions=only)
            records = self._instance.fetch_materializations(asked, limit=1).records
            self._made[named] = records[0].run_id if records else ""
        return self._made[named]


def _is_release(partition: str) -> bool:
    """Whether a partition's key is of releases, and not one that is there for ever, as a bucket's."""
    return bool(SHORT_KEY.match(partition)) or "@sha256:" in partition


def _partitions(found: Going, instance: dg.DagsterInstance, chain: Chain, settings: History, now: datetime) -> None:
    keys, known, busy = release_keys(instance), chain.known_keys(), under_way(instance)
    images = chain.config.images
    reasons: dict[str, str] = {}
    for key in keys:
        image = key.partition(":")[0]
        if not _is_release(key):
            reasons[key] = "it is no key of a release: somebody typed it"
        elif image not in images:
            reasons[key] = f"the configuration has no image {image}"
    if settings.superseded is not None:
        here = {key: known[key] for key in keys if key in known and known[key].image in images}
        reasons |= _superseded(found, instance, chain, here, now - settings.superseded)
    free = {key: why for key, why in reasons.items() if key not in busy}
    found.partitions = dict(list(free.items())[: settings.most])
    if len(free) > settings.most:
        found.notes.append(f"{settings.most} partitions at most in one night: {len(free) - settings.most} are left")


def _superseded(
    found: Going, instance: dg.DagsterInstance, chain: Chain, known: Mapping[str, Release], before: datetime
) -> dict[str, str]:
    """Keys before one of the same image that was promoted long enough ago; not what a channel names."""
    promoted = instance.get_materialized_partitions(dg.AssetKey("promotion"))
    reasons: dict[str, str] = {}
    for image in dict.fromkeys(release.image for release in known.values()):
        mine = [key for key, release in known.items() if release.image == image]
        later = _promoted_before(instance, [key for key in reversed(mine) if key in promoted], before)
        if not later:
            continue
        try:
            named = set(chain.on_channels(image).values())
        except RegistryPipelinesError as error:  # what a channel names is not known: nothing of the image goes
            found.notes.append(f"{image}: its channels cannot be read, so nothing of it goes: {error}")
            continue
        when = f"{later} was promoted before {before.astimezone(UTC):%Y-%m-%d}"
        reasons |= {key: when for key in mine[: mine.index(later)] if known[key].digest not in named}
    return reasons


def _promoted_before(instance: dg.DagsterInstance, keys: list[str], before: datetime) -> str:
    """The first of some keys, the newest first, whose promotion is old enough."""
    for key in keys:
        asked = dg.AssetRecordsFilter(dg.AssetKey("promotion"), asset_partitions=[key])
        records = instance.fetch_materializations(asked, limit=1).records
        if records and records[0].timestamp < before.timestamp():
            return key
    return ""
