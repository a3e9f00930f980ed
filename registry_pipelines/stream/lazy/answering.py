"""The process that answers what can be answered at once (``answerer``), as the one that fills sees it."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import LocalError
from registry_pipelines.stream.lazy.answerer import QUESTION, size_told
from registry_pipelines.stream.lazy.fanotify_wire import Event
from registry_pipelines.stream.lazy.start_keeper import start_keeper

END_S = 2.0
"""How long it may take to end; it does at once, unless somebody stopped it."""


class Apart:
    """Started before there is anything to answer, for that takes a Python's time."""

    def __init__(self, folder: Path) -> None:
        """folder: where the file will be mounted, for who looks at processes. Raises LocalError."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                fault = "the process that answers the kernel does not start"
                words = [str(theirs.fileno()), str(folder)]
                self._process = start_keeper("answerer", words, [theirs.fileno()], fault=fault)
                try:
                    self._ends = os.pidfd_open(self._process)
                except OSError as error:  # it ends, for its socket is closed
                    raise LocalError(f"{fault}: {error.strerror}", where=str(folder)) from error
            except BaseException:
                self._socket.close()
                raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when it has something to tell, or ended."""
        return self._socket.fileno()

    def begin(self, group: int, memory: int, bits: int, keeps: int, size: int) -> None:
        """It answers from now on. bits: of the file, one for each block that is there. keeps: is open until it ends.
        size: of the file."""
        with suppress(OSError):  # it was killed, which is heard next
            socket.send_fds(self._socket, [size_told(size)], [group, memory, bits, keeps])

    def keep(self, keeps: int) -> None:
        """Another descriptor that is open until it ends."""
        with suppress(OSError):
            socket.send_fds(self._socket, [size_told(0)], [keeps])

    def told(self) -> list[Event] | None:
        """Reads that this process is to answer; None: it ended."""
        found: list[Event] = []
        with suppress(BlockingIOError):
            while said := self._said():
                found.append(Event(*QUESTION.unpack(said)))
            return found or None
        return found

    def _said(self) -> bytes:
        try:
            return self._socket.recv(QUESTION.size)
        except ConnectionError:
            return b""

    def end(self) -> None:
        """It takes no question any more, and is gone when this returns. Safe to call twice."""
        with suppress(OSError):  # a thread of ours that polls the socket would keep it from being closed until it wakes
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._ends < 0:
            return
        if not is_ready(self._ends, END_S):
            with suppress(OSError):
                signal.pidfd_send_signal(self._ends, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._process, 0)
        os.close(self._ends)
        self._ends = -1


__all__ = ["Apart"]
