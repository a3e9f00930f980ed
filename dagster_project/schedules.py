"""Jobs by what people ask for, and the two that run at night."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import dagster as dg

from dagster_project.partitions import RELEASES
from registry_pipelines.config import Config
from registry_pipelines.errors import InputError
from registry_pipelines.release import Release

Job: TypeAlias = Any
"""What ``dg.define_asset_job`` gives; Dagster does not publish the class."""
IMAGE_TAG = "registry-pipelines/image"
"""Run tag with the image's name; ``instance.yaml`` lets one run per image go at a time."""
DIGEST_TAG = "registry-pipelines/digest"
"""Run tag with the release's digest (definition tags are too short for one)."""


def run_tags(key: str) -> dict[str, str]:
    """The tags of every run for a release, also of those started by hand."""
    try:
        release = Release.parse(key)
    except InputError:  # Dagster takes any text as a key; the step refuses it with a message, this only labels runs
        return {}
    return {IMAGE_TAG: release.image, DIGEST_TAG: release.digest}


def release_job(assets: Sequence[dg.AssetsDefinition]) -> Job:
    """Everything that happens to one release, in one run."""
    return dg.define_asset_job(
        "release",
        dg.AssetSelection.assets(*assets),
        description="One release through the chain: provenance, SBOM, report, signature, verdict, promotion, replicas, "
        "mirrors. Running it again changes nothing.",
        config=dg.PartitionedConfig(
            partitions_def=RELEASES,
            run_config_for_partition_key_fn=lambda _: {},
            tags_for_partition_key_fn=run_tags,
        ),
    )


def job(name: str, assets: Sequence[dg.AssetsDefinition], description: str) -> Job:
    """A job over assets."""
    return dg.define_asset_job(name, dg.AssetSelection.assets(*assets), description=description)


def nightly(job: Job, cron: str, config: Config) -> dg.ScheduleDefinition:
    """A schedule that is on from the start."""
    return dg.ScheduleDefinition(
        job=job,
        cron_schedule=cron,
        execution_timezone=config.schedules.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
