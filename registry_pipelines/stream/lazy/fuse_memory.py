"""What the server of a FUSE mount must not take with it when it is killed, in memory that others hold, too: a small
file of the kernel's (memfd) with tables of fixed places, so that each is whole at any moment.

It says what was agreed with the kernel, which large files are open and how (``passthrough``), and, for kernels that do
not send again what nobody answered (before Linux 6.9), which requests were read and have no answer. Requests are read
into it, so there is no moment in which one is known to nobody.

Standard library only: ``keeper`` reads it.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from registry_pipelines.stream.lazy.fuse_wire import NOTIFY_RESEND, REPLY, REQUEST_BYTES

_MAGIC = b"rp-fuse\x01"
"""Its last byte is the version of all below."""

READY, RESENDS, PASSES, ENDED = 1, 2, 4, 8
"""Flags: the kernel has begun to ask; it sends unanswered requests again; it reads backing files; the mount's
name is gone, and it lasts as long as it is in use."""

MOST_READERS = 8
_MOST_TOLD_BYTES = 4080
"""Of a mount, to who serves it next; behind it are the files."""

MOST_FILES = 1 << 14
MOST_UNANSWERED = 1 << 12

_HEAD = struct.Struct("=8sII")
"""Magic, flags, bytes of what is told; that follows."""
_FLAGS_AT, _TOLD_AT = 8, 16
_FILE = struct.Struct("=IIII")
_FILES_AT = 4096
_UNIQUE = struct.Struct("=Q")
_UNANSWERED_AT = _FILES_AT + MOST_FILES * _FILE.size
_READING_AT = _UNANSWERED_AT + MOST_UNANSWERED * _UNIQUE.size
_BYTES = _READING_AT + MOST_READERS * REQUEST_BYTES
_UNIQUE_IN_REQUEST = 8
_NO_FILE = (0, 0, 0, 0)


class OpenFile(NamedTuple):
    """A large file that is open."""

    number: int
    cached: int
    """How often it is open and read by questions."""
    passed: int
    """And by its copy."""
    backing: int
    """The kernel's number of that; 0 for none."""


class Memory:
    """See the module. For many threads."""

    def __init__(self, descriptor: int | None = None) -> None:
        """descriptor: of a memory that another process made; else it is made. Raises ValueError: another version made
        it; OSError."""
        made = descriptor is None
        self.descriptor: int
        if descriptor is None:
            self.descriptor = os.memfd_create("registry-pipelines-mount", os.MFD_CLOEXEC)
            os.ftruncate(self.descriptor, _BYTES)
        else:
            self.descriptor = descriptor
        if os.fstat(self.descriptor).st_size != _BYTES:
            raise ValueError("another version of this program made it")
        self._map = mmap.mmap(self.descriptor, _BYTES)
        if made:
            _HEAD.pack_into(self._map, 0, _MAGIC, 0, 0)
        elif self._map[: len(_MAGIC)] != _MAGIC:
            raise ValueError("another version of this program made it")
        self._lock = threading.Lock()
        self._slots: dict[int, int] = {}
        """Of unanswered requests, by their numbers."""
        self._free: list[int] = list(range(MOST_UNANSWERED)) if made else []

    @property
    def flags(self) -> int:
        """Those above."""
        return int(_HEAD.unpack_from(self._map)[1])

    def set(self, flag: int) -> None:
        """From now on it is so."""
        with self._lock:
            struct.pack_into("=I", self._map, _FLAGS_AT, self.flags | flag)

    @property
    def told(self) -> bytes:
        """What the one that mounted it tells of it."""
        size = _HEAD.unpack_from(self._map)[2]
        return bytes(self._map[_TOLD_AT : _TOLD_AT + min(size, _MOST_TOLD_BYTES)])

    def tell(self, told: bytes) -> None:
        """Before anybody else has it. Raises ValueError: too much."""
        if len(told) > _MOST_TOLD_BYTES:
            raise ValueError("that is too much to tell of a mount")
        self._map[_TOLD_AT : _TOLD_AT + len(told)] = told
        _HEAD.pack_into(self._map, 0, _MAGIC, self.flags, len(told))

    def reading(self, reader: int) -> memoryview:
        """Where a thread reads requests."""
        start = _READING_AT + reader * REQUEST_BYTES
        return memoryview(self._map)[start : start + REQUEST_BYTES]

    def answered(self, reader: int) -> None:
        """What that thread read last has its answer, or is known otherwise."""
        _UNIQUE.pack_into(self._map, _READING_AT + reader * REQUEST_BYTES + _UNIQUE_IN_REQUEST, 0)

    def add(self, unique: int) -> bool:
        """A request whose answer comes later; False: there is no room."""
        with self._lock:
            if not self._free:
                return False
            slot = self._slots[unique] = self._free.pop()
        _UNIQUE.pack_into(self._map, _UNANSWERED_AT + slot * _UNIQUE.size, unique)
        return True

    def remove(self, unique: int) -> None:
        """It has its answer."""
        with self._lock:
            slot = self._slots.pop(unique, None)
            if slot is not None:
                _UNIQUE.pack_into(self._map, _UNANSWERED_AT + slot * _UNIQUE.size, 0)
                self._free.append(slot)

    def unanswered(self) -> list[int]:
        """Numbers of requests that were read, and may have no answer."""
        table = self._map[_UNANSWERED_AT:_READING_AT]
        found = [unique for (unique,) in _UNIQUE.iter_unpack(table) if unique]
        for reader in range(MOST_READERS):
            (unique,) = _UNIQUE.unpack_from(self._map, _READING_AT + reader * REQUEST_BYTES + _UNIQUE_IN_REQUEST)
            found += [unique] * bool(unique)
        return found

    def files(self) -> Iterator[tuple[int, OpenFile]]:
        """Large files that are open, each with its place in the table."""
        table = self._map[_FILES_AT:_UNANSWERED_AT]
        for slot, row in enumerate(_FILE.iter_unpack(table)):
            if row != _NO_FILE:
                yield slot, OpenFile(*row)

    def put_file(self, slot: int, file: OpenFile | None) -> None:
        """None: it is closed."""
        _FILE.pack_into(self._map, _FILES_AT + slot * _FILE.size, *(file or _NO_FILE))

    def close(self) -> None:
        """This process needs it no more; others may."""
        os.close(self.descriptor)

    def recover(self, device: int) -> None:
        """The process that served is gone: what it had read and not answered is asked again (``FUSE_NOTIFY_RESEND``),
        and can be given up by who waits; where the kernel cannot do that, it ends with EIO. Whatever happens, nobody
        waits for an answer that cannot come."""
        if self.flags & RESENDS:
            with suppress(OSError):
                os.write(device, REPLY.pack(REPLY.size, NOTIFY_RESEND, 0))
                return
        for unique in self.unanswered():
            with suppress(OSError):  # it had its answer
                os.write(device, REPLY.pack(REPLY.size, -errno.EIO, unique))

    def begin(self) -> None:
        """This process serves from now on, behind :meth:`recover`: nothing is unanswered."""
        self._map[_UNANSWERED_AT:_READING_AT] = bytes(_READING_AT - _UNANSWERED_AT)
        for reader in range(MOST_READERS):
            self.answered(reader)
        with self._lock:
            self._slots, self._free = {}, list(range(MOST_UNANSWERED))


__all__ = [
    "ENDED",
    "MOST_FILES",
    "MOST_READERS",
    "PASSES",
    "READY",
    "RESENDS",
    "Memory",
    "OpenFile",
]
