"""Room on the disk for what is collected there: who needs some waits while others use it, and nobody fills the disk.

A blob that needs more than there is fails before the first byte is read, and not after the last but one. Blobs wait for
each other only while any of them moves: each may hold room at one target and wait for more at another, and of such a
circle one gives up.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from registry_pipelines.errors import DiskFull
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import size_text

RESERVE_BYTES = 512 * 1024**2
"""Left free for the state folder's own files and for others on the disk; of a small disk a twentieth."""
LONGEST_STILL_S = 60.0
"""Nothing that was collected moved for so long: waiting for it frees nothing."""


class Room:
    """The room of one file system, for all threads of this process. What other processes take is seen as gone.

    reserve_bytes, still_s: see the module's constants.
    """

    def __init__(self, *, reserve_bytes: int = RESERVE_BYTES, still_s: float = LONGEST_STILL_S) -> None:
        self._reserve_bytes, self._still_s = reserve_bytes, still_s
        self._turn = threading.Condition()
        self._promised = 0
        self._takers = 0
        self._moves = 0

    def take(self, folder: Path, byte_count: int, *, where: str) -> Share:
        """Wait for room for so many bytes more below ``folder``. Raises DiskFull when waiting does not help."""
        with self._turn:
            while (free := self._free(folder)) < byte_count:
                before = self._moves
                if not self._takers or (not self._turn.wait(self._still_s) and before == self._moves):
                    raise DiskFull(
                        f"{size_text(byte_count)} are needed to collect a blob, and {size_text(max(free, 0))} are free",
                        where=where,
                        do="Free space on the disk of the state folder, or put it elsewhere (`state`); then try again",
                    )
            self._promised += byte_count
            self._takers += 1
        return Share(self, byte_count)

    def _free(self, folder: Path) -> int:
        with local_errors(folder):
            disk = os.statvfs(folder)  # shutil's disk_usage is this, and brings bz2 and lzma
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        return free - min(self._reserve_bytes, total // 20) - self._promised

    def moved(self, written: int = 0) -> None:
        """Something was collected (so many bytes of what was promised are on the disk now), or sent."""
        with self._turn:
            self._promised -= written
            self._moves += 1

    def give_back(self, promised: int) -> None:
        """A taker is done; so much of what it was promised was never written."""
        with self._turn:
            self._promised -= promised
            self._takers -= 1
            self._turn.notify_all()


class Share:
    """What one blob was promised."""

    def __init__(self, room: Room, byte_count: int) -> None:
        self._room, self._left = room, byte_count
        self._open = True

    def moved(self, written: int = 0) -> None:
        """See Room."""
        written = min(written, self._left)
        self._left -= written
        self._room.moved(written)

    def close(self) -> None:
        """Give it back; safe to call twice."""
        if self._open:
            self._open = False
            self._room.give_back(self._left)


_LOCK = threading.Lock()
_ROOMS: dict[int, Room] = {}


def room_of(folder: Path) -> Room:
    """The room of the file system that a folder is on; the folder must be there. Raises LocalError."""
    with local_errors(folder):
        device = folder.stat().st_dev
    with _LOCK:
        return _ROOMS.setdefault(device, Room())


__all__ = ["LONGEST_STILL_S", "RESERVE_BYTES", "Room", "Share", "room_of"]
