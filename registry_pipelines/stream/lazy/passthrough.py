"""Large files that the kernel reads by itself (Linux 6.9; its Documentation/filesystems/fuse-passthrough.rst).

What lies in a layer's tar cannot be handed out so: a backing file is read from its beginning. So of a large file that
is all here a copy of its own is made when it was read and closed; whoever opens it next has the kernel read that, as
fast as the disk, with no question to the server and no second copy in memory. Without it, or before there is a copy,
files are read by questions.

The kernel refuses a file (EIO) that is open in both ways at once: while one way is in use it stays.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Protocol

import msgspec

from registry_pipelines.stream.lazy.fuse_memory import MOST_FILES, Memory, OpenFile

LEAST_BYTES = 16 << 20
"""Of a file that gets a copy of its own."""

OPEN_OUT = struct.Struct("=QIi")
"""Handle, flags, number of the backing file."""
RELEASE_IN = struct.Struct("=Q")
"""Handle, and more that is of no use here."""

_KEEP_CACHE, _NO_FLUSH, _PASSTHROUGH = 1 << 1, 1 << 5, 1 << 7
_log = logging.getLogger(__name__)
_SMALL, _CACHED, _PASSED = 0, 1, 2
"""Handles: how a file was opened."""
_BACKING_OPEN, _BACKING_CLOSE = 0x4010E501, 0x4004E502
_BACKING = struct.Struct("=iIQ")


class Copies(Protocol):
    """Files that may have copies of their own."""

    def unpacked(self, number: int) -> int | None:
        """A descriptor of the copy; None where there is none."""
        ...

    def unpack(self, number: int) -> bool:
        """Make a copy where all of the file is here, and there is room. Whether there is one now. Takes long."""
        ...


class _Opened(msgspec.Struct):
    """A large file that is open."""

    cached: int = 0
    passed: int = 0
    backing: int = 0
    """The kernel's number of its copy."""
    slot: int = -1
    """Where it stands in the memory."""


class Passthrough:
    """How the files of one mount are opened; for many threads. It goes on with what ``memory`` says of that: the kernel
    refuses a file that it has open one way, and is now told of in another."""

    def __init__(self, device: int, copies: Copies, memory: Memory) -> None:
        self._device, self._copies, self._memory = device, copies, memory
        self._lock = threading.Lock()
        self._files: defaultdict[int, _Opened] = defaultdict(_Opened)
        self._copying, self._closed = threading.Lock(), False
        self._wanted: set[int] = set()
        """Files whose copies were asked for."""
        self._sizes: dict[int, int] = {}
        self._refused = False
        for slot, told in memory.files():
            self._files[told.number] = _Opened(told.cached, told.passed, told.backing, slot)
        taken = {file.slot for file in self._files.values()}
        self._fresh = (slot for slot in range(MOST_FILES) if slot not in taken)
        self._freed: list[int] = []

    @property
    def copied_bytes(self) -> int:
        """Of the copies that were used here."""
        return sum(list(self._sizes.values()))

    def close(self) -> None:
        """Make no more copies."""
        self._closed = True

    def open(self, number: int, mode: int, size: int) -> bytes:
        """The answer to who opens a file."""
        if size < LEAST_BYTES or not stat.S_ISREG(mode):
            return OPEN_OUT.pack(_SMALL, _KEEP_CACHE | _NO_FLUSH, 0)
        with self._lock:
            file = self._files[number]
            if file.slot < 0:
                file.slot = self._freed.pop() if self._freed else next(self._fresh, -1)
                if file.slot < 0:
                    del self._files[number]
                    raise OSError(errno.ENFILE, "so many large files are open")
            if not file.cached and (file.backing or self._backed(number, file)):
                file.passed += 1
                self._keep(number, file)
                return OPEN_OUT.pack(_PASSED, _PASSTHROUGH | _NO_FLUSH, file.backing)
            file.cached += 1
            self._keep(number, file)
        return OPEN_OUT.pack(_CACHED, _KEEP_CACHE | _NO_FLUSH, 0)

    def release(self, number: int, handle: int) -> None:
        """A file is closed for the last time by who opened it."""
        if handle == _SMALL:
            return
        with self._lock:
            file = self._files[number]
            if handle == _CACHED:
                file.cached -= 1
            else:
                file.passed -= 1
            if file.cached or file.passed:
                self._keep(number, file)
                return
            del self._files[number]
            self._memory.put_file(file.slot, None)
            self._freed.append(file.slot)
            if file.backing:
                with suppress(OSError):
                    fcntl.ioctl(self._device, _BACKING_CLOSE, struct.pack("=I", file.backing))
            elif not self._refused and number not in self._wanted:  # now, when it takes the disk from no reader of it
                self._wanted.add(number)
                # A program's end waits for no copy: that is when its libraries are closed.
                threading.Thread(target=self._unpack, args=(number,), name="lazy-unpack", daemon=True).start()

    def _keep(self, number: int, file: _Opened) -> None:
        self._memory.put_file(file.slot, OpenFile(number, file.cached, file.passed, file.backing))

    def _backed(self, number: int, file: _Opened) -> bool:
        """Give the kernel the copy of a file; one that is not there is made meanwhile."""
        if self._refused:
            return False
        descriptor = self._copies.unpacked(number)
        if descriptor is None:
            return False
        try:
            file.backing = fcntl.ioctl(self._device, _BACKING_OPEN, bytearray(_BACKING.pack(descriptor, 0, 0)), True)
            self._sizes[number] = os.fstat(descriptor).st_size
        except OSError:  # not for root of a user namespace; not above file systems that are stacked themselves
            self._refused = True
            return False
        finally:
            os.close(descriptor)
        return True

    def _unpack(self, number: int) -> None:
        try:
            with self._copying:  # one at a time
                done = not self._closed and self._copies.unpack(number)
        except Exception as error:  # a copy is a matter of speed alone
            _log.warning("no copy is made of a large file, which is read as before: %s", error)
            return
        if not done:
            with self._lock:  # not all of it was here yet
                self._wanted.discard(number)


__all__ = ["Copies", "Passthrough"]
