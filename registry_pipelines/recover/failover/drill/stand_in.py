"""A stand-in in front of a registry: a server on loopback that passes pulls on, until it is told to be down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from registry_pipelines.errors import LocalError
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.relay import Relay
from registry_pipelines.registry.embedded import Exchange, Request, Response
from registry_pipelines.registry.embedded.http_server import Handler, HttpServer
from registry_pipelines.registry.embedded.responses import error_response
from registry_pipelines.registry.protocol import Place

HOST = "127.0.0.1"
STALL_AFTER_BYTES = 16 * 1024
"""Of a blob, at most half of it, before ``stalled`` stops."""
_FULL_S = 0.3
"""A connection to loopback that is not there by then never will be."""
_MOST_FILLERS = 64


class StandIn:
    """Answers for ``place`` at one address; ``inflict`` makes it be down there, ``heal`` up again.

    certificate, key: PEM files; TLS when given. A context manager. Raises LocalError when it cannot listen.
    """

    def __init__(self, place: Place, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self._relay = Relay(place)
        self._certificate, self._key = certificate, key
        self._server: HttpServer | None = None
        self._port_holder: socket.socket | None = None
        self._held: list[socket.socket] = []
        self._over = threading.Event()
        self._guard = threading.Lock()
        self._requests = 0
        self.port = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """With scheme, without a slash at the end."""
        return f"{'https' if self._certificate else 'http'}://{self.address}"

    @property
    def requests(self) -> int:
        """How many it answered so far, of those whose answer came to its end."""
        return self._requests

    def __enter__(self) -> Self:
        self._port_holder = self._bind()
        self.port = self._port_holder.getsockname()[1]
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._port_holder is not None:
            self._port_holder.close()

    def heal(self) -> None:
        """Pass pulls on."""
        self._end()
        self._serve(self._relay)

    def inflict(self, fault: Fault) -> None:
        """Be down in this way from now on; connections that are open are cut."""
        self._end()
        if fault is Fault.FROZEN:
            self._hold().listen(socket.SOMAXCONN)
        elif fault is Fault.UNREACHABLE:
            self._fill(self._hold())
        elif fault is not Fault.STOPPED:  # where nobody listens the kernel refuses
            self._serve(_Down(fault, self._relay, self._over))

    def _serve(self, handler: Handler) -> None:
        self._server = HttpServer(
            handler,
            host=HOST,
            port=self.port,
            certificate=self._certificate,
            key=self._key,
            on_exchange=self._count,
        ).start()

    def _count(self, _: Exchange) -> None:
        with self._guard:
            self._requests += 1

    def _end(self) -> None:
        self._over.set()
        if self._server is not None:
            self._server.stop()
            self._server = None
        for each in self._held:
            with suppress(OSError):  # a child that was forked just now has it, too, until it becomes another program
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._held.clear()
        self._over = threading.Event()

    def _bind(self) -> socket.socket:
        """A socket at the port. One that never listens is open all the time, so that nobody else gets the port."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, self.port))
        except OSError as error:
            sock.close()
            raise LocalError(f"the stand-in cannot have its port: {error.strerror}", where=self.address) from error
        return sock

    def _hold(self) -> socket.socket:
        """One that listens until the next change."""
        sock = self._bind()
        self._held.append(sock)
        return sock

    def _fill(self, listener: socket.socket) -> None:
        """Linux drops what asks for a connection where the queue of those that nobody took is full."""
        listener.listen(0)
        for _ in range(_MOST_FILLERS):
            filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._held.append(filler)
            filler.settimeout(_FULL_S)
            try:
                filler.connect((HOST, self.port))
            except TimeoutError:
                return
        raise LocalError("this kernel does not drop connections for which there is no room", where=self.address)


class _Down:
    """Answers, as a registry that is down in a way that HTTP shows."""

    def __init__(self, fault: Fault, relay: Relay, over: threading.Event) -> None:
        self._fault, self._relay, self._over = fault, relay, over

    def __call__(self, request: Request) -> Response:
        if self._fault is Fault.UNAVAILABLE:
            return error_response(503, "UNAVAILABLE", "the drill has this registry answer so")
        if self._fault is Fault.SILENT:
            self._over.wait()
            raise ConnectionAbortedError
        response = self._relay(request)
        if response.parts is not None:
            most = min(STALL_AFTER_BYTES, (response.content_length or 0) // 2)
            response.parts = self._stalled(response.parts, most)
        return response

    def _stalled(self, parts: Generator[bytes | memoryview], most: int) -> Generator[bytes | memoryview]:
        try:
            yield next(parts, b"")[:most]
        finally:
            parts.close()
        self._over.wait()
        raise ConnectionAbortedError


__all__ = ["HOST", "StandIn"]
