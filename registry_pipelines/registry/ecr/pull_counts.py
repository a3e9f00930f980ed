"""How often repositories of ECR were pulled from, by CloudWatch: the one metric that ECR publishes of pulls.

Source: ECR user guide, "Amazon ECR repository metrics": namespace ``AWS/ECR``, metric ``RepositoryPullCount``,
dimension ``RepositoryName``, statistic Sum, a point a minute. CloudWatch keeps points of an hour for 455 days. Whether
a pull of a list of images counts once, or once more for the image of its platform, the guide does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text
from registry_pipelines.registry.ecr.calls import AwsCalls

QUERIES = 500
"""Metrics asked for at once; the most that GetMetricData takes."""
PERIOD_S = 86_400
"""Of one point; a multiple of an hour, as points that are older than 63 days are kept."""
KEPT_DAYS = 455
"""For which CloudWatch has points."""


class PullCount(msgspec.Struct, frozen=True, kw_only=True):
    """Of one repository. pulls: None where CloudWatch has no point, or not all of them (``why``): ECR publishes none
    while nobody pulls, so that none may be 0 pulls, or that the metric was not there."""

    repository: str
    pulls: int | None
    why: str = ""


def pull_counts(
    calls: AwsCalls, repositories: Sequence[str], *, until: datetime, days: int, where: str
) -> list[PullCount]:
    """The pulls of the last days, in the order of the repositories. until: with time zone. where: for errors. Raises
    InputError for more days than CloudWatch keeps, and as :meth:`AwsCalls.call` (``cloudwatch:GetMetricData``)."""
    if not 0 < days <= KEPT_DAYS:
        do = f"CloudWatch keeps them for {KEPT_DAYS} days"
        raise InputError(f"pulls of {count_text(days, 'day')}", where=where, do=do)
    found: list[PullCount] = []
    for start in range(0, len(repositories), QUERIES):
        found += _asked(calls, repositories[start : start + QUERIES], until, days, where)
    return found


def _asked(calls: AwsCalls, repositories: Sequence[str], until: datetime, days: int, where: str) -> list[PullCount]:
    names = {f"q{number}": repository for number, repository in enumerate(repositories)}
    points: dict[str, list[float]] = {name: [] for name in names}
    partial: set[str] = set()
    listed = calls.pages(
        "get_metric_data",
        "MetricDataResults",
        where=where,
        doing="asking CloudWatch for pulls",
        service="cloudwatch",
        MetricDataQueries=[_query(name, repository) for name, repository in names.items()],
        StartTime=until - timedelta(days=days),
        EndTime=until,
    )
    for each in listed:
        name = str(each["Id"])
        points[name] += each.get("Values") or ()
        # A series that goes on on the next page is "PartialData" there, and "Complete" on its last.
        (partial.discard if each.get("StatusCode", "Complete") == "Complete" else partial.add)(name)
    return [_count(repository, points[name], name in partial) for name, repository in names.items()]


def _count(repository: str, values: Sequence[float], is_partial: bool) -> PullCount:
    if is_partial:
        return PullCount(repository=repository, pulls=None, why="CloudWatch did not give all points")
    if not values:
        return PullCount(repository=repository, pulls=None, why="CloudWatch has no point of it")
    return PullCount(repository=repository, pulls=round(sum(values)))


def _query(name: str, repository: str) -> dict[str, object]:
    metric = {
        "Namespace": "AWS/ECR",
        "MetricName": "RepositoryPullCount",
        "Dimensions": [{"Name": "RepositoryName", "Value": repository}],
    }
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": PERIOD_S, "Stat": "Sum"}, "ReturnData": True}


__all__ = ["KEPT_DAYS", "PullCount", "pull_counts"]
