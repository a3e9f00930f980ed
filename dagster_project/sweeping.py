"""Sweeps of a fleet by 256 buckets: which of them a run takes, and the schedule that asks for the runs.

A run costs some seconds by itself, so buckets have none of their own: as many runs as the pool lets go at once share
all buckets, each taking the next one that nobody has. What each bucket found is its partition. A run that was killed is
run again with the same tags, and passes over what was done since the sweep began, by itself or by others.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from dagster_project.schedules import Job, nightly, run_key
from registry_pipelines.chain.buckets import BUCKETS
from registry_pipelines.config import Config
from registry_pipelines.oci.times import read_time

SINCE_TAG = "registry-pipelines/sweep"
"""Run tag: when the sweep began that the run is part of, RFC 3339."""
LANE_TAG = "registry-pipelines/lane"
"""Run tag: which of the runs that share it this one is, as ``2-of-3``."""

PARTS = dg.StaticPartitionsDefinition(list(BUCKETS))
"""256 parts of a fleet, by the hash of the repository: the same for ever, however many images there are."""


def wanted(context: dg.OpExecutionContext, buckets: Sequence[str]) -> tuple[list[str], datetime | None]:
    """The buckets of a run, and since when what was done counts: that of its partition, where a person chose one; else
    all, beginning where no other run of the sweep begins."""
    if context.has_partition_key:
        return [context.partition_key], None
    lane, _, lanes = context.run.tags.get(LANE_TAG, "").partition("-of-")
    first = 0
    if lane.isdecimal() and lanes.isdecimal() and 0 < int(lane) <= int(lanes):
        first = len(buckets) * (int(lane) - 1) // int(lanes)
    return [*buckets[first:], *buckets[:first]], read_time(context.run.tags.get(SINCE_TAG, ""))


def by_lane(
    job: Job, cron: str, config: Config, pool: str, buckets: Callable[[], Sequence[str]]
) -> dg.ScheduleDefinition:
    """The schedule of a sweep: as many runs as its pool lets go at once, and no more than there are buckets."""

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        lanes = min(config.dagster.pools.get(pool, 1), len(buckets()))
        began = context.scheduled_execution_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for number in range(1, lanes + 1):
            lane = f"{number}-of-{lanes}"
            yield dg.RunRequest(run_key=run_key(context, lane), tags={SINCE_TAG: began, LANE_TAG: lane})

    said = f"All buckets, shared by as many runs as the pool `{pool}` lets go at once."
    return nightly(job, cron, config, requests, said)
