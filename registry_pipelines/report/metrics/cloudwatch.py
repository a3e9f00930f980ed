"""Samples as calls of CloudWatch's PutMetricData, within its limits.

Source: botocore's model of CloudWatch 2010-08-01 (PutMetricData, MetricDatum, Dimension) and what its documentation
says there: 1,000 metrics and 1 MB a call, 30 dimensions, ASCII values, times from two weeks ago to two hours ahead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from registry_pipelines.measures import camel
from registry_pipelines.report.metrics.model import Sample

MOST_METRICS = 1000
MOST_BYTES = 900_000
"""Of the 1 MB of a call; data is counted as JSON, which is longer than what boto3 sends."""
MOST_VALUE = 2.0**360
MOST_DIMENSIONS = 30
EARLIEST, LATEST = timedelta(days=14), timedelta(hours=2)
UNITS = {"bytes": "Bytes", "count": "Count", "seconds": "Seconds"}


def calls_of(samples: Sequence[Sample], *, namespace: str, now: datetime) -> tuple[list[dict[str, Any]], list[str]]:
    """Parameters of each call, and what is not in them, one sentence each."""
    data: list[dict[str, Any]] = []
    left: list[str] = []
    for each in samples:
        if why := unfit(each, now):
            left.append(f"{each.name} {' '.join(each.labels.values())}".rstrip() + f": {why}")
        else:
            data.append(_datum(each))
    return [{"Namespace": namespace, "MetricData": part} for part in _parts(data)], left


def unfit(each: Sample, now: datetime) -> str:
    """Why CloudWatch would refuse a sample; empty where it would not."""
    if not math.isfinite(each.value) or abs(each.value) > MOST_VALUE:
        return f"{each.value} is no number that CloudWatch takes"
    if not now - EARLIEST <= each.time <= now + LATEST:
        return "its time is more than two weeks ago, or more than two hours ahead"
    if len(each.labels) > MOST_DIMENSIONS:
        return f"it has more than {MOST_DIMENSIONS} dimensions"
    if not all(value.isascii() and value.isprintable() and value.strip() for value in each.labels.values()):
        return "a dimension has a value that is empty or not plain ASCII"
    return ""


def dimensions(labels: dict[str, str]) -> list[dict[str, str]]:
    """Labels as CloudWatch has them."""
    return [{"Name": camel(name), "Value": value} for name, value in labels.items()]


def _datum(each: Sample) -> dict[str, Any]:
    return {
        "MetricName": camel(each.name),
        "Dimensions": dimensions(each.labels),
        "Timestamp": each.time,
        "Value": each.value,
        "Unit": UNITS[each.unit],
    }


def _parts(data: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for each in data:
        own = len(json.dumps(each, default=str))
        if part and (len(part) == MOST_METRICS or size + own > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += own
    if part:
        yield part


__all__ = ["MOST_METRICS", "UNITS", "calls_of", "dimensions", "unfit"]
