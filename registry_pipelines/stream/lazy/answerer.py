"""A small process that answers the kernel's questions about a mounted file at once, where what is read is there.

A start from a hot pack asks thousands of times for what has come already, and the program waits each time. The process
that fills is busy then: its threads unpack frames and wait for one another, and its answers would come late. So this
one takes the questions, answers those that it can by the file's list of blocks, which both have in memory, and tells
the filler of all others. Those are the filler's to answer; their numbers stay taken here until they are.

It ends when the filler does, and before the holder (``holder``) hears of that: it has the filler's end of the holder's
socket, too. So nobody reads the group's questions beside it. When it is killed, or ends because nobody asked for long,
the filler takes its place.

Standard library only, and nothing of it is needed to be safe: whatever it knew is in memory that outlives it
(``fanotify_wire.Taken``).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import NoReturn

from registry_pipelines.stream.lazy import fanotify_wire as fan

QUESTION = struct.Struct("=iQQi")
"""What the filler is told of a read: its number, offset, size, and the thread that reads."""

MOST_TAKEN = 400
"""Reads that wait for the filler at the same time, each with a descriptor; more wait in the kernel."""

BLOCK_BYTES = 512
"""For each the file has a bit."""

IDLE_S = 10.0
"""Without a question: the start is over, and the filler answers alone."""

_SIZE = struct.Struct("=Q")
_REST_S = 0.01
_LOOK_EVERY_MS = 10
"""Whether the filler answered, where descriptors wait for that."""

_SLICE_NS = 100_000
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: bytes, policy, flags, nice, priority, and of the slice (Linux 6.12), deadline, period."""
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
_libc = ctypes.CDLL(None)


class Answerer:
    """See the module. size: bytes of the file."""

    def __init__(self, group: int, memory: int, bits: int, filler: socket.socket, size: int) -> None:
        self._group, self._taken, self._filler, self._size = group, fan.Taken(memory), filler, size
        self._bits = mmap.mmap(bits, 0, prot=mmap.PROT_READ)
        os.close(bits)
        self._waiting: set[int] = set()
        """Numbers that the filler was told of."""

    def run(self) -> NoReturn:
        """Answer until the filler ends."""
        alone, both = select.poll(), select.poll()
        for poll in (alone, both):
            poll.register(self._filler, select.POLLIN)
        both.register(self._group, select.POLLIN)
        while True:
            has_room = len(self._waiting) < MOST_TAKEN
            ready = (both if has_room else alone).poll(_LOOK_EVERY_MS if self._waiting else IDLE_S * 1000)
            if not ready and not self._waiting:
                os._exit(0)
            for descriptor, _ in ready:
                if descriptor == self._group:
                    self._take()
                else:
                    _hear(self._filler)
            for number in [number for number in self._waiting if self._taken.is_free(number)]:
                self._waiting.discard(number)
                os.close(number)

    def _take(self) -> None:
        try:
            events = fan.events(self._group)
        except OSError:  # no descriptor, no memory: the kernel refuses that read; others are answered
            time.sleep(_REST_S)
            return
        for event in events:
            number, offset, size, _ = event
            if number >= fan.SLOTS or not size:
                what = fan.DENY_EIO
            elif self._holds(offset, offset + size):
                what = fan.FAN_ALLOW
            else:
                self._taken.add(event)
                self._waiting.add(number)
                self._tell(event)
                continue
            fan.answer(self._group, number, what)
            os.close(number)

    def _holds(self, start: int, stop: int) -> bool:
        """Whether all blocks that have some of it are there."""
        first, last = start // BLOCK_BYTES, (min(stop, self._size) - 1) // BLOCK_BYTES
        wanted = (1 << max(0, last - first + 1)) - 1
        return not wanted & ~(int.from_bytes(self._bits[first >> 3 : (last >> 3) + 1], "little") >> (first & 7))

    def _tell(self, event: fan.Event) -> None:
        try:
            self._filler.send(QUESTION.pack(*event))
        except OSError:  # it is gone
            os._exit(0)


def _hear(filler: socket.socket) -> None:
    """Another end of a holder's socket, to be kept open as long as this process lives; or the filler's end."""
    said, numbers = b"", list[int]()
    with suppress(OSError):
        said, numbers, _, _ = socket.recv_fds(filler, _SIZE.size, 1)
    if not said:
        os._exit(0)
    for number in numbers:
        os.set_inheritable(number, False)


def _hurry() -> None:
    """Run at once when there is something to do, and not once others have used up their turn: a short slice of time."""
    with suppress(OSError, KeyError):
        told = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, _SLICE_NS, 0, 0)
        _libc.syscall(ctypes.c_long(_SET_ATTRIBUTES[os.uname().machine]), 0, told, 0)


def main(given: list[str]) -> NoReturn:
    """given: the descriptor of the filler's socket, and for people the folder of the mount. The group, the memory of
    what is taken, the file's bits and the end of the holder's socket come through it, with the size of the file."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(each, signal.SIG_IGN)
    filler = socket.socket(fileno=int(given[0]))
    filler.set_inheritable(False)
    said, numbers = b"", list[int]()
    with suppress(OSError):
        said, numbers, _, _ = socket.recv_fds(filler, _SIZE.size, 4)
    if len(numbers) < 4:
        os._exit(0)
    for number in numbers:
        os.set_inheritable(number, False)
    _hurry()
    Answerer(numbers[0], numbers[1], numbers[2], filler, _SIZE.unpack(said)[0]).run()


def size_told(size: int) -> bytes:
    """What comes with the descriptors."""
    return _SIZE.pack(size)


if __name__ == "__main__":
    main(sys.argv[1:])
