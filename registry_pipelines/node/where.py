"""Where an agent of a node is unless told, and what else commands say of it: containerd's configuration names the
socket."""

import os
from pathlib import Path

from registry_pipelines.errors import InputError

SOCKET = Path("/run/registry-pipelines/snapshots.sock")
ROOT = Path("/var/lib/registry-pipelines/node")
"""With all layers and what containers write."""

KEPT_FREE = 20.0
"""Per cent of the disk (``room``)."""
MAX_SOCKET_BYTES = 107
"""unix(7)."""


def check_socket(path: Path) -> None:
    """That containerd can be told of a socket there. Raises InputError."""
    if not path.is_absolute() or len(os.fsencode(path)) > MAX_SOCKET_BYTES:
        raise InputError(
            f"containerd takes an absolute path of at most {MAX_SOCKET_BYTES} bytes for a socket",
            where=str(path),
            do=f"Name another with --socket, as {SOCKET}",
        )


__all__ = ["KEPT_FREE", "ROOT", "SOCKET", "check_socket"]
