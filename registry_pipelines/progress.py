"""How long work tells what it is doing: one small protocol, receivers that are silent or count, and the words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of named tasks from any thread. Byte counts only grow."""

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        """A task starts, or its total becomes known (called again with the total). group: what it is a part of, such as
        everything that goes to one registry; parts are shown together."""
        ...

    def advance(self, task: str, byte_count: int) -> None:
        """So many more bytes of the task are done."""
        ...

    def end(self, task: str, *, note: str = "") -> None:
        """The task is done; ``note`` says in a few words how (``unchanged``, ``mounted``, ``failed``)."""
        ...

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        """A registry keeps the work waiting, for some seconds already. Told once for each reason. left_s: until it goes
        on, or until it is given up; None when nobody knows."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        """See Progress."""

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        """See Progress."""


class Counter(Silent):
    """Adds the bytes of all tasks up."""

    def __init__(self) -> None:
        self.bytes_moved = 0
        self._lock = threading.Lock()

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        with self._lock:
            self.bytes_moved += byte_count


def size_text(byte_count: int) -> str:
    """``12.3 MiB``; ``0 B`` for nothing."""
    value = float(byte_count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count_text(number: int, one: str, several: str = "") -> str:
    """``1 receipt``, ``2 receipts``. several: where it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else several or one + 's'}"


MOST_ALIKE = 3
"""Reasons that differ only in what they are about and are still listed one by one."""
SHORT_LIST = 60
"""Characters of what they are about, up to which all of it is said in one line; a few registries are."""
_QUALIFIERS = re.compile(r"\?arch=.*", re.DOTALL)
"""Of a package URL, behind its name and version."""
_ABOUT = re.compile(r"(?P<kind>(?:accepted|not believed): )?(?:(?P<about>.*?): )?(?P<text>.*)", re.DOTALL)


def condensed(reasons: Iterable[str]) -> list[str]:
    """Reasons for people, each once: more than ``MOST_ALIKE`` that differ only in what they are about
    (``uncovered:pkg:generic/libz.so.1: ...``) become one line, with all of that or with their number."""
    groups: dict[tuple[str, str], list[str]] = {}
    for reason in dict.fromkeys(reasons):
        parts = _ABOUT.fullmatch(reason)
        kind, about, text = parts.groups("") if parts else ("", "", reason)
        groups.setdefault((kind, text), []).append(about)
    lines = []
    for (kind, text), subjects in groups.items():
        if len(subjects) <= MOST_ALIKE:
            lines += [f"{kind}{each}: {text}" if each else f"{kind}{text}" for each in subjects]
        elif all(subjects) and len(listed := ", ".join(subjects)) <= SHORT_LIST:
            lines.append(f"{kind}{listed}: {text}")
        else:
            first, last = (_QUALIFIERS.sub("", each) for each in (subjects[0], subjects[-1]))
            lines.append(f"{kind}{count_text(len(subjects), 'time')}, from {first} to {last}: {text}")
    return lines


def duration_text(seconds: float) -> str:
    """``14 s``, ``2 min 5 s``, ``3 h 20 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def age_text(seconds: float) -> str:
    """``14 s``, ``5 min``, ``3 h``, ``500 d``, ``2 y``: one unit, for columns. What is in the future is ``0 s`` old."""
    whole = max(0, int(seconds))
    for unit, unit_s, fewest in (("y", 365 * 86400, 2), ("d", 86400, 1), ("h", 3600, 1), ("min", 60, 1)):
        if whole >= fewest * unit_s:
            return f"{whole // unit_s} {unit}"
    return f"{whole} s"


def waiting_line(host: str, reason: str, left_s: float | None) -> str:
    """``waiting for reg.example: nothing listens there, 1 min 52 s left``."""
    left = "" if left_s is None else f", {duration_text(left_s)} left"
    return f"waiting for {host}: {reason}{left}"
