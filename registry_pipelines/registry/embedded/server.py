"""The server: one thread per connection, blocking sockets, ``sendfile``.

Measured against asynchronous and Go servers: for few large blobs this takes content in fastest, because hashing,
receiving and writing leave Python's lock, and gives it out at the kernel's speed.
"""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import InputError, LocalError, PortTaken
from registry_pipelines.registry.embedded.application import Application, Handler
from registry_pipelines.registry.embedded.auth import Gate, User, read_htpasswd
from registry_pipelines.registry.embedded.garbage import GRACE_S, Collected, collect_garbage
from registry_pipelines.registry.embedded.heads import Request, read_request
from registry_pipelines.registry.embedded.http_messages import BadRequest, BodyCut, Connection, Deadlines
from registry_pipelines.registry.embedded.responses import Response, error_response
from registry_pipelines.registry.embedded.sending import send_response
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import Uploads

MAX_CONNECTIONS = 2048
"""Open connections; each costs a thread (about 50 KB) and a file descriptor. More are answered 503."""
DRAIN_BYTES = 64 * 1024
"""An unread body up to this is read so that the connection can go on; after a larger one it is closed."""
LINGER_BYTES = 4 * 1024 * 1024
"""Read and thrown away at most before closing, so that the peer gets to see the answer."""
LINGER_S = 2.0
GARBAGE_INTERVAL_S = 3600.0
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


class EmbeddedServer:
    """An OCI registry (distribution-spec 1.1) on one address, with its content below ``root``.

    root: made when missing; an OCI layout per repository. port 0: a free one.
    users: name to :class:`User` or password; htpasswd: a file of bcrypt lines; neither means open to all.
    tokens: bearer tokens with an own endpoint instead of basic. anonymous_pull: reading needs no account.
    certificate, key: PEM files; TLS when given. require_complete: refuse image manifests whose blobs are missing.
    on_exchange: called after each answer, from many threads. wrap: puts something around the handler (faults in tests).
    garbage_interval_s, garbage_grace_s: the own collection of garbage; an interval of None switches it off.

    ``start`` raises PortTaken, LocalError, InputError. Safe to kill at any moment.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, User | str] | None = None,
        tokens: bool = False,
        anonymous_pull: bool = False,
        htpasswd: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        require_complete: bool = False,
        deadlines: Deadlines | None = None,
        max_connections: int = MAX_CONNECTIONS,
        garbage_interval_s: float | None = GARBAGE_INTERVAL_S,
        garbage_grace_s: float = GRACE_S,
        on_exchange: Callable[[Exchange], None] | None = None,
        wrap: Callable[[Handler], Handler] | None = None,
    ) -> None:
        self.root = Path(root)
        self._host = host
        self._wanted_port = port
        self._port = 0
        self._certificate, self._key = certificate, key
        self._deadlines = deadlines or Deadlines()
        self._max_connections = max_connections
        self._garbage_interval_s, self._garbage_grace_s = garbage_interval_s, garbage_grace_s
        self._on_exchange = on_exchange
        accounts = {name: user if isinstance(user, User) else User(user) for name, user in (users or {}).items()}
        if htpasswd is not None:
            accounts.update(read_htpasswd(htpasswd))
        gate = Gate(accounts, tokens=tokens, anonymous_pull=anonymous_pull)
        self.store = Store(self.root)
        self.uploads = Uploads()
        application: Handler = Application(self.store, self.uploads, gate, require_complete=require_complete)
        self._handler = wrap(application) if wrap else application
        self._tls: ssl.SSLContext | None = None
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
        return f"{'https' if self._certificate else 'http'}://{self.address}"

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> EmbeddedServer:
        """Listen and serve in background threads. Raises PortTaken, LocalError, InputError."""
        if self._listener is not None:
            return self
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(f"the root folder cannot be made: {error.strerror}", where=str(self.root)) from error
        self._tls = self._make_tls()
        self._listener = self._listen()
        self._port = self._listener.getsockname()[1]
        self._stopping.clear()
        ours, theirs = socket.socketpair()
        self._wake = ours
        self._spawn(self._accept_all, self._listener, theirs)
        if self._garbage_interval_s is not None:
            self._spawn(self._collect_regularly, self._garbage_interval_s)
        return self

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name=f"registry-{self._port}")
        self._threads.append(thread)
        thread.start()

    def _make_tls(self) -> ssl.SSLContext | None:
        if self._certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._no_password)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"certificate or key cannot be used: {error}",
                where=str(self._certificate),
                do="Give PEM files that fit",
            ) from error
        return context

    def _no_password(self) -> str:
        """OpenSSL would ask the terminal for one, and a service wait there for ever."""
        raise InputError(
            "the key of the certificate is encrypted, and a server cannot ask for its password",
            where=str(self._key or self._certificate),
            do="Give a plain one that only the server may read: openssl pkey -in FILE -out PLAIN",
        )

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
        self._listener.close()
        self._listener = None

    def collect_garbage(self, *, grace_s: float = GRACE_S) -> Collected:
        """Free unreferenced blobs and abandoned uploads now (see ``garbage``)."""
        return collect_garbage(self.store, self.uploads, grace_s=grace_s)

    def _collect_regularly(self, interval_s: float) -> None:
        while not self._stopping.wait(interval_s):
            with suppress(OSError):
                self.collect_garbage(grace_s=self._garbage_grace_s)

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
            full = len(self._open) >= self._max_connections
            thread = threading.Thread(
                target=self._serve, args=(sock, peer), daemon=True, name=f"registry-{self._port}-c"
            )
            if not full and not self._stopping.is_set():
                self._open[sock] = thread
        if not full:
            try:
                thread.start()
                return
            except RuntimeError:  # no more threads
                self._forget(sock)
        with suppress(OSError), sock:
            sock.setblocking(False)
            if self._tls is None:
                sock.send(_BUSY)

    def _forget(self, sock: socket.socket) -> None:
        with self._guard:
            self._open.pop(sock, None)

    def _serve(self, sock: socket.socket, peer: str) -> None:
        plain = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(self._deadlines.head_s)
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._guard:
                    if plain in self._open:
                        self._open[sock] = self._open.pop(plain)
            connection = Connection(sock, self._deadlines)
            while not self._stopping.is_set() and self._serve_one(connection, peer):
                pass
        except (OSError, BodyCut):
            pass  # the peer is gone; what it half sent was dropped where it was read
        finally:
            self._forget(sock)
            self._forget(plain)
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
        began = time.monotonic()
        try:
            response = self._answer(request)
            keep = request.keep_alive and not response.close and not self._stopping.is_set()
            if keep and not request.body.finished:
                keep = request.body.drain(DRAIN_BYTES)
        except BadRequest as error:
            self._refuse(connection, error)
            return False
        sent = 0
        try:
            sent = send_response(connection, request, response, keep_alive=keep)
        finally:
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
            response = error_response(500, "UNKNOWN", f"{type(error).__name__} inside the registry")
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


__all__ = ["EmbeddedServer", "Exchange", "MAX_CONNECTIONS"]
