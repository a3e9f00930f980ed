"""How old what a schedule makes may grow, by how often it makes it."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import dagster as dg
from dagster._utils.schedules import cron_string_iterator

from registry_pipelines.config import Config

LOOKED_AT = 400
"""Times of a schedule that are looked at: a year of nights, in which every gap of usual expressions comes."""
LATE = timedelta(minutes=30)
"""A run may wait in the queue, and take its time."""
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
"""Where looking begins: what a code location says of itself must not change from one load to the next."""


def by_schedule(cron: str, config: Config) -> dg.FreshnessPolicy | None:
    """Yellow after one missed run, red after two; by the longest gap between two of them. None where the schedule does
    not run at all: it says so itself."""
    if config.spared:
        return None
    gap = longest_gap(cron, str(config.schedules.time_zone))
    late = max(gap / 10, LATE)
    return dg.FreshnessPolicy.time_window(fail_window=2 * gap + late, warn_window=gap + late) if gap else None


@cache
def longest_gap(cron: str, zone: str) -> timedelta:
    """Between two times of a cron expression; nothing for one that never comes twice."""
    try:
        times = cron_string_iterator(NEW_YEAR.timestamp(), cron, zone)
        found = [next(times) for _ in range(LOOKED_AT)]
    except Exception:
        return timedelta(0)
    return max((later - earlier for earlier, later in pairwise(found)), default=timedelta(0))
