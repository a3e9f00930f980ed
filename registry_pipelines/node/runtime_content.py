"""What the runtime has fetched of an image before it asks for the first layer: manifests and configs, in containerd's
own content store.

Its folder is not told by anybody: it is found by the process that asks, which has its database open beside it
(containerd, ``io.containerd.metadata.v1.bolt`` and ``io.containerd.content.v1.content`` below its root, alike in 1.6
and 2.x). In a pod that sees the host's processes (``hostPID``) it is found below that process's root.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES

_DATABASE = "/io.containerd.metadata.v1.bolt/meta.db"
_BLOBS = "io.containerd.content.v1.content/blobs/sha256"
MOST = 4
"""Runtimes that asked last: one, mostly, and the one before its restart."""


class RuntimeContent:
    """Of all runtimes that ask this agent. For many threads."""

    def __init__(self, processes: Path = Path("/proc")) -> None:
        self._processes = processes
        self._folders: tuple[Path, ...] = ()
        """The newest first."""

    def joined(self, process: int) -> None:
        """A process asks from now on. One that is no containerd, or is not seen from here, has nothing."""
        here = self._processes / str(process)
        with suppress(OSError):
            for each in (here / "fd").iterdir():
                with suppress(OSError):
                    name = str(each.readlink())
                    if name.endswith(_DATABASE):
                        folder = here / "root" / name.removesuffix(_DATABASE).lstrip("/") / _BLOBS
                        self._folders = (folder, *(old for old in self._folders if old != folder))[:MOST]
                        return

    def read(self, digest: Digest) -> bytes | None:
        """A small blob, held against its digest; None where it is not there whole."""
        for folder in self._folders:
            with suppress(OSError):
                raw = _small(folder / digest.hex)
                if raw is not None and Digest.of(raw) == digest:
                    return raw
        return None


def _small(path: Path) -> bytes | None:
    """Raises OSError. Nothing but a file is opened: the store is another program's."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_CONFIG_BYTES else None


__all__ = ["RuntimeContent"]
