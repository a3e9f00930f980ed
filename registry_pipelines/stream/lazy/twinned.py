"""A process that keeps something has another one beside it with all that it has, for when it is killed.

Standard library only: see ``keeper``.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

MOST_TOLD_BYTES = 4096
MOST_TOLD_NUMBERS = 2
"""Descriptors that come with one message."""


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


__all__ = ["Twinned"]
