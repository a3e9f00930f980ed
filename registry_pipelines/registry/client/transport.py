"""HTTP over pooled connections: one attempt per call, bounded, with no-progress time-outs. No auth, no retries here.

Blocking sockets and threads: measured faster than every asynchronous client for few large blobs. Bytes go from the
socket into the caller's buffer (``recv_into``) and from the caller's buffer into the socket, without a copy between.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from registry_pipelines import __version__
from registry_pipelines.dialing import Address, Dialer, tls_context
from registry_pipelines.errors import ConfigInvalid, RegistryPipelinesError, Unsupported
from registry_pipelines.registry.client.origins import Origin, split_url
from registry_pipelines.registry.client.proxies import Proxy, open_tunnel, proxy_for
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.translate import (
    NETWORK_ERRORS,
    not_answered,
    raise_translated,
    translate_exception,
)
from registry_pipelines.registry.client.wire import Answer, request_head
from registry_pipelines.registry.protocol import Carrier, Parcel

MAX_IDLE_PER_ORIGIN = 48
"""Idle connections kept to one host. Fleets of small images use 32 threads, which wait for latency, not for the link; a
connection that is not kept costs a round trip each time."""

IDLE_S = 30.0
"""An idle connection older than this is closed: load balancers drop them silently after 60 s and more."""

WITH_HEAD_BYTES = 16 * 1024
"""A body up to this is sent together with the head: one call, one packet."""

SEND_BYTES = 256 * 1024
"""One ``send``. A socket time-out covers the whole call, so small calls make it a limit on progress."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds, seconds, tries: a peer that died while we wait for a long commit is found out after a minute and a half."""

LEAST_HANDSHAKE_S = 1.0
"""TLS gets this long however late the last of several addresses took the connection."""

USER_AGENT = f"registry-pipelines/{__version__}"


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. connect: TCP and TLS. stall: no byte moved. commit: the answer to a manifest; to the end of an upload as
    much more as its bytes take at commit_bytes_per_s.

    Registries hash and assemble before they answer the last request, some by reading it once more from an object store;
    minutes are normal for large layers. The slowest known takes 15 min for 3.6 GB (go-containerregistry#2084).
    """

    connect_s: float = 15.0
    stall_s: float = 60.0
    commit_s: float = 120.0
    commit_bytes_per_s: float = 4_000_000.0

    def to_commit(self, size_bytes: int) -> float:
        """Seconds that a registry has for the end of an upload."""
        return self.commit_s + size_bytes / self.commit_bytes_per_s


@runtime_checkable
class Body(Protocol):
    """A request body that is streamed. size: bytes in all."""

    size: int

    def rewind(self) -> bool:
        """Start again from the first byte; False when that cannot be."""
        ...

    def chunks(self) -> Iterator[memoryview]:
        """Pieces in order; each is sent before the next is asked for."""
        ...


class AddressGuard(Protocol):
    """Judges the addresses a request may go to."""

    def choose(self, addresses: list[Address]) -> list[Address]:
        """Those that may be connected to. Raises RedirectRefused when there is none."""
        ...

    def check(self, address: str) -> None:
        """Raise RedirectRefused for an address that may not be asked."""
        ...


@dataclass(slots=True, eq=False)
class Request:
    """One HTTP request. url: absolute, used verbatim after the host. where: for errors.

    answer_s: wait for the answer this long, None for the stall time-out. once: never sent twice, not even when a kept
    connection turns out to be dead: it may have arrived all the same. carrier: sends it from another process. guard:
    judges the addresses behind the URL's host before anything is sent there, unless a proxy stands between.
    """

    method: str
    url: str = field(repr=False)
    where: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | memoryview | Body | None = field(default=None, repr=False)
    answer_s: float | None = None
    once: bool = False
    carrier: Carrier | None = None
    guard: AddressGuard | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it may and can be sent a second time."""
        return not self.once and (self.body is None or isinstance(self.body, bytes | memoryview))


class Transport:
    """Keeps connections for many threads. ca_file: PEM certificates trusted besides the system's."""

    def __init__(
        self, *, ca_file: Path | None = None, timeouts: Timeouts | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._tls = _tls_context(ca_file) if ca_file else None
        self._ca_file = ca_file
        self._dialer = Dialer()
        self._peers: dict[Origin, str] = {}
        self._environ = environ
        self.receive_bytes = 0
        """What the system may receive ahead of us on one new connection; 0 leaves it to the system."""
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[_Connection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: Request) -> Response:
        """Send one request, give the answer with its body unread. Any status is an answer.

        Raises Unavailable, Stalled, TlsFailed, RegistryError (not HTTP), and what the body's source raises.
        """
        origin, target = split_url(request.url, where=request.where)
        if request.carrier:
            return self._carried(request.carrier, request, origin, target)
        idle = self._take(origin)
        if idle:
            if request.guard:
                self._judge(request.guard, idle)
            try:
                return self._exchange(idle, request, target)
            except _Stale as stale:
                if not request.repeatable:
                    raise stale.error from stale.error.__cause__
        fresh = self._connect(origin, request.where, request.guard)
        try:
            return self._exchange(fresh, request, target)
        except _Stale as stale:
            raise stale.error from stale.error.__cause__

    def address_of(self, origin: Origin, where: str) -> str:
        """The address that answers for an origin, as it last did; empty behind a proxy. Raises Unavailable, ..."""
        if origin not in self._peers:
            self._release(self._connect(origin, where), keep=True)
        return self._peers[origin]

    def _judge(self, guard: AddressGuard, connection: _Connection) -> None:
        try:
            if connection.peer:
                guard.check(connection.peer)
        except BaseException:
            self._release(connection, keep=True)
            raise

    def _carried(self, carrier: Carrier, request: Request, origin: Origin, target: str) -> Response:
        """The head is written here and the answer is read here; between, the carrier holds the connection.

        Carriers know no proxies: Unsupported, with the status by which servers refuse a body of unknown length.
        """
        if proxy_for(origin.scheme, origin.host, origin.port, self._environ):
            raise Unsupported("content cannot be carried through a proxy", where=request.where, status=501)
        try:
            head = request_head(request.method, target, {**_usual(origin), **request.headers})
            addresses = self._dialer.resolve(origin.host, origin.port)
        except NETWORK_ERRORS as error:
            raise_translated(error, where=request.where, doing="writing a request")
        if request.guard:
            addresses = request.guard.choose(addresses)
        ca_file = str(self._ca_file or "")
        stall_s = self.timeouts.stall_s
        times = self.timeouts.connect_s, stall_s, request.answer_s or stall_s
        places = tuple(addresses)
        raw = carrier.carry(Parcel(origin.scheme, origin.host, origin.port, places, ca_file, head, request.url, *times))
        try:
            answer = Answer(_Received(raw), request.method)
        except NETWORK_ERRORS as error:
            raise_translated(error, where=request.where, doing="reading the answer")
        return Response(
            answer, url=request.url, where=request.where, reusable=False, peer="", release=lambda _keep: None
        )

    def close(self) -> None:
        """Close idle connections; the object stays usable."""
        with self._lock:
            _close_all(self._idle)

    def _exchange(self, connection: _Connection, request: Request, target: str) -> Response:
        try:
            finished = _send_request(connection, request, target, self.timeouts.stall_s)
            answer = _read_answer(connection, request, request.answer_s or self.timeouts.stall_s)
        except BaseException:
            connection.close()
            raise
        connection.wait(self.timeouts.stall_s)
        return Response(
            answer,
            url=request.url,
            where=request.where,
            reusable=finished,
            peer=connection.peer,
            release=lambda keep: self._release(connection, keep=keep),
        )

    def _take(self, origin: Origin) -> _Connection | None:
        while True:
            with self._lock:
                waiting = self._idle.get(origin)
                connection = waiting.pop() if waiting else None
            if connection is None:
                return None
            if time.monotonic() - connection.idle_since < IDLE_S and not connection.readable():
                return connection
            connection.close()

    def _release(self, connection: _Connection, *, keep: bool) -> None:
        if keep:
            connection.idle_since = time.monotonic()
            with self._lock:
                waiting = self._idle.setdefault(connection.origin, [])
                if len(waiting) < MAX_IDLE_PER_ORIGIN:
                    waiting.append(connection)
                    return
        connection.close()

    def _connect(self, origin: Origin, where: str, guard: AddressGuard | None = None) -> _Connection:
        proxy = proxy_for(origin.scheme, origin.host, origin.port, self._environ)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        try:
            addresses = self._dialer.resolve(host, port)
            if guard and not proxy:
                addresses = guard.choose(addresses)
            connected = self._open(origin, proxy, addresses, where)
        except ssl.SSLCertVerificationError as error:
            failed = translate_exception(error, where=where, doing="connecting")
            if self._ca_file and "ca_file" in failed.do:
                failed.do = f"See whether {self._ca_file} holds the authority that signed it"
            raise failed from error
        except NETWORK_ERRORS as error:
            through = f" through the proxy {host}:{port}" if proxy else ""
            raise_translated(error, where=where, doing=f"connecting to {origin}{through}")
        connection = _Connection(origin, connected, None if origin.scheme == "https" else proxy)
        connection.peer = self._peers[origin] = "" if proxy else str(connected.getpeername()[0])
        if self.receive_bytes:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        return connection

    def _open(self, origin: Origin, proxy: Proxy | None, addresses: list[Address], where: str) -> socket.socket:
        """TCP, the proxy's tunnel and TLS, within connect_s. Raises OSError, and what a proxy refuses."""
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        until = time.monotonic() + self.timeouts.connect_s
        connected = self._dialer.connect(host, port, addresses, self.timeouts.connect_s)
        if origin.scheme == "http":
            return connected
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connected.close)
            connected.settimeout(max(until - time.monotonic(), LEAST_HANDSHAKE_S))
            if proxy:
                open_tunnel(connected, origin, proxy, where=where)
            if self._tls is None:  # the system's certificates are many, and plain registries need none of them
                self._tls = _tls_context(None)
            secured = self._tls.wrap_socket(connected, server_hostname=origin.host)
            on_failure.pop_all()
        return secured


def _close_all(idle: dict[Origin, list[_Connection]]) -> None:
    for connection in (one for many in idle.values() for one in many):
        connection.close()
    idle.clear()


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(str(ca_file or ""))
    except OSError as error:
        raise ConfigInvalid([f"ca_file {ca_file} cannot be read: {error.strerror or error}"]) from error


class _Received:
    """Bytes that were received elsewhere, read like a socket."""

    def __init__(self, raw: bytes) -> None:
        self._left = memoryview(raw)

    def recv_into(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class _Stale(Exception):
    """A connection died before the first byte of an answer; a kept one may simply have been closed meanwhile."""

    def __init__(self, error: RegistryPipelinesError) -> None:
        self.error = error


class _Connection:
    """One open connection. proxy: when set, requests carry the whole URL."""

    def __init__(self, origin: Origin, connected: socket.socket, proxy: Proxy | None) -> None:
        self.origin = origin
        self.socket = connected
        self.proxy = proxy
        self.peer = ""
        self.idle_since = 0.0
        self._timeout = connected.gettimeout()
        self._arrivals = select.poll()
        self._arrivals.register(connected, select.POLLIN)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def wait(self, timeout_s: float) -> None:
        """How long one call may take from now on; told to the system only where it changes."""
        if timeout_s != self._timeout:
            self.socket.settimeout(timeout_s)
            self._timeout = timeout_s

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def readable(self) -> bool:
        """Whether something arrived that nobody asked for: an early answer, or the end."""
        return bool(self._arrivals.poll(0))


def _send_request(connection: _Connection, request: Request, target: str, stall_s: float) -> bool:
    """Write head and body; False when the other side answered before it had all of the body."""
    connection.wait(stall_s)
    body = request.body
    size = 0 if body is None else body.size if not isinstance(body, bytes | memoryview) else len(body)
    try:
        address = f"http://{connection.origin}{target}" if connection.proxy else target
        head = request_head(request.method, address, _headers(connection, request, size))
        if isinstance(body, bytes | memoryview) and size <= WITH_HEAD_BYTES:
            head, size = head + body, 0
        connection.socket.sendall(head)
    except NETWORK_ERRORS as error:
        if isinstance(error, ConnectionError):
            raise _Stale(translate_exception(error, where=request.where, doing="sending a request")) from error
        raise_translated(error, where=request.where, doing="sending a request")
    if not size:
        return True
    chunks = iter([memoryview(body)]) if isinstance(body, bytes | memoryview) else body.chunks()  # type: ignore[union-attr]
    return all(_send_chunk(connection, chunk, request.where) for chunk in chunks)


def _headers(connection: _Connection, request: Request, size: int) -> dict[str, str]:
    headers = {**_usual(connection.origin), **request.headers}
    if connection.proxy:
        headers.update(connection.proxy.headers)
    if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(size)
    return headers


def _usual(origin: Origin) -> dict[str, str]:
    """Headers of every request; bodies are wanted as they are stored."""
    host = str(origin).removesuffix(":443" if origin.scheme == "https" else ":80")
    return {"Host": host, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


def _send_chunk(connection: _Connection, chunk: memoryview, where: str) -> bool:
    """Send one piece; False when the other side has already answered or gone (its answer is then worth reading)."""
    sock = connection.socket
    # TLS 1.3 tickets make a socket readable without an answer, so only a plain one is asked.
    if connection.origin.scheme == "http" and connection.readable():
        return False
    sent = 0
    try:
        while sent < len(chunk):
            sent += sock.send(chunk[sent : sent + SEND_BYTES])
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        return False
    except NETWORK_ERRORS as error:
        raise_translated(error, where=where, doing="sending content")
    return True


def _read_answer(connection: _Connection, request: Request, wait_s: float) -> Answer:
    try:
        connection.wait(wait_s)
        return Answer(connection.socket, request.method)
    except TimeoutError as error:
        if request.answer_s is None or error.errno is not None:  # the other side is dead
            raise_translated(error, where=request.where, doing="waiting for the answer")
        raise not_answered(wait_s, where=request.where) from error
    except NETWORK_ERRORS as error:
        if isinstance(error, ConnectionError):
            raise _Stale(translate_exception(error, where=request.where, doing="waiting for the answer")) from error
        raise_translated(error, where=request.where, doing="waiting for the answer")
