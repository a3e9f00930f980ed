"""A link that can break: a TCP proxy before any server. It counts bytes both ways, and breaks at a chosen byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from tests.doubles.wire import Listener

Direction = Literal["up", "down"]
How = Literal["cut", "silent"]
BLOCK = 256 * 1024


class Link:
    """``with Link(upstream) as link: ... link.break_at("up", 10_000_000, "cut") ... link.mend()``.

    cut: every connection ends there, and new ones end at once, as when a peer is gone. silent: nothing passes either
    way and nobody is told, as when packets are lost; after ``mend`` open connections go on where they were.
    buffer_bytes: what each of its sockets may hold, so that its counts are those of the ends; 0: what the system takes.
    """

    def __init__(self, upstream: str, *, buffer_bytes: int = 0) -> None:
        self._buffer_bytes = buffer_bytes
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._listener = Listener(self._serve)
        self.address = self._listener.address
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.connections = 0
        self._planned: tuple[Direction, int, How] | None = None
        self._state: How | None = None
        self._ends: set[socket.socket] = set()
        self._change = threading.Condition()

    def __enter__(self) -> Link:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mend()
        self._listener.stop()

    @property
    def up(self) -> int:
        """Bytes that went to the server."""
        return self.passed["up"]

    @property
    def down(self) -> int:
        """Bytes that came from the server."""
        return self.passed["down"]

    @property
    def broken(self) -> bool:
        """Whether it is cut or silent now."""
        return self._state is not None

    def break_at(self, direction: Direction, byte: int, how: How) -> None:
        """Break as soon as so many bytes have gone one way."""
        self._planned = (direction, byte, how)

    def mend(self) -> None:
        """Whole again, and no break is planned any more."""
        with self._change:
            self._state = self._planned = None
            self._change.notify_all()

    def wait_for(self, byte: int, ended: Callable[[], bool]) -> None:
        """Until so many bytes went up, or it has ended."""
        self.wait(lambda: self.up >= byte, ended)

    def wait_until_broken(self, ended: Callable[[], bool]) -> None:
        """Until it broke as planned, or it has ended."""
        self.wait(lambda: self.broken, ended)

    def wait(self, reached: Callable[[], bool], ended: Callable[[], bool]) -> None:
        """Until something is so that depends on what passed, or the copy has ended."""
        with self._change:
            while not reached() and not ended():
                self._change.wait(0.5)

    def _serve(self, down: socket.socket) -> None:
        with self._change:
            self.connections += 1
            self._change.notify_all()
        if self._state == "cut":
            return
        up = self._listener.adopt(socket.create_connection(self._upstream))
        if self._buffer_bytes:
            for end in (up, down):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer_bytes)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        with self._change:
            self._ends |= {down, up}
        self._listener.spawn(lambda: self._pump(up, down, "down"))
        try:
            self._pump(down, up, "up")
        finally:
            with self._change:
                self._ends -= {down, up}
            self._listener.release(up)

    def _pump(self, reading: socket.socket, writing: socket.socket, direction: Direction) -> None:
        buffer = bytearray(BLOCK)
        try:
            while count := reading.recv_into(buffer):
                left = memoryview(buffer)[:count]
                while left:
                    some = left[: self._allowed(direction, len(left))]
                    writing.sendall(some)
                    self._count(direction, len(some))
                    left = left[len(some) :]
        except OSError:
            pass
        finally:
            _end(reading, writing)

    def _allowed(self, direction: Direction, wanted: int) -> int:
        """How many of the bytes may pass before the break; waits while it is silent. Raises OSError when cut."""
        with self._change:
            self._change.wait_for(lambda: self._state != "silent")
            if self._state == "cut":
                raise ConnectionAbortedError
            if self._planned and self._planned[0] == direction:
                return min(wanted, max(1, self._planned[1] - self.passed[direction]))
            return wanted

    def _count(self, direction: Direction, count: int) -> None:
        with self._change:
            self.passed[direction] += count
            if self._planned and self._planned[0] == direction and self.passed[direction] >= self._planned[1]:
                self._state, self._planned = self._planned[2], None
                if self._state == "cut":
                    _end(*self._ends)
            self._change.notify_all()


def _end(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


__all__ = ["Direction", "How", "Link"]
