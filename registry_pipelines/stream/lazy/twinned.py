"""A process that keeps mounts (``keeper``, ``holder``) has another one beside it with all that it has, for when it is
killed; and what both kinds of it do alike.

Standard library only: see ``keeper``.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from registry_pipelines.stream.lazy.outliving import leave_pod

MOST_TOLD_BYTES = 4096
"""Of one message."""

MOST_TOLD_NUMBERS = 2
"""Descriptors that come with one message."""

HURRY_S = 5.0
"""How long who connects may take to say what it wants, and to hear what it asked for."""

_CREDENTIALS = struct.Struct("=iII")


class Twinned:
    """What such a process does about its twin; ``_told_as_twin`` is what the twin hears."""

    def __init__(self) -> None:
        self._twin = self._twin_ends = -1
        self._to_twin: socket.socket | None = None

    def _told_as_twin(self, said: bytes, numbers: list[int]) -> None:
        """What the other one told, with descriptors, which are ours now."""
        raise NotImplementedError

    def _begin_twin(self) -> None:
        """Another process with all that this one has. It waits for the end of this one, and then takes its place. Where
        the machine has no room for it there is none for now: this one must not end by that."""
        while True:
            self._twin = self._twin_ends = -1
            self._to_twin = None
            try:
                here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._twin = os.fork()
                if self._twin:
                    self._to_twin = here
                    there.close()
                    self._twin_ends = os.pidfd_open(self._twin)
                    return
            except OSError:
                self._end_twin()
                return
            here.close()
            while (told := socket.recv_fds(there, MOST_TOLD_BYTES, MOST_TOLD_NUMBERS))[0]:
                self._told_as_twin(told[0], told[1])
            there.close()

    def _end_twin(self) -> None:
        if self._twin > 0:
            with suppress(ProcessLookupError):
                os.kill(self._twin, signal.SIGKILL)
            os.waitpid(self._twin, 0)
        if self._twin_ends >= 0:
            os.close(self._twin_ends)
        if self._to_twin is not None:
            self._to_twin.close()
        self._twin = self._twin_ends = -1

    def _end(self) -> NoReturn:
        self._end_twin()
        os._exit(0)


def stay() -> None:
    """From now on nothing ends this process but what its program says, as far as it can."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    leave_pod()
    sys.meta_path.clear()  # the files of this Python may be others by the time one is needed, or gone
    with suppress(OSError):  # whoever is killed for its memory, not this one
        Path("/proc/self/oom_score_adj").write_text("-1000")


def say(other: socket.socket, what: bytes) -> None:
    """Say something, where the other is still there."""
    with suppress(OSError):
        other.send(what)


def is_own_user(other: socket.socket) -> bool:
    """Whether a process of this user connected. Raises OSError."""
    told = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1]) == os.geteuid()


__all__ = ["HURRY_S", "MOST_TOLD_BYTES", "Twinned", "is_own_user", "say", "stay"]
