"""Bytes of layers' tars that this node has: a folder for each (``lazy_layer``), within a limit, for all images and
processes of the node. What somebody has open is never deleted (leases)."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer

FORMAT = 1
"""Part of the paths; raised when the files hold something else than before. Older ones are deleted."""

MAX_BYTES = 64 * 1024**3
"""Of all layers on the disk. Those not used for longest go first, never one that somebody has open."""


class BlockStore:
    """The layers below ``folder``, on a disk of this machine alone. Safe for many threads and processes; there is
    nothing to close."""

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES, is_used: Callable[[Path], bool] = lambda folder: False
    ) -> None:
        """is_used: asked of what nobody has open whether it must stay all the same. Raises what ``kept.make_own``
        does."""
        self.max_bytes, self._is_used = max_bytes, is_used
        self.is_full = False
        """Whether what is open takes more than the limit, when it was last looked at."""
        self._root = folder
        self._folder = folder / f"v{FORMAT}"
        make_own(self._folder)
        self._has_looked = False

    def open(self, digest: Digest, size: int, *, table: Digest | None = None) -> LazyLayer:
        """A layer, with what is there of it. Close it; until then it is not evicted.

        digest: of the layer's blob. size: bytes of its tar. table: what is believed to say which bytes those are, as
        the ztoc that its spans come from; None where they are held against the layer's own digest. Who believes another
        table, or another size, gets another file: one that lies harms only those who believe it. Raises LocalError,
        DiskFull.
        """
        if not self._has_looked:  # not before: who finds that nothing can be read by pieces needs no room
            self._has_looked = True
            self.make_room()
        path = self.path(digest, size, table=table)
        with local_errors(self._folder):
            lease = _leased(path)
            try:
                return LazyLayer(path, digest, size, lease)
            except BaseException:
                os.close(lease)
                raise

    def free_bytes(self) -> int:
        """Of the disk, for this user. Raises OSError."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def make_room(self, wanted: int = 0) -> int:
        """Delete what was not used for longest, until the limit holds and ``wanted`` bytes more were freed. Returns the
        bytes that were. What is open stays, also where that is more than the limit. Call it now and then while layers
        are filled."""
        for other in self._root.glob("v*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        for left in self._folder.glob(".deleting-*"):
            shutil.rmtree(left, ignore_errors=True)
        there = sorted(self._measured())
        excess = sum(size for _, size, _ in there) - self.max_bytes
        wanted, freed = max(wanted, excess), 0
        for _, size, path in there:
            if freed >= wanted:
                break
            if self._evict(path):
                freed += size
        self.is_full = freed < excess
        return freed

    def drop(self, path: Path) -> bool:
        """Delete a layer (``LazyLayer.folder``) now. False where somebody has it open, or it is not there."""
        return path.is_relative_to(self._folder) and self._evict(path)

    def path(self, digest: Digest, size: int, *, table: Digest | None = None) -> Path:
        """The folder of a layer, whether it is there or not; see :meth:`open`."""
        name = Digest.of(f"{digest} {size} {table or ''}".encode()).hex
        return self._folder / name[:2] / name

    def _measured(self) -> Iterator[tuple[float, int, Path]]:
        """When each layer was last opened, and its bytes on the disk."""
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                used = (path / "lease").stat().st_mtime
                yield used, _disk_bytes(path), path

    def _evict(self, path: Path) -> bool:
        """Delete a layer that nobody has open."""
        if self._is_used(path):
            return False
        doomed = self._folder / f".deleting-{uuid.uuid4().hex}"
        try:
            lease = os.open(path / "lease", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.rename(doomed)
        except OSError:
            return False
        finally:
            os.close(lease)
        shutil.rmtree(doomed, ignore_errors=True)
        return True


def disk_bytes(folder: Path) -> int:
    """What the store below ``folder`` takes of the disk; nothing is made or deleted for that."""
    return sum(_disk_bytes(path) for path in folder.glob("v*/??/*"))


def layer_usage(folder: Path) -> tuple[int, int]:
    """Bytes of the disk and inodes that a layer (``LazyLayer.folder``) takes."""
    with suppress(OSError):
        return _disk_bytes(folder), 1 + sum(1 for _ in folder.iterdir())
    return 0, 0


def _disk_bytes(path: Path) -> int:
    with suppress(OSError):  # it goes just now
        return sum(file.stat().st_blocks * 512 for file in path.iterdir())
    return 0


def _leased(path: Path) -> int:
    """A descriptor that holds a layer's folder, which is made where it is not there."""
    while True:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lease = os.open(path / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # evicted just now
            continue
        fcntl.flock(lease, fcntl.LOCK_SH)
        with suppress(OSError):
            if os.fstat(lease).st_ino == (path / "lease").stat().st_ino:
                os.utime(lease)
                return lease
        os.close(lease)


__all__ = ["BlockStore", "disk_bytes", "layer_usage"]
