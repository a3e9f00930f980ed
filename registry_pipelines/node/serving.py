"""The process that containerd asks: a server of gRPC on a Unix socket."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines import __version__
from registry_pipelines.errors import InputError, StateLocked, ToolMissing
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.draining import Drain
from registry_pipelines.node.judging import Gate
from registry_pipelines.node.lazy_images import LazyImages
from registry_pipelines.node.snapshots import Snapshots
from registry_pipelines.node.status import NodeStatus, Reporter
from registry_pipelines.node.where import check_socket
from registry_pipelines.oci.files import held_alone, local_errors, raise_file_limit
from registry_pipelines.oci.times import write_time


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
    h2 or protobuf.
    """
    check_socket(socket_path)
    for name, module in (("h2", "h2.connection"), ("protobuf", "google.protobuf.message")):  # of an extra
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ToolMissing(
                f"{name} is not installed, by which containerd asks",
                do="Install it: pip install 'registry-pipelines[node]'",
            ) from error
    from registry_pipelines.node.grpc_server import Server
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
        with Server(socket_path, calls(Service(snapshots), log), log, joined):
            yield reporter


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
