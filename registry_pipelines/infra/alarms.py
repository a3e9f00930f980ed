"""Alarms on our own numbers: what both clouds have in common. Names of numbers are those of ``measures``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from registry_pipelines.measures import MEASURES, REGISTRY_BYTES
from registry_pipelines.settings import Duration, Pattern, Size

ALARM_NAME = Pattern(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$", "the name of an alarm", "use letters, digits, . _ and -")
BOUND = Pattern(
    r"^([0-9]{1,9}(ms|s|m|h|d|w|KiB|MiB|GiB|MB|GB)|[0-9]{1,15})$",
    "a bound",
    "write a whole number, a size (100GB) or a duration (26h)",
)
_SIZES = ("KiB", "MiB", "GiB", "MB", "GB")

Problem = tuple[str, str]
"""Where in the registry's section, and what is wrong there."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody is told while a number is above a bound."""

    name: Annotated[str, ALARM_NAME]
    """Its name in the cloud."""
    metric: str = REGISTRY_BYTES
    """Which number, as docs/metrics.md names it."""
    labels: dict[str, str] = {}
    """Of which thing: each label of the number. `registry` is this one unless told."""
    above: Annotated[str, BOUND] | None = None
    """The bound: `100GB`, `26h` or a number."""
    hours: Annotated[int, Meta(ge=1, le=168)] = 1
    """For so long it must be above."""
    description: str = ""
    """For who is told; as it is unless told."""
    absent: bool = False
    """It must not be there."""


def bound(text: str) -> float:
    """A bound as the number that is compared: bytes, seconds, or as it is."""
    if text.endswith(_SIZES):
        return float(Size.parse(text))
    return float(text) if text.isdigit() else Duration.parse(text).total_seconds()


def bound_text(value: float, metric: str) -> str:
    """A bound of a number as one writes it."""
    if value <= 0 or MEASURES[metric].unit == "count":
        return str(int(value))
    text = str(Size(int(value)) if MEASURES[metric].unit == "bytes" else Duration(seconds=value))
    return text if re.search(BOUND.expression, text) else str(int(value))


def labels_of(alarm: Alarm, place: str) -> dict[str, str]:
    """The labels of its number, in the number's own order. place: the registry's name."""
    told = {"registry": place, **alarm.labels}
    return {label: told[label] for label in MEASURES[alarm.metric].labels if label in told}


def problems(alarms: Sequence[Alarm]) -> Iterator[Problem]:
    """What is wrong with alarms by themselves."""
    yield from twice([each.name for each in alarms], "alarms")
    for position, each in enumerate(alarms):
        path = f"alarms[{position}]"
        if each.metric not in MEASURES:
            yield f"{path}.metric", f"{each.metric[:60]} is no number that is followed: {', '.join(sorted(MEASURES))}"
            continue
        labels = MEASURES[each.metric].labels
        if strange := sorted(set(each.labels) - set(labels)):
            yield f"{path}.labels", f"{each.metric} has no label {', '.join(strange)}"
        if missing := [label for label in labels if label not in each.labels and label != "registry"]:
            yield f"{path}.labels", f"{each.metric} needs {', '.join(missing)}: of which thing?"
        if each.above is None and not each.absent:
            yield f"{path}.above", "is missing: above what?"
        if each.above is not None and not _fits(each.above, MEASURES[each.metric].unit):
            yield f"{path}.above", f"{each.above} is no number of {MEASURES[each.metric].unit}"


def _fits(text: str, unit: str) -> bool:
    kind = "count" if text.isdigit() else "bytes" if text.endswith(_SIZES) else "seconds"
    return kind in ("count", unit)


def twice(names: Sequence[str], what: str) -> Iterator[Problem]:
    """Names that stand there more than once."""
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield what, f"{name} stands there twice"


def measure_of(spelled: str, spellings: Iterable[tuple[str, str]]) -> str:
    """The number that a cloud's own spelling means; empty for none of ours. spellings: of every number."""
    return next((name for name, text in spellings if text == spelled), "")


__all__ = ["ALARM_NAME", "Alarm", "Problem", "bound", "bound_text", "labels_of", "measure_of", "problems", "twice"]
