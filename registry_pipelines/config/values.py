"""Small values of the configuration: secrets, durations, cron expressions, glob patterns, version ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION_PATTERN = r"^[0-9]{1,9}(ms|s|m|h|d|w)$"
CRON_PATTERN = r"^\s*(\S+\s+){4}\S+\s*$"

_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


class Secret(str):
    """A secret string. ``repr`` and ``format`` never show it; :meth:`reveal` gives the value.

    ``str(secret)`` and an f-string hide it too, so that a log line cannot leak it by accident.
    """

    __slots__ = ()

    def reveal(self) -> str:
        """The value itself, as a plain ``str``."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"

    def __str__(self) -> str:
        return "***" if self else ""

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled, so that it cannot reach a file or another process")


class Duration(timedelta):
    """A length of time, written as a whole number with a unit: ms, s, m, h, d, w (``30s``, ``7d``)."""

    def __str__(self) -> str:
        seconds = self.total_seconds()
        for unit in ("w", "d", "h", "m", "s"):
            if seconds and seconds % _SECONDS[unit] == 0:
                return f"{int(seconds // _SECONDS[unit])}{unit}"
        return f"{round(seconds * 1000)}ms"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a duration. Raises ValueError with a sentence for people."""
        match = _DURATION.match(text)
        if not match:
            raise ValueError(f"{text!r} is not a duration; write a whole number and ms, s, m, h, d or w, like 7d")
        try:
            return cls(seconds=int(match[1]) * _SECONDS[match[2]])
        except OverflowError as error:
            raise ValueError(f"{text!r} is longer than a duration can be") from error


class Cron(str):
    """A cron expression of five fields (minute, hour, day of the month, month, day of the week)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Check and wrap an expression: numbers, names, ``*``, lists, ranges, steps. Raises ValueError."""
        fields = text.split()
        if len(fields) != len(_CRON_FIELDS):
            raise ValueError(f"{text!r} is not a cron expression: it has {len(fields)} fields instead of 5")
        for field, (name, low, high, names) in zip(fields, _CRON_FIELDS, strict=True):
            for part in field.split(","):
                _check_cron_part(part, text, name, low, high, names)
        return cls(" ".join(fields))


def _check_cron_part(part: str, text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> None:
    wrong = f"{part!r} is not a {name} ({low}-{high}) in the cron expression {text!r}"
    body, slash, step = part.partition("/")
    if slash and (not _is_number(step) or int(step) == 0):
        raise ValueError(wrong)
    if body == "*":
        return
    bounds = []
    for end in body.split("-"):
        if end.lower() in names:
            bounds.append(names.index(end.lower()) + low)
        elif _is_number(end):
            bounds.append(int(end))
        else:
            raise ValueError(wrong)
    if len(bounds) > 2 or any(not low <= bound <= high for bound in bounds) or bounds != sorted(bounds):
        raise ValueError(wrong)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4


@dataclass(frozen=True)
class Pattern:
    """What a string must look like. ``what`` names it for people, ``do`` says how to write it."""

    expression: str
    what: str
    do: str

    def check(self, text: str) -> str:
        """Return ``text`` when it matches. Raises ValueError."""
        if not re.search(self.expression, text) or text.endswith("\n"):
            raise ValueError(f"{text[:120]!r} is not {self.what}; {self.do}")
        return text


NAME = Pattern(r"^[a-z0-9][a-z0-9_-]{0,62}$", "a name", "use 1 to 63 lower-case letters, digits, - and _")
HOST = Pattern(
    r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$",
    "a registry host",
    "write host or host:port, without https:// and without a path",
)
REPOSITORY = Pattern(
    r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
    "a repository name",
    "use lower-case letters, digits, single . _ - between them, and / between parts",
)
PREFIX = Pattern(
    r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)?$",
    "a repository prefix",
    "write it like a repository name, without a slash at its ends; empty for none",
)
TAG = Pattern(
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", "a tag", "use at most 128 letters, digits, _ . -, not starting with . or -"
)
PLATFORM = Pattern(
    r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$", "a platform", "write os/architecture, for example linux/amd64"
)
GLOB = Pattern(
    r"^[A-Za-z0-9_.*?\[\]!/-]{1,255}$", "a pattern", "use letters, digits, _ . - / and the wildcards * ? [ ]"
)
JOURNAL = Pattern(
    r"^postgres(ql)?(\+psycopg)?://([^@\s]+@)?[^@\s]+$",
    "the address of a Postgres database",
    "write postgresql://user:password@host/database; in a password @ is %40, : is %3A and / is %2F",
)
TIME_ZONE = Pattern(r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$", "a time zone", "write an IANA name, for example Europe/Berlin")
