"""A small process that outlives the one that fills a mounted file, so that no reader ever finds a hole.

When the last descriptor of a fanotify group is closed, the kernel lets all reads through, and a hole reads as zeros. So
two processes hold it beside the one that fills: this one, and a twin that takes its place when it is killed. When the
filler is killed, reads wait for another to take over (``stream mount`` of the same folder); when none does, they end
with EIO, the mount is taken away, and the holder stays until nobody has a file of it open any more. Only when all three
are killed at once is nobody left to answer.

Standard library only, all of it loaded at the start (another version may be installed meanwhile, or the pod be gone
whose files they were), and little memory: it may run as long as the mount. Nothing but what is written here may end it.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from registry_pipelines.stream.lazy import fanotify_wire as fan
from registry_pipelines.stream.lazy.twinned import HURRY_S, MOST_TOLD_BYTES, Twinned, is_own_user, say, stay

READY, DONE, END, BUSY = b"ready", b"done", b"end", b"busy"
"""What holder and filler say: it holds; the file is complete, or nobody has it open; I end, and reads are to end with
EIO; somebody else fills."""

TAKE, LOOK = b"take", b"look"
"""What a process says that comes to the socket: I fill from now on; is anybody filling?"""

LOOK_EVERY_MS = 500
_REST_S = 0.05
_MOST_SECONDS_BYTES = 64
_OCTAL = re.compile(rb"\\([0-7]{3})")

_DETACH = 2
_libc = ctypes.CDLL(None)


class Held(NamedTuple):
    """Descriptors that are held, and handed over."""

    group: int
    data: int
    """Of the file, opened before it was watched: writing to it asks nobody."""
    lease: int
    filling: int
    """Their locks keep the file from other processes."""
    taken: int
    """See ``fanotify_wire.Taken``."""
    listener: int
    """Of the socket where others ask for all this; -1 where nobody can."""


class Holder(Twinned):
    """See the module. folder: where the file is mounted. below: all mounts below it are taken away, too; none where it
    is empty. told: what is said to who takes over."""

    def __init__(
        self, held: Held, filler: socket.socket, folder: bytes, below: bytes, patience_s: float, told: bytes
    ) -> None:
        self._held, self._folder, self._below = held, folder, below
        self._patience_s, self._told = patience_s, told
        self._filler: socket.socket | None = filler
        self._until = 0.0
        self._is_unmounted = False
        super().__init__()

    def run(self) -> NoReturn:
        """Hold; the process ends here."""
        self._begin_twin()
        if self._filler is not None:
            say(self._filler, READY)
        while True:
            self._look()
            if self._filler is None:
                if not self._is_read():
                    self._end()
                if time.monotonic() >= self._until:
                    self._deny()

    def _look(self) -> None:
        """Wait for something to happen, and see to it."""
        if self._twin_ends < 0:
            self._begin_twin()
        poll = select.poll()
        for descriptor in (self._twin_ends, self._held.listener, self._filler.fileno() if self._filler else -1):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        waits = self._filler is not None and self._twin_ends >= 0
        ready = {descriptor for descriptor, _ in poll.poll(None if waits else LOOK_EVERY_MS)}
        if self._filler is not None and self._filler.fileno() in ready:
            self._hear(self._filler)
        elif self._held.listener in ready:
            self._accept()
        elif self._twin_ends in ready:
            self._end_twin()
            self._begin_twin()

    def _told_as_twin(self, said: bytes, numbers: list[int]) -> None:
        self._filler = socket.socket(fileno=numbers[0])

    def _hear(self, filler: socket.socket) -> None:
        """What the filler says; nothing, when it was killed. It stays there to be heard by the twin, too."""
        said = _hear(filler, socket.MSG_PEEK)
        if said == DONE:
            self._end()
        self._filler = None
        filler.close()
        self._is_unmounted = said == END  # another mount may be there by now
        self._until = time.monotonic() + (0.0 if said == END else self._patience_s)

    def _accept(self) -> None:
        try:
            with socket.socket(fileno=os.dup(self._held.listener)) as listener:
                other, _ = listener.accept()
        except OSError:  # no descriptor for it: who asks waits
            time.sleep(_REST_S)
            return
        with suppress(OSError):
            other.settimeout(HURRY_S)
            said = _hear(other) if is_own_user(other) else b""
            if said != TAKE or self._filler is not None:
                say(other, BUSY if self._filler is not None else READY)
                other.close()
                return
            if self._to_twin is not None:  # first: when this process ends now, the twin knows who fills
                socket.send_fds(self._to_twin, [TAKE], [other.fileno()])
            other.settimeout(None)
            self._filler = other
            socket.send_fds(other, [self._told], list(self._held))

    def _deny(self) -> NoReturn:
        """Nobody fills any more: have all reads fail, until there are none."""
        if self._held.listener >= 0:
            os.close(self._held.listener)
        self._held = self._held._replace(listener=-1)
        with suppress(OSError):
            fan.deny_unanswered(self._held.group, range(fan.SLOTS))
        self._unmount()
        while self._is_read():
            self._unmount()
            if self._twin_ends < 0:
                self._begin_twin()
            poll = select.poll()
            for descriptor in (self._held.group, self._twin_ends):
                if descriptor >= 0:
                    poll.register(descriptor, select.POLLIN)
            if self._twin_ends in {descriptor for descriptor, _ in poll.poll(LOOK_EVERY_MS)}:
                self._end_twin()
                self._begin_twin()
            self._deny_events()
        self._end()

    def _deny_events(self) -> None:
        try:
            for event in fan.events(self._held.group):
                fan.answer(self._held.group, event.descriptor, fan.DENY_EIO)
                os.close(event.descriptor)
        except OSError:  # no memory, no descriptor: the kernel refuses that read, or asks again
            time.sleep(_REST_S)

    def _is_read(self) -> bool:
        """Also where the kernel does not say: who ends lets readers through."""
        with suppress(OSError):
            return fan.is_read(self._held.data)
        time.sleep(_REST_S)
        return True

    def _unmount(self) -> None:
        """Take the mount away, and what stands on it: the last first. Call it again where the machine had no room."""
        if not self._is_unmounted:
            with suppress(OSError):
                self._unmount_all()
                self._is_unmounted = True

    def _unmount_all(self) -> None:
        source = os.fsencode(Path(f"/proc/self/fd/{self._held.data}").readlink())
        with Path("/proc/self/mountinfo").open("rb") as file:
            lines = [line.partition(b" - ") for line in file]
        for left, _, right in reversed(lines):
            path, found = _plain(left.split()[4]), _plain(right.split()[1])
            is_below = self._below and path.startswith(self._below + b"/")
            if is_below or (path == self._folder and found == source):
                _libc.umount2(path, _DETACH)


def _hear(other: socket.socket, flags: int = 0) -> bytes:
    """What the other says; nothing, when it is gone. One that went without having read what it was told is first an
    error (ECONNRESET), and what it said last comes behind that."""
    with suppress(OSError):
        try:
            return other.recv(MOST_TOLD_BYTES, flags)
        except ConnectionResetError:
            return other.recv(MOST_TOLD_BYTES, flags)
    return b""


def _plain(name: bytes) -> bytes:
    """As a file has it: in lists of mounts some characters stand as octal numbers."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 255]), name)


def words(patience_s: float, told: str) -> bytes:
    """What a holder is told with what it is to hold."""
    return f"{patience_s} {told}".encode()


def main(given: list[str]) -> NoReturn:
    """given: the descriptor of the filler's socket, the folder, and that below which all goes. What is to be held comes
    through the socket, with :func:`words`; when the filler ends before, there is nothing to hold."""
    stay()
    filler = socket.socket(fileno=int(given[0]))
    filler.set_inheritable(False)
    said, numbers = b"", list[int]()
    with suppress(OSError):
        said, numbers, _, _ = socket.recv_fds(filler, MOST_TOLD_BYTES + _MOST_SECONDS_BYTES, len(Held._fields))
    if len(numbers) < len(Held._fields) - 1:
        os._exit(0)
    for number in numbers:
        os.set_inheritable(number, False)
    held = Held(*numbers, *[-1] * (len(Held._fields) - len(numbers)))  # without a listener
    seconds, _, told = said.partition(b" ")
    folder, below = (os.fsencode(word) for word in given[1:3])
    Holder(held, filler, folder, below, float(seconds), told).run()


if __name__ == "__main__":
    main(sys.argv[1:])
