"""Sockets below a folder, by which processes of one user find each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy.kept import make_own


@contextmanager
def short(folder: Path) -> Iterator[str]:
    """Another name for a folder: addresses of sockets have at most 108 bytes. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def listen(path: Path) -> socket.socket:
    """A socket for messages (SOCK_SEQPACKET) that only this user can connect to; it does not wait. What is there under
    its name goes. Raises LocalError."""
    make_own(path.parent)
    with local_errors(path.parent), short(path.parent) as below:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path.unlink(missing_ok=True)
            listener.bind(f"{below}/{path.name}")
            path.chmod(0o600)
            listener.listen()
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener


def connect(path: Path, timeout_s: float) -> socket.socket:
    """To who listens there. Raises OSError: nobody does."""
    with short(path.parent) as below:
        asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            asked.settimeout(timeout_s)
            asked.connect(f"{below}/{path.name}")
        except BaseException:
            asked.close()
            raise
        return asked


__all__ = ["connect", "listen", "short"]
