"""Samples as Cloud Monitoring takes them: descriptors of custom metrics, and time series with one point each.

Messages are the JSON of its REST API v3. Source: the types of google-cloud-monitoring 2.32 (MetricDescriptor,
TimeSeries, CreateTimeSeriesRequest: 200 series a call) and Google's pages "Create user-defined metrics with the API"
and "Quotas and limits": ends of points at most 25 hours ago and 5 minutes ahead, each later than the last one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from registry_pipelines.measures import CUSTOM, MEASURES, OTHERS
from registry_pipelines.oci.times import write_time
from registry_pipelines.report.metrics.model import Sample

MOST_SERIES = 200
"""Of one call."""
EARLIEST, LATEST = timedelta(hours=25), timedelta(minutes=5)
UNITS = {"bytes": "By", "count": "1", "seconds": "s"}
"""As UCUM writes them."""

OWN_BYTES = "artifactregistry.googleapis.com/repository/size"
OWN_RESOURCE = "artifactregistry.googleapis.com/Repository"
"""What Artifact Registry itself says of a repository's bytes, with the labels ``location`` and ``repository_id``.
Source: Google's list of metrics, "artifactregistry"."""

Json = dict[str, Any]


def descriptors(names: Iterable[str]) -> list[Json]:
    """The descriptors of measures; making one that is there already changes nothing."""
    return [
        {
            "type": f"{CUSTOM}{name}",
            "metricKind": "GAUGE",
            "valueType": "DOUBLE",
            "unit": UNITS[MEASURES[name].unit],
            "displayName": name.replace("_", " "),
            "description": MEASURES[name].told,
            "labels": [{"key": label, "valueType": "STRING"} for label in MEASURES[name].labels],
        }
        for name in sorted(set(names))
    ]


def calls_of(samples: Sequence[Sample], *, project: str, now: datetime) -> tuple[list[Json], list[str]]:
    """The body of each call of ``timeSeries.create``, and what is not in them, one sentence each."""
    series: list[Json] = []
    left: list[str] = []
    for each in samples:
        if not math.isfinite(each.value):
            left.append(f"{each.name}: {each.value} is no number that Cloud Monitoring takes")
        elif not now - EARLIEST <= each.time <= now + LATEST:
            left.append(f"{each.name}: its time is more than 25 hours ago, or more than 5 minutes ahead")
        else:
            series.append(_series(each, project))
    return [{"timeSeries": series[at : at + MOST_SERIES]} for at in range(0, len(series), MOST_SERIES)], left


def _series(each: Sample, project: str) -> Json:
    return {
        "metric": {"type": f"{CUSTOM}{each.name}", "labels": dict(each.labels)},
        "resource": {"type": "global", "labels": {"project_id": project}},
        "metricKind": "GAUGE",
        "valueType": "DOUBLE",
        "points": [{"interval": {"endTime": write_time(each.time)}, "value": {"doubleValue": each.value}}],
    }


def own_filter(location: str) -> str:
    """The filter of ``timeSeries.list`` for what Artifact Registry says of its repositories in a location."""
    return f'metric.type = "{OWN_BYTES}" AND resource.labels.location = "{location}"'


def own_sizes(listed: Iterable[Json]) -> dict[str, int]:
    """Bytes by repository, the newest point of each. listed: time series as ``timeSeries.list`` gives them; one without
    a repository or a point is left out."""
    found: dict[str, int] = {}
    for each in listed:
        repository = each.get("resource", {}).get("labels", {}).get("repository_id", "")
        points = each.get("points") or ()
        if repository and points:  # the newest is first
            value = points[0].get("value", {})
            found[repository] = int(float(value.get("int64Value", value.get("doubleValue", 0))))
    return found


def compared(
    samples: Iterable[Sample], own: dict[str, int], registry: str, *, project: str
) -> list[dict[str, str | int]]:
    """Our bytes beside Google's, by repository of Artifact Registry: what we call ``PROJECT/REPOSITORY/IMAGE`` is one
    of its images."""
    ours: dict[str, int] = {}
    for each in samples:
        if each.name == "repository_bytes" and each.labels["registry"] == registry:
            name = each.labels["repository"]
            name = name if name == OTHERS else name.removeprefix(f"{project}/").partition("/")[0]
            ours[name] = ours.get(name, 0) + int(each.value)
    return [
        {"repository": name, "ours": ours.get(name, 0), "google": own.get(name, 0)}
        for name in sorted(ours.keys() | own.keys())
    ]


__all__ = ["MOST_SERIES", "OWN_BYTES", "OWN_RESOURCE", "calls_of", "compared", "descriptors", "own_filter", "own_sizes"]
