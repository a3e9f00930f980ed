"""HTTP/1.1 over one blocking socket: heads read leanly and strictly, bodies streamed, everything with a deadline.

What is refused and why: a request that two parsers could read differently (two lengths, a length beside
Transfer-Encoding, folded headers, bare line feeds) gets 400 and the connection ends (RFC 9112, sections 2.2, 5.2, 6.3);
a head that never ends gets 431; a peer that is too slow gets 408. Memory per connection: the head's limit plus one
buffer, whatever is sent.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from registry_pipelines.errors import RegistryPipelinesError

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers together; a bearer token of 16 KiB still fits."""
MAX_CHUNK_LINE_BYTES = 256
"""A chunk's size line with extensions."""
MAX_CHUNK_BYTES = 2**48
"""A chunk that claims more is nonsense; refused before any waiting."""
MAX_TRAILERS_BYTES = 8 * 1024
"""Trailer fields after a chunked body; read and ignored."""

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
"""A method or a header's name (RFC 9110, 5.6.2)."""
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\Z")


@dataclass(frozen=True)
class Deadlines:
    """How long a peer may take, in seconds. Bytes that arrive earn more time for a body."""

    head_s: float = 30.0
    """From a request's first byte to the end of its head; also the TLS handshake."""
    idle_s: float = 60.0
    """Between requests on a kept connection, and before the first."""
    stall_s: float = 60.0
    """Without one byte of a body moving, in either direction."""
    minimum_bytes_per_s: float = 1024.0
    """A body's mean rate after the first ``stall_s``; slower peers hold a thread for nothing."""


class BadRequest(Exception):
    """The peer does not speak HTTP as it should; answered with ``status``, then the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BodyCut(RegistryPipelinesError):
    """The connection ended before the body did; nobody is there to read an answer."""


class TooSlow(BadRequest):
    """A deadline passed."""

    def __init__(self, message: str) -> None:
        super().__init__(408, message)


class Connection:
    """A socket with the bytes that were read too far.

    A plain socket stays blocking and gets its time-outs from the kernel: Python's own cost a ``poll`` before every call
    and hand out whatever little has arrived (a third less speed, measured). TLS keeps Python's, because the library
    would wait for ever on the kernel's.
    """

    def __init__(self, sock: socket.socket, deadlines: Deadlines) -> None:
        self.sock = sock
        self.deadlines = deadlines
        self._ahead = bytearray()
        self._kernel_timeouts = not isinstance(sock, ssl.SSLSocket)
        self._waits = {socket.SO_RCVTIMEO: 0.0, socket.SO_SNDTIMEO: 0.0}
        if self._kernel_timeouts:
            sock.settimeout(None)

    def _set_wait(self, option: int, seconds: float) -> None:
        if not self._kernel_timeouts:
            self.sock.settimeout(seconds)
        elif abs(self._waits[option] - seconds) > 0.5 or seconds < 1.0:
            whole, part = divmod(max(seconds, 0.001), 1.0)
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(whole), int(part * 1e6)))
            self._waits[option] = seconds

    def _receive(self, view: memoryview, wait_s: float, *, fill: bool = False) -> int:
        """One receive; 0 at the end. ``fill``: rather wait for a full view. Raises TimeoutError, OSError."""
        self._set_wait(socket.SO_RCVTIMEO, wait_s)
        try:
            return self.sock.recv_into(view, 0, socket.MSG_WAITALL if fill and self._kernel_timeouts else 0)
        except BlockingIOError:
            raise TimeoutError from None

    def read_head(self) -> bytes | None:
        """A request's head without its final empty line; None when the peer left, or idled, between requests.

        Raises BadRequest (431, 400, 408), OSError.
        """
        scanned = 0
        deadline = None
        while True:
            while self._ahead.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are ignored
                del self._ahead[:2]
            end = self._ahead.find(b"\r\n\r\n", max(0, scanned - 3))
            if end >= 0 and end <= MAX_HEAD_BYTES:
                head = bytes(self._ahead[:end])
                del self._ahead[: end + 4]
                return head
            if end > MAX_HEAD_BYTES or len(self._ahead) > MAX_HEAD_BYTES:
                raise BadRequest(431, f"the head is larger than {MAX_HEAD_BYTES} bytes")
            if b"\n\n" in self._ahead or b"\n\r\n" in self._ahead.replace(b"\r\n", b""):
                raise BadRequest(400, "lines must end with CR LF")
            if self._ahead and not TOKEN.match(self._ahead[:1]) and self._ahead != b"\r":
                # A TLS greeting, mostly: clients that try HTTPS first fall back at once only when HTTP answers them.
                raise BadRequest(400, "this is not HTTP; the registry speaks plain HTTP here")
            scanned = len(self._ahead)
            if self._ahead and deadline is None:
                deadline = time.monotonic() + self.deadlines.head_s
            data = self._receive_head(deadline)
            if not data:
                if self._ahead:
                    raise BadRequest(400, "the head is cut")
                return None
            if deadline is None:
                deadline = time.monotonic() + self.deadlines.head_s  # empty lines earn no time either
            self._ahead += data

    def _receive_head(self, deadline: float | None) -> bytes:
        wait = self.deadlines.idle_s if deadline is None else deadline - time.monotonic()
        if wait <= 0:
            raise TooSlow("the head took too long")
        piece = bytearray(16 * 1024)
        try:
            return bytes(piece[: self._receive(memoryview(piece), wait)])
        except TimeoutError:
            if deadline is None:
                return b""
            raise TooSlow("the head took too long") from None

    def read_into(self, view: memoryview, wait_s: float) -> int:
        """Bytes read ahead first, then one receive; 0 when the peer ended. Raises TooSlow, OSError."""
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count] = self._ahead[:count]
            del self._ahead[:count]
            return count
        if wait_s <= 0:
            raise TooSlow("the body is too slow")
        try:
            return self._receive(view, wait_s, fill=True)
        except TimeoutError:
            raise TooSlow("no byte of the body came for too long") from None

    def read_line(self, limit: int, wait_s: float) -> bytes:
        """Up to CR LF, without it. Raises BadRequest, BodyCut, OSError."""
        while True:
            end = self._ahead.find(b"\r\n")
            if 0 <= end <= limit:
                line = bytes(self._ahead[:end])
                del self._ahead[: end + 2]
                return line
            if end > limit or len(self._ahead) > limit:
                raise BadRequest(400, "a line of the chunked body is too long")
            self._fill(wait_s)

    def _fill(self, wait_s: float) -> None:
        if wait_s <= 0:
            raise TooSlow("the body is too slow")
        piece = bytearray(4 * 1024)
        try:
            count = self._receive(memoryview(piece), wait_s)
        except TimeoutError:
            raise TooSlow("no byte of the body came for too long") from None
        if not count:
            raise BodyCut("the connection ended inside the body")
        self._ahead += piece[:count]

    def send(self, data: bytes | memoryview, wait_s: float | None = None) -> None:
        """Send all of it. Raises OSError (TimeoutError when the peer does not read)."""
        self._set_wait(socket.SO_SNDTIMEO, self.deadlines.stall_s if wait_s is None else wait_s)
        try:
            self.sock.sendall(data)
        except BlockingIOError:
            raise TimeoutError("the peer does not read") from None

    def send_file(self, descriptor: int, start: int, count: int, wait_s: float) -> int:
        """Let the kernel send a part of a file; how many bytes went. Plain sockets only. Raises as send."""
        self._set_wait(socket.SO_SNDTIMEO, wait_s)
        try:
            return os.sendfile(self.sock.fileno(), descriptor, start, count)
        except BlockingIOError:
            raise TimeoutError("the peer does not read") from None

    def linger(self, limit: int, seconds: float) -> None:
        """Say that no more comes, then read some of what is on its way, so that the answer is not lost to a reset."""
        deadline = time.monotonic() + seconds
        scratch = bytearray(64 * 1024)
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while limit > 0:
                wait = deadline - time.monotonic()
                if wait <= 0:
                    return
                count = self._receive(memoryview(scratch), wait)
                if not count:
                    return
                limit -= count
        except OSError:
            return


class Body:
    """A request's body. ``readinto`` gives 0 only when the body ended as it promised; else it raises.

    length: bytes announced by Content-Length, None when chunked.
    """

    def __init__(self, connection: Connection, *, length: int | None, go_on: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self.length = length
        self._remaining = length or 0
        self.finished = length == 0
        self.received = 0
        self._started = False
        self._go_on = go_on
        self._began = 0.0

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None when not known."""
        if self.finished:
            return 0
        return self._remaining if self.length is not None else None

    def _wait(self) -> float:
        limits = self._connection.deadlines
        earned = limits.stall_s + self.received / limits.minimum_bytes_per_s
        return min(limits.stall_s, self._began + earned - time.monotonic())

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill from the front; 0 at the true end. Raises BodyCut, BadRequest (400, 408), OSError."""
        if self.finished or not len(buffer):
            return 0
        if not self._started:
            self._started = True
            self._began = time.monotonic()
            if self._go_on is not None:
                self._go_on()
        if self.length is None and self._remaining == 0 and not self._next_chunk():
            return 0
        count = self._connection.read_into(buffer[: min(len(buffer), self._remaining)], self._wait())
        if not count:
            raise BodyCut("the connection ended inside the body")
        self.received += count
        self._remaining -= count
        if self.length is not None:
            self.finished = self._remaining == 0
        elif self._remaining == 0 and self._connection.read_line(MAX_CHUNK_LINE_BYTES, self._wait()):
            raise BadRequest(400, "a chunk does not end where it said")
        return count

    def _next_chunk(self) -> bool:
        line = self._connection.read_line(MAX_CHUNK_LINE_BYTES, self._wait())
        match = _CHUNK_SIZE.match(line)
        if not match:
            raise BadRequest(400, "a chunk's size is not a number")
        self._remaining = int(match[1], 16)
        if self._remaining > MAX_CHUNK_BYTES:
            raise BadRequest(400, "a chunk's size is larger than any chunk may be")
        if self._remaining:
            return True
        budget = MAX_TRAILERS_BYTES
        while line := self._connection.read_line(MAX_TRAILERS_BYTES, self._wait()):
            budget -= len(line)
            if budget < 0:
                raise BadRequest(400, "the trailers are too long")
        self.finished = True
        return False

    def read(self, limit: int) -> bytes | None:
        """The whole body; None when it is larger than ``limit``. Raises as readinto."""
        if self.length is not None and self.length > limit:
            return None
        content = bytearray(self.length if self.length is not None else min(limit + 1, 64 * 1024))
        filled = 0
        while True:
            if filled == len(content):
                if self.finished:
                    break
                if filled > limit:
                    return None
                content += bytes(min(limit + 1 - filled, max(filled, 64 * 1024)))
            with memoryview(content) as view:
                count = self.readinto(view[filled:])
            if not count:
                break
            filled += count
        return bytes(content[:filled]) if filled <= limit else None

    def drain(self, limit: int) -> bool:
        """Read the rest when it is known and small; whether the connection may serve another request."""
        if self.finished:
            return True
        if self.remaining is None or self.remaining > limit or (self._go_on is not None and not self._started):
            return False  # after a refused 100-continue nobody knows whether the body comes
        scratch = memoryview(bytearray(min(limit, 64 * 1024)))
        while not self.finished:
            self.readinto(scratch)
        return True


__all__ = ["MAX_HEAD_BYTES", "TOKEN", "BadRequest", "Body", "BodyCut", "Connection", "Deadlines", "TooSlow"]
