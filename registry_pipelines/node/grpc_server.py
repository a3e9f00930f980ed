"""A server of gRPC on a Unix socket: takes connections, each of which is a ``grpc_connection``."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.node.grpc_connection import Call, Connection

BACKLOG = 64
AGAIN_S = 0.1
END_S = 1.0
"""For calls that are under way when it ends; containerd asks again."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group at the other end of a socket (unix(7))."""


class Server:
    """Answers on a socket while the context lasts. Raises LocalError."""

    def __init__(
        self,
        path: Path,
        calls: Mapping[bytes, Call],
        log: Callable[[str], object],
        joined: Callable[[int], object] | None,
    ) -> None:
        self._path, self._calls, self._log, self._joined = path, calls, log, joined
        self._lock, self._ended = threading.Lock(), False
        self._connections: set[Connection] = set()
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Server:
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            raise LocalError(
                f"the socket cannot be made: {error.strerror}", where=str(self._path), do="Check its folder"
            ) from error
        finally:
            os.umask(before)
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
            left = list(self._connections)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + END_S
        for each in left:
            each.leave(max(0.0, until - time.monotonic()))
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        """In a thread."""
        while not self._ended:
            try:
                link, _ = self._socket.accept()
            except OSError as error:
                if not self._ended:  # as many files are open as may be
                    self._log(f"containerd cannot be answered: {error.strerror}")
                    time.sleep(AGAIN_S)
                continue
            if self._joined is not None:
                process, _, _ = _CREDENTIALS.unpack(
                    link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                )
                self._joined(process)
            connection = Connection(link, self._calls, self._log, self._left)
            with self._lock:
                if self._ended:
                    link.close()
                    return
                self._connections.add(connection)
            connection.start()

    def _left(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


__all__ = ["Server"]
