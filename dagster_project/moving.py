"""Partition keys in step with the state folder: keys of earlier builds get their short ones, lost ones are looked for.

Builds before 2026-12 wrote the whole digest into a key. What such a key had comes along: the short one stands where it
stood, and gets each asset's latest materialization once more, with the old key as ``earlier_key``. The old key's own
events stay in Dagster's history, under its runs; Dagster has no way to rename a partition. All of it may end at any
point: what is left has its old key, and the next tick goes on there.
"""

from collections.abc import Iterable
from time import monotonic
from typing import Any

import dagster as dg

from dagster_project.memory import fingerprint
from dagster_project.partitions import RELEASES, add_releases, release_keys, under_way, whole_key
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain
from registry_pipelines.chain.release_keys import SHORT_KEY
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import count_text

INTERVAL_S = 60
MAX_NAMED = 20
"""Keys in one line of a tick's log."""
LONGEST_MOVE_S = 30
"""Seconds after which a tick begins no further release: Dagster ends a tick after 60 s."""


def whole_keys(keys: Iterable[str]) -> list[str]:
    """The keys with a whole digest, which are moved first: a sensor that took them for other releases than their short
    keys would run them again, and take channel tags back."""
    return [key for key in keys if whole_key(key)]


def move_whole_keys(instance: dg.DagsterInstance, chain: Chain, busy: set[str]) -> list[str]:
    """Give releases with a whole key their short one; the whole keys that are left. busy: keys with a run under way,
    which keep theirs until it has ended."""
    name, started = str(RELEASES.name), monotonic()
    old = whole_keys(release_keys(instance))
    if not old:
        return []
    releases = {key: release for key in old if (release := whole_key(key))}
    keys = add_releases(instance, chain, releases.values())
    assets = {asset: instance.get_materialized_partitions(asset) for asset in instance.all_asset_keys()}
    left = list(old)
    for whole, release in releases.items():
        if monotonic() - started >= LONGEST_MOVE_S:
            break
        if whole in busy:
            continue
        for asset, there in assets.items():
            if whole in there and keys[release] not in there:
                _materialize_again(instance, asset, whole, keys[release])
        instance.delete_dynamic_partition(name, whole)
        left.remove(whole)
    return left


def _materialize_again(instance: dg.DagsterInstance, asset: dg.AssetKey, whole: str, key: str) -> None:
    records = instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=[whole]), limit=1).records
    for record in records:
        if told := record.asset_materialization:
            metadata: dict[str, Any] = {**told.metadata, "earlier_key": whole}
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key, metadata=metadata))


def look_for_unknown(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult:
    """Look in what is signed for short keys that the state folder does not know. The cursor has those that stay
    unknown, which are not looked for again."""
    unknown = _unknown(context.instance, chain)
    images = {key.partition(":")[0] for key in unknown}.intersection(chain.config.images)
    cursor, troubles = fingerprint(" ".join(unknown)), []
    if unknown and cursor != context.cursor:
        for image in sorted(images):
            try:
                chain.rebuild_keys(image)
            except RegistryPipelinesError as error:  # one registry that is down must not hide what others know
                troubles.append(f"{image} cannot be looked at: {error}")
        unknown = _unknown(context.instance, chain)
        cursor = fingerprint(" ".join(unknown)) if not troubles else ""
    if unknown:
        troubles.append(f"not known, nothing signed names them: {', '.join(unknown[:MAX_NAMED])}")
    for trouble in troubles:
        context.log.warning("%s", trouble)
    return dg.SensorResult(skip_reason="; ".join(troubles) or "all keys are known", cursor=cursor)


def _unknown(instance: dg.DagsterInstance, chain: Chain) -> list[str]:
    known = chain.known_keys()
    return sorted(key for key in release_keys(instance) if key not in known and SHORT_KEY.match(key))


def keys_sensor() -> dg.SensorDefinition:
    """The sensor that keeps partition keys in step. It starts no run, so it is on from the start."""

    @dg.sensor(
        name="release_keys",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps the keys of releases: those of earlier versions get short ones, and what a lost state "
        "folder knew is looked for in the registry's signed records. Runs nothing.",
    )
    def keep(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        left = move_whole_keys(context.instance, chain, under_way(context.instance))
        if left:
            reason = f"{count_text(len(left), 'release has', 'releases have')} still a key of an earlier version"
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        return look_for_unknown(context, chain)

    return keep
