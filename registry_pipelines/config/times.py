"""When nightly work runs: cron expressions and time zones, read as Dagster reads them.

Dagster's own reader (croniter, which it brings along) takes a few expressions that it then cannot follow, or follows in
a way nobody means; those are refused here. The library does not import Dagster: tests compare the two readers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec

from registry_pipelines.progress import count_text

CRON_PATTERN = r"^\s*(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|(\S+\s+){4}\S+)\s*$"
TIME_ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHOWN_VALUES = 4
"""Of a list of minutes, in a note."""


class _Field(msgspec.Struct, frozen=True):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    each: str = ""
    """What its steps start again with."""
    last: int = 59
    """The highest value that stands for itself: 7 is Sunday, as 0 is."""

    def values(self, text: str) -> set[int]:
        """What a field's text stands for. Raises ValueError with the part that is wrong."""
        return {value for part in text.split(",") for value in self._part(part)}

    def _part(self, part: str) -> set[int]:
        body, slash, step_text = part.partition("/")
        if slash and (not _is_number(step_text) or int(step_text) == 0):
            raise self._wrong(part)
        top = min(self.high, self.last)
        if body == "*":
            return set(range(self.low, top + 1, int(step_text or 1)))
        low, dash, high = body.partition("-")
        first = self._number(low, part) % (top + 1) or self.low  # Sunday's 7 is its 0
        if not (dash or slash):
            return {first}
        last = self._number(high, part) if dash else top
        if first == last:
            raise ValueError(f"{part!r}: Dagster takes a range of one {self.name} for the whole; write {low} alone")
        if first <= last:
            stepped = range(first, last + 1, int(step_text or 1))
            return {self.low if value > top else value for value in stepped}
        if slash:
            raise ValueError(f"{part!r} has a step in a range that runs backwards; write its values one by one")
        return {*range(first, top + 1), *range(self.low, last + 1)}

    def _number(self, text: str, part: str) -> int:
        value = int(text) if _is_number(text) else -1
        if text.lower() in self.names:
            value = self.names.index(text.lower()) + self.low
        if not self.low <= value <= self.high:
            raise self._wrong(part)
        return value

    def _wrong(self, part: str) -> ValueError:
        return ValueError(f"{part!r} is not a {self.name} ({self.low}-{self.high})")


_FIELDS = (
    _Field("minute", 0, 59, each="hour"),
    _Field("hour", 0, 23, each="day"),
    _Field("day of the month", 1, 31, each="month"),
    _Field(
        "month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), "year"
    ),
    _Field("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"), "week", last=6),
)


class Cron(str):
    """A cron expression of five fields (minute, hour, day of the month, month, day of the week) that comes."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Check and wrap an expression: numbers, names, ``*``, lists, ranges, steps; ``@daily`` and its like become
        their five fields. Raises ValueError, also for a day that never comes (30 February)."""
        known = _ALIASES.get(text.strip().lower(), text)
        fields = known.split()
        if len(fields) != len(_FIELDS):
            raise ValueError(
                f"{text!r} is not a cron expression: it has {count_text(len(fields), 'field')} instead of 5"
            )
        cron = cls(" ".join(fields))
        try:
            days, months = cron.values()[2:4]
        except ValueError as error:
            raise ValueError(f"{error} in the cron expression {text!r}") from None
        # With a day of the week beside it, such a day is one of two choices; Dagster fails over it all the same.
        if not any(day <= _DAYS[month - 1] for month in months for day in days):
            raise ValueError(f"the day of the cron expression {text!r} never comes: no such month has it")
        return cron

    def values(self) -> list[set[int]]:
        """What each field stands for; Sunday is 0."""
        return [field.values(text) for field, text in zip(_FIELDS, self.split(), strict=True)]

    def notes(self) -> Iterator[str]:
        """What is taken otherwise than it reads: steps that do not fit into their hour, day, month, year or week."""
        for field, text in zip(_FIELDS, self.split(), strict=True):
            for part in text.split(","):
                body, _, step_text = part.partition("/")
                step, span = int(step_text or 1), field.high - field.low + 1
                uneven = body == "*" and field.name in ("minute", "hour") and span % step
                if step > field.high or uneven:
                    values = sorted(field.values(part))
                    shown = ", ".join(map(str, values[:_SHOWN_VALUES])) + (
                        ", ..." if len(values) > _SHOWN_VALUES else ""
                    )
                    yield f"{part!r} means {field.name} {shown} of each {field.each}, not one in {step}"


class TimeZone(str):
    """The IANA name of a time zone that this machine knows."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> TimeZone:
        """Check and wrap a name. Raises ValueError with the nearest name. UTC is known everywhere; on a machine without
        any time zones (a slim image without ``tzdata``) every name is taken, see :meth:`notes`."""
        if text == "UTC" or _loads(text):
            return cls(text)
        known = _known()
        if not known:
            return cls(text)
        import difflib  # for those who mistyped alone

        ends = [name for name in known if name.lower().rpartition("/")[2] == text.lower().replace(" ", "_")]
        season = text.isupper() and len(text) <= 5  # CEST is no zone, and EST is another one
        near = [] if season else sorted(ends, key=len) or difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "write an IANA name of a place, for example Europe/Berlin"
        raise ValueError(f"{text[:80]!r} is not a time zone that this machine knows; {hint}")

    def notes(self) -> Iterator[str]:
        """Says when the name could not be looked up."""
        if self != "UTC" and not _loads(self):
            yield f"{str(self)!r} is not checked: this machine has no time zones; install tzdata"


@functools.cache
def _known() -> frozenset[str]:
    import zoneinfo  # most have UTC

    return frozenset(zoneinfo.available_timezones())


def _loads(name: str) -> bool:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # unknown; no plain name or no such file; a folder
        return False
    return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4


__all__ = ["CRON_PATTERN", "TIME_ZONE_PATTERN", "Cron", "TimeZone"]
