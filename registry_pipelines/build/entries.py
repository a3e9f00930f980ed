"""Tar entries that are the same on every machine: fixed time, root's, no names of users."""

from __future__ import annotations

import functools
import tarfile
from typing import Any

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


def header_bytes(info: tarfile.TarInfo) -> bytes:
    """``info.tobuf(PAX_FORMAT)``. Most entries fit into one block and differ by name and size alone: those two are put
    into a block that ``tarfile`` made, a fifth of the time."""
    name = info.name + "/" * (info.isdir() and not info.name.endswith("/"))
    facts = (info.type, info.mode, info.mtime, info.uid, info.gid, info.uname, info.gname)
    block = bytearray(_nameless(facts))
    simple = len(name) <= tarfile.LENGTH_NAME and name.isascii() and 0 <= info.size < 8**11
    if not simple or info.linkname or info.isdev() or info.pax_headers or len(block) != tarfile.BLOCKSIZE:
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    block[: len(name)] = name.encode()
    block[124:135] = b"%011o" % info.size
    block[148:156] = b" " * 8  # counts as blanks in its own sum
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@functools.lru_cache(64)
def _nameless(facts: tuple[Any, ...]) -> bytes:
    """What ``tarfile`` makes of an entry without name and size; more than a block where it cannot say it in one."""
    info = tarfile.TarInfo("")
    info.type, info.mode, info.mtime, info.uid, info.gid, info.uname, info.gname = facts
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def folders_of(paths: list[str], *, below: str) -> list[str]:
    """All folders the paths stand in that are inside ``below``, sorted; ``below`` itself and its parents are left to
    the base layer, whose modes they keep."""
    folders: set[str] = set()
    prefix = below.rstrip("/") + "/"
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent.startswith(prefix) and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return sorted(folders)
