"""What runs are about: one key per live release, one key per image that we build."""

from collections.abc import Iterable

import dagster as dg

from dagster_project.report import refusals
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import InputError
from registry_pipelines.release import Release

RELEASES = dg.DynamicPartitionsDefinition(name="release")
"""Keys are ``image:tag@<12 hex>``, given by the state folder (:mod:`registry_pipelines.chain.release_keys`). Hundreds
to a few thousand: the push sensor adds them, its reconcile removes those whose tag is gone from the source registry.
Builds before 2026-12 wrote the whole digest; :mod:`dagster_project.moving` gives those their short keys."""
PARTITION_TAG = "dagster/partition"
"""Dagster's run tag with the partition key."""
DIGEST_TAG = "registry-pipelines/digest"
"""Run tag with the release's whole digest (definition tags are too short for one)."""


UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def built_images(config: Config) -> list[str]:
    """Names of the images that are built here, in the order of the configuration."""
    return [name for name, image in config.images.items() if image.made_here is not None]


def rechunked_images(config: Config) -> list[str]:
    """Names of the images whose layers are made anew, in the order of the configuration."""
    return [name for name, image in config.images.items() if image.rechunk is not None]


def converted_images(config: Config) -> list[str]:
    """Names of the images that are converted for streaming, in the order of the configuration."""
    return [name for name, image in config.images.items() if image.stream is not None and image.stream.derives]


def recorded_images(config: Config) -> list[str]:
    """Names of the images whose start is recorded, in the order of the configuration."""
    return [name for name, image in config.images.items() if image.stream is not None and image.stream.record]


def partition_of(context: dg.OpExecutionContext | dg.AssetExecutionContext, of: str) -> str:
    """The partition of this run. of: what it is, in a word. Raises InputError: a launchpad launches without one, and a
    backfill may want a run for several."""
    try:
        return context.partition_key
    except dg.DagsterInvariantViolationError as error:
        raise InputError(
            f"no {of} is chosen, or several: this run is for no one partition",
            do="Choose one: the field Partition of the launchpad, above the config",
        ) from error
    except dg.DagsterInvalidInvocationError as error:
        key = context.run.tags[PARTITION_TAG]
        raise InputError(f"there is no partition {key!r}", do=f"Choose {of} in the launchpad's list") from error


def release_of(context: dg.AssetExecutionContext, chain: Chain) -> Release:
    """The release of this step. Raises ``dg.Failure``: Dagster takes any text as a dynamic key, so it is read strictly.
    The run's tag has the whole digest, for a machine whose state folder does not know the key."""
    with refusals(context):
        return chain.release_of_key(partition_of(context, "release"), context.run.tags.get(DIGEST_TAG, ""))


def add_releases(instance: dg.DagsterInstance, chain: Chain, releases: Iterable[Release]) -> dict[Release, str]:
    """Add the partitions of releases, once the state folder has their keys; the key of each."""
    keys = chain.keys_of(releases)
    instance.add_dynamic_partitions(str(RELEASES.name), list(keys.values()))
    return keys


def release_keys(instance: dg.DagsterInstance) -> list[str]:
    """The keys of all releases, in the order they were added."""
    return list(instance.get_dynamic_partitions(str(RELEASES.name)))


def under_way(instance: dg.DagsterInstance) -> set[str]:
    """Partition keys with a run that waits or runs."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=UNDER_WAY))
    return {key for run in runs if (key := run.tags.get(PARTITION_TAG))}


def whole_key(key: str) -> Release | None:
    """The release of a key with the whole digest, as builds before 2026-12 wrote them; None for any other text."""
    try:
        return Release.parse(key)
    except InputError:
        return None
