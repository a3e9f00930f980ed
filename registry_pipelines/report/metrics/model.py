"""A sample: one number of one thing at one time; and how many of them are told at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from registry_pipelines.measures import MEASURES, OTHERS, REGISTRY_BYTES, Measure

MOST_SERIES = 10_000
"""Series in all, which no configuration raises: Prometheus keeps each in memory, and CloudWatch bills each by month."""

SKEW = timedelta(minutes=10)
"""By so much clocks differ: a time that is to come by more is wrong."""

MAX_LABEL_CHARACTERS = 255
"""Of a label's value; CloudWatch takes 1024, Cloud Monitoring 1024. No repository has a longer name."""


class Sample(msgspec.Struct, frozen=True):
    """name: of ``MEASURES``. labels: exactly those of the measure. time: with zone, when this was so."""

    name: str
    labels: dict[str, str]
    value: float
    unit: str
    time: datetime

    @property
    def measure(self) -> Measure:
        """What it is about."""
        return MEASURES[self.name]

    @property
    def series(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What makes it one of a line: its name and labels."""
        return self.name, tuple(sorted(self.labels.items()))


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at one time. failed: sources that could not be read whole, with why. notes: what is not in the
    samples and is no failure."""

    time: datetime
    samples: tuple[Sample, ...] = ()
    failed: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def sample(name: str, value: float, time: datetime, **labels: str) -> Sample:
    """One of a measure. Labels longer than ``MAX_LABEL_CHARACTERS`` are cut; what is no UTF-8 becomes ``?``.
    Raises KeyError for another name."""
    measure = MEASURES[name]
    assert set(labels) == set(measure.labels), (name, labels)  # noqa: S101 - the table is ours, and so is the caller
    told = {label: _text(labels[label][:MAX_LABEL_CHARACTERS]) for label in measure.labels}
    return Sample(name, told, float(value), measure.unit, time)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def largest(sizes: dict[str, int], most: int) -> frozenset[str]:
    """The repositories that are told by name. sizes: bytes by repository."""
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    return frozenset(ranked[:most])


def bounded(samples: Sequence[Sample], *, most: int = MOST_SERIES) -> tuple[list[Sample], dict[str, int]]:
    """Samples within the bound, and how many were left out by measure. What has fewer labels stays first: sums before
    their parts; within a measure the greatest values stay. Of two samples of one series the last counts."""
    latest = list({each.series: each for each in samples}.values())
    if len(latest) <= most:
        return latest, {}
    order = sorted(
        range(len(latest)),
        key=lambda at: (len(latest[at].labels), OTHERS not in latest[at].labels.values(), -latest[at].value, at),
    )
    kept = set(order[:most])
    left: dict[str, int] = defaultdict(int)
    for at in order[most:]:
        left[latest[at].name] += 1
    return [each for at, each in enumerate(latest) if at in kept], dict(left)


def total(samples: Iterable[Sample], name: str = REGISTRY_BYTES) -> float:
    """The sum of a measure over all its series."""
    return sum(each.value for each in samples if each.name == name)


__all__ = ["MOST_SERIES", "SKEW", "Collected", "Sample", "bounded", "largest", "sample", "total"]
