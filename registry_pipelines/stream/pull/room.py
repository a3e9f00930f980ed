"""Whether the disk has room for what is on its way: said before half of it is written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from registry_pipelines.errors import DiskFull
from registry_pipelines.progress import size_text

LOOK_EVERY_BYTES = 8 << 20
"""Written between two looks."""

JUDGED_FROM = 0.25
"""Share of the compressed bytes that has to be here before what they unpack to says something of the rest."""

MARGIN = 1.25
"""How much more than there is the rest must seem to take. A pull that just fits is never refused."""


class Room:
    """Counts what comes and what is written; for many threads. folder: on the disk that is written to. coming: bytes to
    be fetched, compressed. Raises DiskFull: not even those have room."""

    def __init__(self, folder: Path, coming: int) -> None:
        self._folder, self._coming = folder, coming
        self._came = self._written = 0
        self._look_at = LOOK_EVERY_BYTES
        self._lock = threading.Lock()
        free = self._free()
        if coming > free:
            raise self._full(f"{size_text(coming)} are to be fetched, and unpacked they are more", free)

    def came(self, byte_count: int) -> None:
        """So many compressed bytes were read."""
        with self._lock:
            self._came += byte_count

    def written(self, byte_count: int) -> None:
        """So many bytes were written. Raises DiskFull: the rest will not fit."""
        with self._lock:
            self._written += byte_count
            if self._written < self._look_at:
                return
            self._look_at = self._written + LOOK_EVERY_BYTES
            came, written = self._came, self._written
        if came < JUDGED_FROM * self._coming:
            return
        rest, free = (self._coming - came) * written / came, self._free()
        if rest > MARGIN * free:
            raise self._full(f"some {size_text(int(rest))} are still to be written", free)

    def _free(self) -> int:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def _full(self, needed: str, free: int) -> DiskFull:
        return DiskFull(
            f"the disk has no room for the image: {needed}, {size_text(free)} are free",
            where=str(self._folder),
            do="Free space, or name a folder on another disk; layers that are whole are kept for the next try",
        )


__all__ = ["Room"]
