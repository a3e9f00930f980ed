"""The process that containerd asks: a server of gRPC on a Unix socket."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines import __version__
from registry_pipelines.errors import InputError, LocalError, StateLocked, ToolMissing
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.draining import Drain
from registry_pipelines.node.grpc_connection import Call, Connection
from registry_pipelines.node.judging import Gate
from registry_pipelines.node.lazy_images import LazyImages
from registry_pipelines.node.snapshots import Snapshots
from registry_pipelines.node.status import NodeStatus, Reporter
from registry_pipelines.node.where import check_socket
from registry_pipelines.oci.files import held_alone, local_errors, raise_file_limit
from registry_pipelines.oci.times import write_time

BACKLOG = 64
AGAIN_S = 0.1
END_S = 1.0
"""For calls that are under way when it ends; containerd asks again."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group at the other end of a socket (unix(7))."""


@contextlib.contextmanager
def served(
    socket_path: Path,
    root: Path,
    *,
    log: Callable[[str], None],
    lazy: LazyImages | None = None,
    gate: Gate | None = None,
    counts: Counts | None = None,
    lazy_state: Path | None = None,
    joined: Callable[[int], object] | None = None,
) -> Iterator[Reporter]:
    """Serve in the background until the block ends. socket_path: absolute, with its folder made; only root may ask
    there. root: the folder with all snapshots. log: see ``wire.calls``. counts: those of the whole agent.
    lazy_state: see ``status.Reporter``, which is given. joined: is told the number of each process that asks.

    Raises InputError, LocalError, StateLocked where another process serves either of them, ToolMissing without
    protobuf.
    """
    check_socket(socket_path)
    if importlib.util.find_spec("google.protobuf") is None:
        raise ToolMissing(
            "protobuf is not installed, which reads what containerd asks",
            do="Install it: pip install 'registry-pipelines[node]'",
        )
    from registry_pipelines.node.wire import Service, calls

    raise_file_limit()
    lock = socket_path.with_name(f"{socket_path.name}.lock")
    counts, root = counts or Counts(), root.absolute()
    with (
        held_alone(lock, "another process serves this socket", do="End it first, or take another --socket", own=True),
        Snapshots(root, lazy, gate, counts) as snapshots,
        Reporter(
            root,
            _first(socket_path, root),
            snapshots.everything,
            counts=counts,
            lazy_state=lazy_state,
            changes=lambda: snapshots.changes,
        ) as reporter,
    ):
        reporter.drain = Drain(root, snapshots, lazy).look
        _make_free(socket_path)
        with _Server(socket_path, calls(Service(snapshots), log), log, joined):
            yield reporter


class _Server:
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

    def __enter__(self) -> _Server:
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


def _first(socket_path: Path, root: Path) -> NodeStatus:
    return NodeStatus(
        process=os.getpid(),
        started=write_time(datetime.now(UTC)),
        version=__version__,
        socket=str(socket_path),
        root=str(root),
    )


def _make_free(path: Path) -> None:
    """Take away what a killed process left. Raises InputError, StateLocked."""
    with local_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            return
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InputError("that is no socket", where=str(path), do="Name another with --socket")
        with socket.socket(socket.AF_UNIX) as asked:
            if asked.connect_ex(str(path)) == 0:
                raise StateLocked(
                    "another program serves this socket", where=str(path), do="Name another with --socket"
                )
        path.unlink()


__all__ = ["served"]
