"""The machine that a start is measured on: its caches, dropped; its disk's speed; what it has."""

from __future__ import annotations

import mmap
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")
_PIECE = 1 << 22
DISK_BYTES = 128 << 20
"""Read for the disk's speed."""


def drop_caches() -> bool:
    """Forget every clean page, folder and inode, so that what is read comes from the disk; False without root."""
    os.sync()
    try:
        _DROP.write_text("3\n")
    except OSError:
        return False
    return True


def read_in(paths: Iterable[Path]) -> int:
    """Read files into the page cache; bytes."""
    total = 0
    buffer = bytearray(_PIECE)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def disk_mb_per_s(folder: Path) -> float:
    """What the disk below a folder gives in one piece, past the page cache, 128 MiB of a file that is written for it;
    0 where the file system does not say (no O_DIRECT)."""
    path = folder / "disk-speed"
    try:
        with path.open("wb", buffering=0) as file:
            block = os.urandom(_PIECE)
            for _ in range(DISK_BYTES // _PIECE):
                file.write(block)
            os.fsync(file.fileno())
        return _read_speed(path)
    except OSError:
        return 0.0
    finally:
        path.unlink(missing_ok=True)


def _read_speed(path: Path) -> float:
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        started = time.monotonic()
        total = 0
        with mmap.mmap(-1, _PIECE) as buffer:  # O_DIRECT wants a page's alignment
            while count := os.readv(direct, [buffer]):
                total += count
        return total / 1e6 / (time.monotonic() - started)
    finally:
        os.close(direct)


def machine_text() -> str:
    """Cores, memory, kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
