"""HTTP over pooled connections: one attempt per call, bounded, with no-progress time-outs. No auth, no retries here.

Blocking sockets and threads: measured faster than every asynchronous client for few large blobs. Bytes go from the
socket into the caller's buffer (``recv_into``), without a copy between.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

import msgspec

from registry_pipelines.dialing import Address, Dialer, tls_context
from registry_pipelines.errors import ConfigInvalid, Unsupported
from registry_pipelines.registry.client.connection import (
    AddressGuard,
    Connection,
    Request,
    Stale,
    read_answer,
    send_request,
    usual_headers,
)
from registry_pipelines.registry.client.origins import Origin, split_url
from registry_pipelines.registry.client.proxies import Proxy, open_tunnel, proxy_for
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.translate import (
    NETWORK_ERRORS,
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

LEAST_HANDSHAKE_S = 1.0
"""TLS gets this long however late the last of several addresses took the connection."""


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
        self._idle: dict[Origin, list[Connection]] = {}
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
            except Stale as stale:
                if not request.repeatable:
                    raise stale.error from stale.error.__cause__
        fresh = self._connect(origin, request.where, request.guard)
        try:
            return self._exchange(fresh, request, target)
        except Stale as stale:
            raise stale.error from stale.error.__cause__

    def address_of(self, origin: Origin, where: str) -> str:
        """The address that answers for an origin, as it last did; empty behind a proxy. Raises Unavailable, ..."""
        if origin not in self._peers:
            self._release(self._connect(origin, where), keep=True)
        return self._peers[origin]

    def _judge(self, guard: AddressGuard, connection: Connection) -> None:
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
            head = request_head(request.method, target, {**usual_headers(origin), **request.headers})
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

    def _exchange(self, connection: Connection, request: Request, target: str) -> Response:
        try:
            finished = send_request(connection, request, target, self.timeouts.stall_s)
            answer = read_answer(connection, request, request.answer_s or self.timeouts.stall_s)
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

    def _take(self, origin: Origin) -> Connection | None:
        while True:
            with self._lock:
                waiting = self._idle.get(origin)
                connection = waiting.pop() if waiting else None
            if connection is None:
                return None
            if time.monotonic() - connection.idle_since < IDLE_S and not connection.readable():
                return connection
            connection.close()

    def _release(self, connection: Connection, *, keep: bool) -> None:
        if keep:
            connection.idle_since = time.monotonic()
            with self._lock:
                waiting = self._idle.setdefault(connection.origin, [])
                if len(waiting) < MAX_IDLE_PER_ORIGIN:
                    waiting.append(connection)
                    return
        connection.close()

    def _connect(self, origin: Origin, where: str, guard: AddressGuard | None = None) -> Connection:
        proxy = proxy_for(origin.scheme, origin.host, origin.port, self._environ)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        try:
            addresses = self._dialer.resolve(host, port)
            if guard and not proxy:
                addresses = guard.choose(addresses)
            connected = self._open(origin, proxy, addresses, where)
            peer = "" if proxy else _peer(connected)
        except ssl.SSLCertVerificationError as error:
            failed = translate_exception(error, where=where, doing="connecting")
            if self._ca_file and "ca_file" in failed.do:
                failed.do = f"See whether {self._ca_file} holds the authority that signed it"
            raise failed from error
        except NETWORK_ERRORS as error:
            through = f" through the proxy {host}:{port}" if proxy else ""
            raise_translated(error, where=where, doing=f"connecting to {origin}{through}")
        connection = Connection(origin, connected, None if origin.scheme == "https" else proxy)
        connection.peer = self._peers[origin] = peer
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


def _peer(connected: socket.socket) -> str:
    """The address at the other end. Raises ConnectionResetError: it ended at once, and is closed here then, too."""
    try:
        return str(connected.getpeername()[0])
    except OSError as error:
        connected.close()
        raise ConnectionResetError(error.errno, "the connection ended as soon as it was made") from error


def _close_all(idle: dict[Origin, list[Connection]]) -> None:
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
