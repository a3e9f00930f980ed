"""Tar entries that are the same on every machine: fixed time, root's, no names of users."""

from __future__ import annotations

import tarfile

FIXED_TIME = 315532800
"""1980-01-01T00:00:00Z, the oldest time a zip can hold; some tools choke on zero."""

FILE_MODE = 0o644
PROGRAM_MODE = 0o755
FOLDER_MODE = 0o755


def file_entry(path: str, size: int, *, mode: int = FILE_MODE) -> tarfile.TarInfo:
    """A regular file; ``path`` without leading slash, ``size`` in bytes."""
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = size, mode, FIXED_TIME
    return info


def folder_entry(path: str, *, mode: int = FOLDER_MODE) -> tarfile.TarInfo:
    """A folder; ``path`` without slashes at its ends."""
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, FIXED_TIME
    return info


def link_entry(path: str, target: str) -> tarfile.TarInfo:
    """A symbolic link."""
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode, info.mtime = tarfile.SYMTYPE, target, 0o777, FIXED_TIME
    return info


def folders_of(paths: list[str], *, below: str) -> list[str]:
    """All folders the paths stand in that are inside ``below``, sorted; ``below`` itself and its parents are left to
    the base layer, whose modes they keep."""
    found: set[str] = set()
    prefix = below.rstrip("/") + "/"
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent.startswith(prefix) and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return sorted(found)
