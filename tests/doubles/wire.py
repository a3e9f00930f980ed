"""Just enough HTTP/1.1 on sockets for the doubles: heads, bodies, a threaded listener. Bytes pass through unchanged."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MAX_HEAD_BYTES = 128 * 1024
BLOCK_BYTES = 1024 * 1024


class Closed(Exception):
    """The other side closed the connection."""


@dataclass
class Head:
    """A first line and headers, in order and as they were."""

    first: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), default)

    def without(self, *names: str) -> Head:
        gone = {name.lower() for name in names}
        return Head(self.first, [(key, value) for key, value in self.headers if key.lower() not in gone])

    def with_header(self, name: str, value: str) -> Head:
        return Head(self.first, [*self.without(name).headers, (name, value)])

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    def encode(self) -> bytes:
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


class Stream:
    """A socket with a small buffer in front, so that heads can be read without losing the body's first bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._kept = b""

    def read_head(self) -> Head:
        while b"\r\n\r\n" not in self._kept:
            block = self.sock.recv(65536)
            if not block or len(self._kept) > MAX_HEAD_BYTES:
                raise Closed
            self._kept += block
        raw, _, self._kept = self._kept.partition(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        return Head(first, [(line.partition(":")[0].strip(), line.partition(":")[2].strip()) for line in rest])

    def read_some(self, limit: int) -> bytes:
        if self._kept:
            block, self._kept = self._kept[:limit], self._kept[limit:]
            return block
        return self.sock.recv(min(limit, BLOCK_BYTES))

    def read_line(self) -> bytes:
        while b"\r\n" not in self._kept:
            block = self.sock.recv(65536)
            if not block:
                raise Closed
            self._kept += block
        line, _, self._kept = self._kept.partition(b"\r\n")
        return line + b"\r\n"

    def read_exactly(self, count: int) -> Iterator[bytes]:
        while count:
            block = self.read_some(count)
            if not block:
                raise Closed
            count -= len(block)
            yield block

    def read_rest(self) -> Iterator[bytes]:
        while block := self.read_some(BLOCK_BYTES):
            yield block

    def request_body(self, head: Head) -> Iterator[bytes]:
        """The raw body of a request, with its chunk frames where it has them."""
        if "chunked" in head.get("Transfer-Encoding").lower():
            while True:
                line = self.read_line()
                yield line
                size = int(line.split(b";")[0].strip(), 16)
                yield from self.read_exactly(size + 2)
                if not size:
                    return
        yield from self.read_exactly(int(head.get("Content-Length") or 0))

    def request_content(self, head: Head) -> Iterator[bytes]:
        """The content of a request, without chunk frames."""
        if "chunked" not in head.get("Transfer-Encoding").lower():
            yield from self.request_body(head)
            return
        while size := int(self.read_line().split(b";")[0].strip(), 16):
            yield from self.read_exactly(size)
            self.read_line()


class Listener:
    """Accepts on a free loopback port; one thread per connection. stop() closes everything it opened."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._sock.getsockname()[1]}"

    def start(self) -> None:
        self.spawn(self._accept)

    def spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def adopt(self, sock: socket.socket) -> socket.socket:
        """Close this socket too when stopping."""
        with self._lock:
            self._open.add(sock)
        return sock

    def release(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.adopt(sock)
            self.spawn(lambda sock=sock: self._handle(sock))  # type: ignore[misc]

    def _handle(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(Closed, OSError):
                self._serve(sock)
        finally:
            self.release(sock)

    def stop(self) -> None:
        self._stopped = True
        for sock in [self._sock, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for thread in list(self._threads):
            thread.join(10)
