"""A rate that all processes of a machine keep together: one small locked file per rate."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import NamedTuple, Protocol

from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import local_errors

CREDIT_S = 0.5
"""Idle time that may be made up for. Small, because links are shared: over 60 s it is less than one per cent."""

LONGEST_LINE_S = 24 * 3600.0
"""A line that is free later than this was written by a clock that ran ahead, or is damaged; it is free now."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Rate(Protocol):
    """A rate that somebody keeps: the processes of a machine (:class:`Bucket`), or all workers on one state
    (:class:`~registry_pipelines.shared.budgets.Line`)."""

    users: int
    """How many workers use it, with this one; the processes of a machine are one."""

    def reserve(self, amount: float, per_second: float) -> float:
        """Take ``amount``; seconds to wait until it is covered."""
        ...

    def block(self, seconds: float) -> None:
        """Nobody may go on before so many seconds have passed."""
        ...

    def wait_s(self) -> float:
        """Seconds until the line is free."""
        ...


class Bucket:
    """Reservations against a rate (the generic cell rate algorithm: the file holds when the line is free again).

    path: None keeps the rate for this process alone.
    """

    users = 1

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._free_at = 0.0
        self._lock = threading.Lock()

    def reserve(self, amount: float, per_second: float) -> float:
        """Take ``amount``; seconds to wait until it is covered."""
        return self._move(lambda free_at, now: max(free_at, now - CREDIT_S) + amount / per_second)

    def block(self, seconds: float) -> None:
        """Nobody may go on before so many seconds have passed."""
        self._move(lambda free_at, now: max(free_at, now + seconds))

    def release(self) -> None:
        """Everybody may go on at once."""
        self._move(lambda _free_at, _now: 0.0)

    def wait_s(self) -> float:
        """Seconds until the line is free."""
        return self._move(lambda free_at, _now: free_at)

    def _move(self, change: Callable[[float, float], float]) -> float:
        with self._lock:
            if self._path is None:
                now = self._clock()
                self._free_at = change(self._free_at, now)
                return max(0.0, self._free_at - now)
            with local_errors(self._path):
                return self._move_shared(self._path, change)

    def _move_shared(self, path: Path, change: Callable[[float, float], float]) -> float:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = self._clock()
            stored = os.pread(descriptor, 8, 0)
            free_at = struct.unpack("<d", stored)[0] if len(stored) == 8 else 0.0
            free_at = change(free_at if free_at <= now + LONGEST_LINE_S else now, now)
            os.pwrite(descriptor, struct.pack("<d", free_at), 0)
        finally:
            os.close(descriptor)
        return max(0.0, free_at - now)


class CapWindow(NamedTuple):
    """A bandwidth cap for some hours: bytes a second on these days (0 is Monday) from start up to end, local time. An
    end at or before the start lies on the next day."""

    bytes_per_s: int
    days: frozenset[int]
    start: time_of_day
    end: time_of_day

    @classmethod
    def parse(cls, text: str) -> CapWindow:
        """Read ``20MB/s mon-fri 08:00-18:00`` (days and hours may be left out: always). Raises InputError."""
        fields = text.split()
        if not fields:
            raise InputError("an empty bandwidth cap", do="Write for example '20MB/s mon-fri 08:00-18:00'")
        days, start, end = frozenset(range(7)), time_of_day(0), time_of_day(0)
        try:
            for extra in fields[1:]:
                if ":" in extra:
                    start, end = (time_of_day.fromisoformat(part) for part in extra.split("-"))
                else:
                    days = _read_days(extra)
            return cls(_read_rate(fields[0]), days, start, end)
        except ValueError as error:
            raise InputError(
                f"{text!r} is not a bandwidth cap: {error}", do="Write for example '20MB/s mon-fri 08:00-18:00'"
            ) from error

    def holds(self, moment: datetime) -> bool:
        """Whether it applies at a local time."""
        at = moment.time()
        if self.start < self.end:
            return moment.weekday() in self.days and self.start <= at < self.end
        yesterday = (moment.weekday() - 1) % 7
        return (moment.weekday() in self.days and at >= self.start) or (yesterday in self.days and at < self.end)


def cap_at(windows: tuple[CapWindow, ...], moment: datetime) -> int:
    """Bytes a second at a local time: the smallest of the caps that hold, 0 when none does."""
    return min((window.bytes_per_s for window in windows if window.holds(moment)), default=0)


def _read_rate(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(k|M|G)?(B|bit)/s", text)
    if not match or not float(match[1]):
        raise ValueError(f"{text!r} is not a rate such as 20MB/s or 100Mbit/s")
    scale = {None: 1, "k": 1000, "M": 1000**2, "G": 1000**3}[match[2]]
    return max(1, int(float(match[1]) * scale / (8 if match[3] == "bit" else 1)))


def _read_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for piece in text.lower().split(","):
        first, _, last = piece.partition("-")
        begin, stop = _DAYS.index(first), _DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((stop - begin) % 7 + 1))
    return frozenset(days)
