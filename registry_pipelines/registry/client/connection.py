"""One request over one open connection: head and body are written, the head of the answer is read.

Bytes go from the caller's buffer into the socket without a copy between. A peer that answers before it has all of a
body is noticed between two pieces, and its answer read.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from registry_pipelines import __version__
from registry_pipelines.dialing import Address
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.client.origins import Origin
from registry_pipelines.registry.client.proxies import Proxy
from registry_pipelines.registry.client.translate import (
    NETWORK_ERRORS,
    not_answered,
    raise_translated,
    translate_exception,
)
from registry_pipelines.registry.client.wire import Answer, request_head
from registry_pipelines.registry.protocol import Carrier

WITH_HEAD_BYTES = 16 * 1024
"""A body up to this is sent together with the head: one call, one packet."""

SEND_BYTES = 256 * 1024
"""One ``send``. A socket time-out covers the whole call, so small calls make it a limit on progress."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds, seconds, tries: a peer that died while we wait for a long commit is found out after a minute and a half."""

USER_AGENT = f"registry-pipelines/{__version__}"


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


class Stale(Exception):
    """A connection died before the first byte of an answer; a kept one may simply have been closed meanwhile."""

    def __init__(self, error: RegistryPipelinesError) -> None:
        self.error = error


class Connection:
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


def send_request(connection: Connection, request: Request, target: str, stall_s: float) -> bool:
    """Write head and body; False when the other side answered before it had all of the body. target: the path and
    query. Raises Stale, Unavailable, Stalled, TlsFailed, and what the body's source raises."""
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
            raise Stale(translate_exception(error, where=request.where, doing="sending a request")) from error
        raise_translated(error, where=request.where, doing="sending a request")
    if not size:
        return True
    chunks = iter([memoryview(body)]) if isinstance(body, bytes | memoryview) else body.chunks()  # type: ignore[union-attr]
    return all(_send_chunk(connection, chunk, request.where) for chunk in chunks)


def _headers(connection: Connection, request: Request, size: int) -> dict[str, str]:
    headers = {**usual_headers(connection.origin), **request.headers}
    if connection.proxy:
        headers.update(connection.proxy.headers)
    if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(size)
    return headers


def usual_headers(origin: Origin) -> dict[str, str]:
    """Headers of every request; bodies are wanted as they are stored."""
    host = str(origin).removesuffix(":443" if origin.scheme == "https" else ":80")
    return {"Host": host, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


def _send_chunk(connection: Connection, chunk: memoryview, where: str) -> bool:
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


def read_answer(connection: Connection, request: Request, wait_s: float) -> Answer:
    """The head of the answer, its body unread. Raises as ``send_request``."""
    try:
        connection.wait(wait_s)
        return Answer(connection.socket, request.method)
    except TimeoutError as error:
        if request.answer_s is None or error.errno is not None:  # the other side is dead
            raise_translated(error, where=request.where, doing="waiting for the answer")
        raise not_answered(wait_s, where=request.where) from error
    except NETWORK_ERRORS as error:
        if isinstance(error, ConnectionError):
            raise Stale(translate_exception(error, where=request.where, doing="waiting for the answer")) from error
        raise_translated(error, where=request.where, doing="waiting for the answer")
