"""fanotify as the kernel speaks it (fanotify(7), linux/fanotify.h): who reads of a watched file waits for an answer.

Standard library only: the holder (``holder``) is a small process. Watching needs Linux 6.14, CAP_SYS_ADMIN and a file
system that takes part (ext4, XFS, btrfs).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_PRE_CONTENT, FAN_UNLIMITED_QUEUE = 0x1, 0x2, 0x8, 0x10
FAN_REPORT_TID = 0x100
FAN_MARK_ADD, FAN_MARK_REMOVE = 0x1, 0x2
FAN_PRE_ACCESS = 0x100000
FAN_ALLOW, FAN_DENY = 1, 2
DENY_EIO = FAN_DENY | errno.EIO << 24
"""``FAN_DENY_ERRNO(EIO)``: the read ends with EIO."""

SLOTS = 1 << 16
"""Numbers that the descriptor of an event may have."""

_METADATA = struct.Struct("=IBBHQii")
"""Length with all that follows, version, reserved, length of this, mask, descriptor, thread."""
_INFO = struct.Struct("=BBH")
"""Kind, padding, length."""
_RANGE, _RANGE_BODY = 6, struct.Struct("=4x4xQQ")
"""``FAN_EVENT_INFO_TYPE_RANGE``: offset and count, behind the head and padding."""
_ONE = struct.Struct("=IBBHQiiBBH4xQQ")
"""All of an event that is alone."""
_ANSWER = struct.Struct("=iI")
_SLOT = struct.Struct("=QQ")
"""Offset, and bytes; no bytes: free."""
_VERSION = 3
_AS_ONE = (_ONE.size, _VERSION, _METADATA.size, _RANGE)
_READ_BYTES = 1 << 12
_F_SETSIG = 10
_SIGURG = 23
_libc = ctypes.CDLL(None, use_errno=True)
_keeping_lock = ctypes.PyDLL(None, use_errno=True)
"""No other thread runs meanwhile: between a read and :meth:`Taken.add` a kill costs an EIO, and who lets the
interpreter go to answer waits for other threads before it can take the next read."""


class Event(NamedTuple):
    """A read that waits for an answer."""

    descriptor: int
    """Names it in the answer; to be closed then."""
    offset: int
    size: int
    """Bytes of the file that are to be read; none where the kernel does not say."""
    thread: int = 0
    """Of who reads, where that is known."""


def open_group() -> int:
    """A descriptor that events are read from; its queue has no limit, for a full one lets readers through. Raises
    OSError: EINVAL where the kernel has no such events, EPERM without CAP_SYS_ADMIN."""
    flags = FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_REPORT_TID
    return _checked(_libc.fanotify_init(ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_CLOEXEC)))


def watch(group: int, data: int) -> None:
    """Whoever opens a file from now on, and reads, waits for an answer. Who has it open already, as by ``data``, is
    never asked. Raises OSError: EINVAL where the kernel has no such events, EOPNOTSUPP where a file system has none."""
    _mark(group, FAN_MARK_ADD, data)


def unwatch(group: int, data: int) -> None:
    """Nobody is asked any more. Raises OSError."""
    _mark(group, FAN_MARK_REMOVE, data)


def _mark(group: int, what: int, data: int) -> None:
    _checked(_libc.fanotify_mark(group, ctypes.c_uint(what), ctypes.c_uint64(FAN_PRE_ACCESS), data, None))


def events(group: int) -> list[Event]:
    """Reads that wait; none for now. Each has to be answered. Raises OSError."""
    raw = ctypes.create_string_buffer(_READ_BYTES)
    count = _keeping_lock.read(group, raw, ctypes.c_size_t(_READ_BYTES))
    if count < 0 and ctypes.get_errno() == errno.EAGAIN:
        return []
    return list(_parsed(raw.raw[: _checked(count)]))


def _parsed(raw: bytes) -> Iterator[Event]:
    at = 0
    if len(raw) == _ONE.size:  # as it is nearly always
        length, version, _, head, _, descriptor, thread, kind, _, _, offset, size = _ONE.unpack(raw)
        if (length, version, head, kind) == _AS_ONE and descriptor >= 0:
            yield Event(descriptor, offset, size, thread)
            return
    while at < len(raw):
        length, version, _, head, _, descriptor, thread = _METADATA.unpack_from(raw, at)
        if version != _VERSION:
            raise OSError(errno.EPROTO, "the kernel speaks another version of fanotify")
        offset = size = 0
        info = at + head
        while info < at + length:
            kind, _, info_length = _INFO.unpack_from(raw, info)
            if kind == _RANGE:
                offset, size = _RANGE_BODY.unpack_from(raw, info)
            info += info_length
        at += length
        if descriptor >= 0:
            yield Event(descriptor, offset, size, thread)


def answer(group: int, descriptor: int, what: int) -> None:
    """Let a reader go on, or have it fail. Nothing happens where nobody waits under that number any more."""
    if _keeping_lock.write(group, _ANSWER.pack(descriptor, what), ctypes.c_size_t(_ANSWER.size)) < 0:
        number = ctypes.get_errno()
        if number != errno.ENOENT:
            raise OSError(number, os.strerror(number))


def close(descriptor: int) -> None:
    """Of an event that is answered."""
    _keeping_lock.close(descriptor)


def deny_unanswered(group: int, numbers: range | list[int]) -> None:
    """Have reads fail that a process took and did not answer before it was killed. Before any event is read: the
    kernel gives numbers again."""
    for number in numbers:
        answer(group, number, DENY_EIO)


def is_read(data: int) -> bool:
    """Whether a file is open but by ``data`` and its copies: by a mount, which no list of mounts may show any more.
    data: opened for writing. It asks for a lease, which the kernel gives nobody else then (fcntl(2))."""
    fcntl.fcntl(data, _F_SETSIG, _SIGURG)  # harmless, where SIGIO would end the process
    try:
        fcntl.fcntl(data, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(data, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


class Taken:
    """Which reads a process has taken and not answered: in memory that outlives it, so that who comes after it knows
    what they wait for."""

    def __init__(self, memory: int = -1) -> None:
        """memory: of another process; else it is made."""
        if memory < 0:
            memory = os.memfd_create("taken")
            os.ftruncate(memory, SLOTS * _SLOT.size)
        self.memory = memory
        self._map = mmap.mmap(memory, SLOTS * _SLOT.size)

    def add(self, event: Event) -> None:
        """It was read."""
        _SLOT.pack_into(self._map, event.descriptor * _SLOT.size, event.offset, event.size)

    def remove(self, descriptor: int) -> None:
        """It was answered; before its number is free."""
        _SLOT.pack_into(self._map, descriptor * _SLOT.size, 0, 0)

    def is_free(self, descriptor: int) -> bool:
        """Whether it was answered, by whom ever."""
        return not _SLOT.unpack_from(self._map, descriptor * _SLOT.size)[1]

    def all(self) -> list[Event]:
        """Those that are not answered."""
        slots = enumerate(_SLOT.iter_unpack(self._map[:]))
        return [Event(number, offset, size) for number, (offset, size) in slots if size]

    def close(self) -> None:
        """Let the memory go."""
        self._map.close()
        os.close(self.memory)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


__all__ = [
    "DENY_EIO",
    "FAN_ALLOW",
    "SLOTS",
    "Event",
    "Taken",
    "answer",
    "close",
    "deny_unanswered",
    "events",
    "is_read",
    "open_group",
    "unwatch",
    "watch",
]
