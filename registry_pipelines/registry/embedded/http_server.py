"""The server below the registry: one thread per connection, blocking sockets, TLS, deadlines; what answers is given.

Measured against asynchronous and Go servers: for few large blobs this takes content in fastest, because hashing,
receiving and writing leave Python's lock, and ``sendfile`` gives it out at the kernel's speed. The webhook for clusters
(``promote.admission``) is served by it, too.
"""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from registry_pipelines.errors import InputError, LocalError, PortTaken
from registry_pipelines.registry.embedded.heads import Request, read_request
from registry_pipelines.registry.embedded.http_messages import BadRequest, BodyCut, Connection, Deadlines
from registry_pipelines.registry.embedded.responses import Response, error_response
from registry_pipelines.registry.embedded.sending import send_response
from registry_pipelines.registry.embedded.server_tls import ServerTls

Handler = Callable[[Request], Response]
"""What answers a request; a test double or a log may wrap one in another."""

MAX_CONNECTIONS = 2048
"""Open connections; each costs a thread (about 50 KB) and a file descriptor. More are answered 503."""
DRAIN_BYTES = 64 * 1024
"""An unread body up to this is read so that the connection can go on; after a larger one it is closed."""
LINGER_BYTES = 4 * 1024 * 1024
"""Read and thrown away at most before closing, so that the peer gets to see the answer."""
LINGER_S = 2.0
STOP_WAIT_S = 5.0
_BACKLOG = 512
_BUSY = Response(503, [("Retry-After", "1")]).head(keep_alive=False)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, for logs and for counting."""

    method: str
    target: str
    status: int
    bytes_in: int
    bytes_out: int
    seconds: float
    user: str
    peer: str
    digest: str = ""
    """What the answer says it is about."""
    agent: str = ""
    """What the client calls itself."""


class HttpServer:
    """HTTP/1.1 on one address, answered by ``handler`` from many threads.

    port 0: a free one. certificate, key: PEM files; TLS when given, read again when they were replaced. max_of_peer:
    open connections of one address, so that one that sends nothing cannot keep all others out; as many as of all
    unless told.
    on_exchange: called after each answer, from many threads. ``start`` raises PortTaken, LocalError, InputError.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
        deadlines: Deadlines | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_of_peer: int | None = None,
        on_exchange: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._handler = handler
        self._host = host
        self._wanted_port = port
        self._port = 0
        self._tls = ServerTls(certificate, key) if certificate else None
        self._deadlines = deadlines or Deadlines()
        self._max_connections = max_connections
        self._max_of_peer = max_of_peer or max_connections
        self._by_peer: Counter[str] = Counter()
        self._on_exchange = on_exchange
        self._listener: socket.socket | None = None
        self._wake: socket.socket | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: dict[socket.socket, threading.Thread] = {}
        self._guard = threading.Lock()

    @property
    def address(self) -> str:
        """Host and port, as in an image reference."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    @property
    def url(self) -> str:
        """With scheme, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen and serve in background threads. Raises PortTaken, LocalError, InputError."""
        if self._listener is not None:
            return self
        if self._tls is not None:
            self._tls.read()
        self._listener = self._listen()
        self._port = self._listener.getsockname()[1]
        self._stopping.clear()
        ours, theirs = socket.socketpair()
        self._wake = ours
        self._spawn(self._accept_all, self._listener, theirs)
        return self

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name=f"registry-{self._port}")
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> socket.socket:
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(
                self._host, self._wanted_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except OSError as error:
            raise InputError(f"{self._host!r} is not an address of this machine: {error}") from error
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _without_pacing(listener, str(target[0]))
            listener.bind(target)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            where = f"{self._host}:{self._wanted_port}"
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    "another program listens there", where=where, do="Stop it, or choose another port"
                ) from error
            raise LocalError(f"cannot listen: {error.strerror}", where=where) from error
        return listener

    def stop(self) -> None:
        """End all connections and threads; a request in the middle is cut, as by a kill. Safe to call twice."""
        if self._listener is None:
            return
        self._stopping.set()
        if self._wake is not None:
            self._wake.close()
        with self._guard:
            workers = dict(self._open)
        for sock in workers:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + STOP_WAIT_S
        for thread in (*self._threads, *workers.values()):
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.clear()
        with suppress(OSError):  # a child that was forked just now has it, too, until it becomes another program
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None

    # Connections

    def _accept_all(self, listener: socket.socket, wake: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, wake:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                try:
                    while not self._stopping.is_set():
                        sock, peer = listener.accept()
                        self._admit(sock, str(peer[0]))
                except BlockingIOError:
                    continue
                except OSError:
                    self._stopping.wait(0.05)  # out of file descriptors: wait for connections to end

    def _admit(self, sock: socket.socket, peer: str) -> None:
        with self._guard:
            full = len(self._open) >= self._max_connections or self._by_peer[peer] >= self._max_of_peer
            thread = threading.Thread(
                target=self._serve, args=(sock, peer), daemon=True, name=f"registry-{self._port}-c"
            )
            if not full and not self._stopping.is_set():
                self._open[sock] = thread
            if not full:
                self._by_peer[peer] += 1
        if not full:
            try:
                thread.start()
                return
            except RuntimeError:  # no more threads
                self._forget(sock, peer)
        with suppress(OSError), sock:
            sock.setblocking(False)
            if self._tls is None:
                sock.send(_BUSY)

    def _forget(self, sock: socket.socket, peer: str) -> None:
        with self._guard:
            self._open.pop(sock, None)
            self._by_peer[peer] -= 1
            if self._by_peer[peer] <= 0:
                del self._by_peer[peer]

    def _serve(self, sock: socket.socket, peer: str) -> None:
        plain = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(self._deadlines.head_s)
                sock = self._tls.wrap(sock)
                with self._guard:
                    if plain in self._open:
                        self._open[sock] = self._open.pop(plain)
            connection = Connection(sock, self._deadlines)
            while not self._stopping.is_set() and self._serve_one(connection, peer):
                pass
        except (OSError, BodyCut):
            pass  # the peer is gone; what it half sent was dropped where it was read
        finally:
            with self._guard:
                self._open.pop(plain, None)
            self._forget(sock, peer)
            sock.close()

    def _serve_one(self, connection: Connection, peer: str) -> bool:
        """One request; whether the connection goes on."""
        scheme = "https" if self._tls is not None else "http"
        try:
            request = read_request(connection, scheme=scheme, local_address=self.address, peer=peer)
        except BadRequest as error:
            self._refuse(connection, error)
            return False
        if request is None:
            return False
        began, sent = time.monotonic(), 0
        response: Response | None = None
        try:
            response = self._answer(request)
            keep = request.keep_alive and not response.close and not self._stopping.is_set()
            if keep and not request.body.finished:
                keep = request.body.drain(DRAIN_BYTES)
            sent = send_response(connection, request, response, keep_alive=keep)
        except BadRequest as error:
            self._refuse(connection, error)
            return False
        finally:
            if response is not None:  # what was done is told, also to a client that sends nonsense or is gone
                response.close_file()
                self._report(request, response, sent, time.monotonic() - began)
        if not keep:
            connection.linger(LINGER_BYTES, LINGER_S if not request.body.finished else 0.2)
        return keep

    def _answer(self, request: Request) -> Response:
        try:
            return self._handler(request)
        except (BodyCut, BadRequest, ConnectionError, TimeoutError, ssl.SSLError):
            raise
        except Exception as error:  # a fault of ours must not end the server; the client gets 500
            response = error_response(500, "UNKNOWN", f"{type(error).__name__} inside the server")
            response.close = True
            return response

    def _refuse(self, connection: Connection, error: BadRequest) -> None:
        response = error_response(error.status, "UNSUPPORTED", str(error))
        connection.send(response.head(keep_alive=False) + response.body)
        connection.linger(LINGER_BYTES, LINGER_S)

    def _report(self, request: Request, response: Response, sent: int, seconds: float) -> None:
        if self._on_exchange is not None:
            exchange = Exchange(
                method=request.method,
                target=request.target,
                status=response.status,
                bytes_in=request.body.received,
                bytes_out=sent,
                seconds=seconds,
                user=request.user,
                peer=request.peer,
                digest=next((str(value) for name, value in response.headers if name == "Docker-Content-Digest"), ""),
                agent=request.headers.get("user-agent", ""),
            )
            self._on_exchange(exchange)


def _without_pacing(listener: socket.socket, host: str) -> None:
    """On loopback take a congestion control without pacing: BBR, some systems' default, costs half of the speed there.

    Connections inherit it. Elsewhere the system's choice stays.
    """
    if host == "::1" or host.startswith("127."):
        for name in (b"cubic", b"reno"):
            with suppress(OSError, AttributeError):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
                return


__all__ = ["MAX_CONNECTIONS", "Exchange", "HttpServer"]
