"""A small process that keeps the mounts of an agent when that one ends or is killed, so that another one serves on.

A FUSE mount lasts as long as anybody has its device open. This process has it, beside the agent; so has a twin, which
takes its place when it is killed. When the agent is gone, who reads waits: what the dead one had read and not answered
is asked again (``fuse_memory``). When no other agent comes in time, or it cannot serve a mount, reads of it end with
EIO, until one comes that can. The keeper ends when there is neither an agent nor a mount.

Standard library only, all of it loaded at the start (another version may be installed meanwhile), and little memory.

What an agent says, one message each, answered by ``ok``: ``keep NAME`` with two descriptors (device, memory), ``serve
NAME``, ``wait NAME``, ``fail NAME``, ``drop NAME``, ``done``. It comes by the socket that it was started with, or
connects and says ``take SECONDS``: then it is told all mounts, ``mount NAME`` each with its descriptors, and ``end
BUILD``; or ``busy``.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from registry_pipelines.stream.lazy.fuse_memory import Memory
from registry_pipelines.stream.lazy.fuse_wire import HEAD, REPLY, REQUEST_BYTES, Op
from registry_pipelines.stream.lazy.twinned import HURRY_S, MOST_TOLD_BYTES, Twinned, is_own_user, say, stay

OK, BUSY = b"ok", b"busy"
TWIN_AGAIN_S = 0.5
"""A twin for which there was no room is tried again after that."""

_UNANSWERED = frozenset((Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET))
_AT_ONCE = 64
"""Requests that are denied before anything else is looked at."""
_STDERR = 2


@dataclass
class _Kept:
    """A mount. served: an agent sees to it; until: when reads of it end with EIO, else; failing: they do."""

    device: int
    memory: Memory
    served: bool = True
    until: float = 0.0
    failing: bool = False

    def close(self) -> None:
        os.close(self.device)
        self.memory.close()


class Keeper(Twinned):
    """See the module. build: of this program, for who takes over."""

    def __init__(self, listener: socket.socket, agent: socket.socket, patience_s: float, build: str) -> None:
        self._listener, self._patience_s, self._build = listener, patience_s, build
        self._agent: socket.socket | None = agent
        self._mounts: dict[str, _Kept] = {}
        super().__init__()

    def run(self) -> NoReturn:
        """Keep; the process ends here."""
        self._begin_twin()
        if self._agent is not None:
            say(self._agent, OK)
        while self._agent is not None or self._mounts:
            self._look()
        self._end()

    def _look(self) -> None:
        """Wait for something to happen, and see to it."""
        now = time.monotonic()
        if self._twin_ends < 0:
            self._begin_twin()
        for name, each in self._mounts.items():
            if not each.served and not each.failing and each.until <= now:
                self._begin_to_fail(name, each)
        poll = select.poll()
        for descriptor in (self._twin_ends, self._listener.fileno(), self._agent.fileno() if self._agent else -1):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        for each in self._mounts.values():
            if not each.served:  # of those that are served each request would wake this process
                poll.register(each.device, select.POLLIN if each.failing else 0)
        waiting = [each.until - now for each in self._mounts.values() if not each.served and not each.failing]
        if self._twin_ends < 0:
            waiting.append(TWIN_AGAIN_S)
        ready = dict(poll.poll(max(min(waiting) * 1000, 0) + 1 if waiting else None))
        if self._agent is not None and self._agent.fileno() in ready:
            self._hear(self._agent)
        elif self._listener.fileno() in ready:
            self._accept()
        elif self._twin_ends in ready:
            self._end_twin()
            self._begin_twin()
        for name, each in list(self._mounts.items()):
            if ready.get(each.device, 0) & select.POLLERR:  # nobody has the mount any more
                self._told(b"drop " + name.encode(), [])
            elif each.failing and each.device in ready:
                _deny(each.device)

    def _told_as_twin(self, said: bytes, numbers: list[int]) -> None:
        self._told(said, numbers)

    def _hear(self, agent: socket.socket) -> None:
        """What the agent says; nothing, when it is gone."""
        said, numbers = b"", list[int]()
        with suppress(OSError):
            said, numbers, _, _ = socket.recv_fds(agent, MOST_TOLD_BYTES, 2)
        if not said:
            self._agent = None
            agent.close()
            for each in self._mounts.values():
                if each.served:
                    self._wait_for_another(each)
                    each.memory.recover(each.device)
            return
        self._told(said, numbers)
        say(agent, OK)
        if said == b"done":
            self._end()

    def _told(self, said: bytes, numbers: list[int]) -> None:
        """Do what an agent said; in the twin, too, and there first: when this process ends now, that one knows."""
        if self._to_twin is not None:
            with suppress(OSError):
                socket.send_fds(self._to_twin, [said], numbers)
        what, _, rest = said.decode().partition(" ")
        for number in numbers:
            os.set_inheritable(number, False)
        if what == "take":
            self._agent = socket.socket(fileno=numbers[0])
            self._patience_s = float(rest)
            for each in self._mounts.values():
                self._wait_for_another(each)
            return
        if what == "keep":
            self._keep(rest, numbers)
        if rest in self._mounts:
            self._set(what, rest, self._mounts[rest])

    def _set(self, what: str, name: str, each: _Kept) -> None:
        if what == "serve":
            os.set_blocking(each.device, True)
            each.served, each.failing = True, False
        elif what == "wait":
            self._wait_for_another(each)
        elif what == "fail":
            each.served, each.until = False, 0.0
        elif what == "drop":
            self._mounts.pop(name).close()

    def _keep(self, name: str, numbers: list[int]) -> None:
        if name not in self._mounts:
            with suppress(ValueError, OSError):
                device, memory = numbers
                self._mounts[name] = _Kept(device, Memory(memory))
                return
        for number in numbers:
            os.close(number)

    def _wait_for_another(self, each: _Kept) -> None:
        each.served, each.until = False, time.monotonic() + self._patience_s

    def _begin_to_fail(self, name: str, each: _Kept) -> None:
        """Nobody serves it: have reads fail from now on."""
        each.failing = True
        os.set_blocking(each.device, False)
        each.memory.recover(each.device)
        with suppress(OSError):
            line = f"nobody serves a mount any more, and reads of it end with errors: {each.memory.told.decode()}\n"
            os.write(_STDERR, line.encode())

    def _accept(self) -> None:
        try:
            other, _ = self._listener.accept()
        except OSError:  # no descriptor for it: who asks waits
            time.sleep(TWIN_AGAIN_S)
            return
        with suppress(OSError):
            with other:
                other.settimeout(HURRY_S)
                if not is_own_user(other) or not (said := other.recv(MOST_TOLD_BYTES)).startswith(b"take "):
                    return
                if self._agent is not None:
                    say(other, BUSY)
                    return
                other.settimeout(None)
                self._told(said, [os.dup(other.fileno())])
            self._hand_over()

    def _hand_over(self) -> None:
        """All mounts to the agent that has come. What does not arrive it asks for again, on another connection."""
        agent = self._agent
        if agent is None:
            return
        agent.settimeout(HURRY_S)
        with suppress(OSError):
            for name, each in self._mounts.items():
                socket.send_fds(agent, [b"mount " + name.encode()], [each.device, each.memory.descriptor])
            agent.send(b"end " + self._build.encode())
        agent.settimeout(None)


def _deny(device: int) -> None:
    """Answer requests with EIO."""
    for _ in range(_AT_ONCE):
        try:
            request = os.read(device, REQUEST_BYTES)
        except OSError:
            return
        _, operation, unique, *_ = HEAD.unpack_from(request)
        if operation not in _UNANSWERED:
            with suppress(OSError):
                os.write(device, REPLY.pack(REPLY.size, -errno.EIO, unique))


def main(words: list[str]) -> NoReturn:
    """words: the descriptors of the listener and of the agent's socket, seconds, the build, and whose it is, which is
    for who lists processes."""
    stay()
    sockets = [socket.socket(fileno=int(word)) for word in words[:2]]
    for each in sockets:
        each.set_inheritable(False)
    Keeper(sockets[0], sockets[1], float(words[2]), words[3]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
