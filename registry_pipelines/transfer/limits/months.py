"""Bytes that a registry gives in a month: counted for all processes with the same folder, told in plans.

ECR Public gives 500 GB a month to an address that does not log in (AWS's price list of ECR Public, "data transfer
out"), and does not say how much is left: this is what was read from here, or by all workers on one state. Another
machine behind the same address is not in it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from registry_pipelines.oci.files import local_errors


class Counts(Protocol):
    """A number that many add to; :class:`~registry_pipelines.shared.budgets.Count`."""

    def add(self, amount: int) -> None:
        """Add to it."""
        ...

    def total(self) -> int:
        """What all have added."""
        ...


class MonthOfBytes:
    """The bytes read of one registry in this month (UTC). path: where processes share it, without the month; None
    counts for this process. limit: bytes a month. counts: where many machines share it, by name; then there is no file.
    Safe for many threads."""

    def __init__(
        self,
        path: Path | None,
        registry: str,
        limit: int,
        *,
        counts: Callable[[str], Counts] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._registry, self.limit, self._clock = path, registry, limit, clock
        self._counts = counts
        self._lock = threading.Lock()
        self._here: dict[str, int] = {}

    def add(self, byte_count: int) -> None:
        """So many were read. Raises DiskFull, LocalError."""
        self._move(byte_count)

    def so_far(self) -> int:
        """Bytes of this month. Raises LocalError."""
        return self._move(0)

    def note(self) -> str:
        """``public.ecr.aws: 12.3 GB of 500.0 GB this month read from here, 487.7 GB left until 1 December (UTC)``."""
        used, now = self.so_far(), datetime.fromtimestamp(self._clock(), UTC)
        following = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
        left = f"{_gb(self.limit - used)} left" if used < self.limit else "none left: log in, or use a cache"
        return (
            f"{self._registry}: {_gb(used)} of {_gb(self.limit)} this month read from here, {left} until "
            f"{following.day} {following:%B} (UTC)"
        )

    def _move(self, byte_count: int) -> int:
        """The bytes of this month, where none are added; else it is not said."""
        month = f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m}"
        if self._counts is not None:
            shared = self._counts(f"{self._registry} bytes-of {month}")
            if not byte_count:
                return shared.total()
            shared.add(byte_count)
            return byte_count
        with self._lock:
            if self._path is None:
                self._here[month] = self._here.get(month, 0) + byte_count
                return self._here[month]
            path = self._path.with_name(f"{self._path.name}-{month}")
            with local_errors(path):
                return _count(path, byte_count)


def _gb(byte_count: int) -> str:
    """As the price list counts."""
    return f"{byte_count / 1000**3:.1f} GB"


def _count(path: Path, byte_count: int) -> int:
    if not byte_count and not path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        stored = os.pread(descriptor, 8, 0)
        so_far = (struct.unpack("<Q", stored)[0] if len(stored) == 8 else 0) + byte_count
        if byte_count:
            os.pwrite(descriptor, struct.pack("<Q", so_far), 0)
        return int(so_far)
    finally:
        os.close(descriptor)


__all__ = ["Counts", "MonthOfBytes"]
