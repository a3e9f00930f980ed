"""Folders for snapshots to come, made while nobody waits: ext4 without a journal, as some virtual machines and disks
for scratch have it, takes up to a millisecond for the three of a layer where files were deleted in the last minutes,
for it looks for inodes that were not in use then (``recently_deleted``, Linux ``fs/ext4/ialloc.c``)."""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

MOST = 16
"""As many layers as most images have above their base."""
QUIET_S = 0.2
"""After which none was taken: a pull that goes on takes the next in some milliseconds."""


class Spares:
    """See the module; below a folder of its own, of which nothing is kept. For many threads. Close it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._ready = deque[str]()
        self._taken = self._made = 0
        self._few, self._over = threading.Event(), threading.Event()
        self.full = threading.Event()
        """Set while it has all, or as many as the disk lets it make."""
        self._thread = threading.Thread(target=self._work, name="spares", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """What is left goes."""
        self._over.set()
        self._few.set()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, where: str) -> bool:
        """Move one there, as :func:`make` makes it with ``work``. False: there is none just now, or something is
        there."""
        try:
            spare = self._ready.popleft()
            os.rename(spare, where)  # noqa: PTH104 - a pull waits for it
        except (IndexError, OSError):
            return False
        finally:
            self._taken += 1
            if len(self._ready) < MOST // 2:
                self.full.clear()
                self._few.set()
        return True

    def _work(self) -> None:
        """In a thread."""
        shutil.rmtree(self._folder, ignore_errors=True)  # of a process that was killed
        while not self._over.is_set():
            with suppress(OSError):  # who needs one makes it, and says what is wrong
                self._fill()
            self.full.set()
            self._few.wait()
            self._few.clear()
            before = -1
            while before != self._taken and not self._over.is_set():
                before = self._taken
                self._over.wait(QUIET_S)

    def _fill(self) -> None:
        os.makedirs(self._folder, 0o700, exist_ok=True)  # noqa: PTH103 - as paths are told here
        while len(self._ready) < MOST and not self._over.is_set():
            self._made += 1
            spare = f"{self._folder}/{self._made}"
            make(spare, with_work=True)
            self._ready.append(spare)


def make(folder: str, *, with_work: bool) -> None:
    """The folders of a snapshot. Raises OSError."""
    os.mkdir(folder)  # noqa: PTH102
    os.mkdir(f"{folder}/fs")  # noqa: PTH102
    if with_work:
        os.mkdir(f"{folder}/work", 0o711)  # noqa: PTH102


__all__ = ["MOST", "Spares", "make"]
