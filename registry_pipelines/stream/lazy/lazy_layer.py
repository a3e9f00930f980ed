"""The tar of one layer in a sparse file, and which of its 512-byte blocks are there.

Only verified bytes are written, so any number of processes may fill one layer at once: they write the same. A block
is told of after its bytes were written, and across a crash of the machine only what was synced is believed. A reader
gets right bytes or an error, never a hole.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry_pipelines.errors import IndexInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors, local_errors, write_file
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.stream.lazy.sharing import share_blocks, shared_bytes, shares_blocks

_RUN_BYTES = 8192 * BLOCK_BYTES
_COPY_BYTES = 16 << 20
_EDGE_BYTES = BLOCK_BYTES // 8
_WHOLE_EDGE = (1 << BLOCK_BYTES) - 1
_SYNCED_HEAD = struct.Struct("<QQI")
"""Bytes of the layer, number of the file that has them, CRC-32 of the bits."""

Fill = Callable[[int, int], "memoryview | None"]
"""Has bytes of a layer there, from and to; gives them where the disk could not keep them."""


class LazyLayer:
    """The tar of one layer, as far as it is there; for many threads. Opened by ``blocks.BlockStore.open``.

    Positions and sizes are bytes of the tar. Without a filler (``fill``) what is missing stays missing.
    """

    def __init__(self, folder: Path, digest: Digest, size: int, lease: int) -> None:
        self.digest = digest
        self.size = size
        self.folder = folder
        self.fill: Fill | None = None
        """Set by who can fetch what is missing (``filling.Filler``)."""
        self._lease = lease
        self._blocks = max(1, -(-size // BLOCK_BYTES))
        self._data_bytes, self._bit_bytes = self._blocks * BLOCK_BYTES, -(-self._blocks // 8)
        self._thread_lock = threading.Lock()
        self._unsynced, self._filling = False, -1
        self._filled_at_end = 0
        self._data, self._edges = (_file(folder / name) for name in ("data", "edges"))
        bits = _file(folder / "blocks")
        try:
            with self._locked():
                self._begin(bits)
            self._bits = mmap.mmap(bits, self._bit_bytes)
        except BaseException:
            self._close_files()
            raise
        finally:
            os.close(bits)
        # Mapped when it is first read: the kernel would ask whoever watches the file for all of it.
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None

    def __enter__(self) -> LazyLayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, synced: bool = True) -> None:
        """Sync what is there (``synced``), and let the layer go; safe to call twice. Views that are still used stay."""
        with self._thread_lock:
            if self._lease < 0:
                return
            self._filled_at_end = self.filled_bytes
            lease, self._lease = self._lease, -1
        if synced:
            with suppress(OSError, LocalError):
                self.sync()
        if self._view is not None:
            self._view.release()
        for each in (self._map, self._bits):
            if each is not None:
                with suppress(BufferError):
                    each.close()
        self._close_files()
        os.close(lease)

    def _close_files(self) -> None:
        files = (self._data, self._edges, self._filling)
        # Another file may get their numbers.
        self._data = self._edges = self._filling = -1
        for descriptor in files:
            if descriptor >= 0:
                os.close(descriptor)

    def read(self, position: int, size: int) -> bytes:
        """Bytes of the tar; waits until they are there. See :meth:`view`."""
        return bytes(self.view(position, size))

    def view(self, position: int, size: int) -> memoryview:
        """Bytes of the tar without a copy, of the mapped file where they could be kept; waits until they are there.

        Raises IndexInvalid: outside of the layer, or the blob is not what its table says; the RegistryError family,
        LocalError: what is missing cannot be had. It may be called again then.
        """
        stop = position + size
        if position < 0 or size < 0 or stop > self.size:
            raise IndexInvalid("what was asked for lies outside of the layer", where=str(self.digest))
        if self._lease < 0:
            raise LocalError("the layer is not open any more", where=str(self.digest))
        if not self.holds(position, stop):
            if self.fill is None:
                raise LocalError("the node does not have these bytes of the layer", where=str(self.digest))
            unkept = self.fill(position, stop)
            if unkept is not None:
                return unkept
        return self.raw(position, stop)

    def raw(self, start: int, stop: int) -> memoryview:
        """What the file has from ``start`` to ``stop``; holes are zeros. For who knows that it is there."""
        view = self._view
        if view is None:
            with self._thread_lock:
                if self._lease < 0:
                    raise LocalError("the layer is not open any more", where=str(self.digest))
                if self._view is None:
                    self._map = mmap.mmap(self._data, self._data_bytes, prot=mmap.PROT_READ)
                    self._view = memoryview(self._map)
                view = self._view
        return view[start:stop]

    def soon(self, position: int, size: int) -> None:
        """Have the kernel read bytes of the file from the disk, and do not wait; holes cost nothing."""
        with suppress(OSError):
            os.posix_fadvise(self._data, position, size, os.POSIX_FADV_WILLNEED)

    def unpacked(self, position: int, size: int) -> int | None:
        """A descriptor of a file with these bytes alone, as :meth:`unpack` made it; None for none."""
        with suppress(OSError):
            return os.open(self._unpacked(position, size), os.O_RDONLY | os.O_CLOEXEC)
        return None

    def unpack(self, position: int, size: int) -> bool:
        """Make a file with these bytes alone, beside the layer's own: it counts as the layer does, and goes with it.
        Whether there is one now; False where not all of them are here. Raises OSError."""
        if self._lease < 0 or not self.holds(position, position + size):
            return False
        # Without a name until it is whole, and on the disk: what a killed process leaves is gone.
        file = os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o400)
        try:
            done = 0
            while done < size:
                count = os.copy_file_range(self._data, file, min(size - done, _COPY_BYTES), position + done)
                if not count or self._lease < 0:
                    return False
                done += count
            os.fdatasync(file)
            with suppress(FileExistsError):
                # With a folder's descriptor, though the path needs none: Python follows the link only then.
                os.link(f"/proc/self/fd/{file}", self._unpacked(position, size), src_dir_fd=file)
        finally:
            os.close(file)
        return True

    def _unpacked(self, position: int, size: int) -> Path:
        return self.folder / f"file-{position}-{size}"

    def holds(self, start: int, stop: int) -> bool:
        """Whether all bytes from ``start`` to ``stop`` are there."""
        if start >= stop:
            return True
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        raw = int.from_bytes(self._bits[first >> 3 : (last >> 3) + 1], "little") >> (first & 7)
        wanted = (1 << (last - first + 1)) - 1
        missing = wanted & ~raw
        if not missing:
            return True
        # Only the outer blocks may be there in part.
        if missing & ~(1 | 1 << (last - first)):
            return False
        ends = {block for block in (first, last) if missing >> (block - first) & 1}
        return all(not _part(block, start, stop) & ~self._edge(block) for block in ends)

    def runs(self, start: int, stop: int, *, there: bool = True) -> Iterator[tuple[int, int]]:
        """From and to of the whole blocks that are there, or are not, from ``start``, a multiple of 4096, to
        ``stop``, one of 512 or the end."""
        for position in range(start, min(stop, self._data_bytes), _RUN_BYTES):
            count = min(_RUN_BYTES, self._data_bytes - position) // BLOCK_BYTES
            first = position // BLOCK_BYTES >> 3
            bits = int.from_bytes(self._bits[first : first + -(-count // 8)], "little")
            left, at = (bits if there else ~bits) & ((1 << count) - 1), position
            while left:
                skipped = (left & -left).bit_length() - 1
                left >>= skipped
                at += skipped * BLOCK_BYTES
                length = (~left & (left + 1)).bit_length() - 1
                yield at, at + length * BLOCK_BYTES
                left >>= length
                at += length * BLOCK_BYTES

    def put(self, position: int, content: Any) -> None:
        """Write bytes **that were verified**; tell of them by :meth:`mark`. Raises DiskFull, LocalError."""
        view = memoryview(content)
        with local_errors(self.folder), disk_errors(self.folder):
            while view:
                count = os.pwrite(self._data, view, position)
                position += count
                view = view[count:]

    def share(self, position: int, size: int, other: LazyLayer, start: int) -> bool:
        """Have bytes of another, from ``start`` on, stand here without a copy, as :meth:`put` would; all multiples of
        4096. False: the file system cannot. Raises DiskFull, LocalError."""
        with local_errors(self.folder):
            return share_blocks(other._data, start, size, self._data, position)

    def mark(self, start: int, stop: int) -> None:
        """The bytes from ``start`` to ``stop`` are there. A block that is there in part is none until the rest is."""
        self.mark_all([(start, stop)])

    def mark_all(self, runs: Iterable[tuple[int, int]]) -> None:
        """The same for several, which is faster than one by one."""
        self._unsynced = True
        with self._locked(), local_errors(self.folder):
            for start, stop in runs:
                # Behind the end is nothing to wait for.
                self._mark(start, self._data_bytes if stop >= self.size else stop)

    def _mark(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        outer = {block for block in (first, last) if _part(block, start, stop) != _WHOLE_EDGE}
        self._set(first + (first in outer), last - (last in outer))
        for block in outer:
            edge = self._edge(block) | _part(block, start, stop)
            os.pwrite(self._edges, edge.to_bytes(_EDGE_BYTES, "little"), block * _EDGE_BYTES)
            if edge == _WHOLE_EDGE:
                self._set(block, block)

    def _edge(self, block: int) -> int:
        return int.from_bytes(os.pread(self._edges, _EDGE_BYTES, block * _EDGE_BYTES), "little")

    def _set(self, first: int, last: int) -> None:
        if first > last:
            return
        place = slice(first >> 3, (last >> 3) + 1)
        bits = ((1 << (last - first + 1)) - 1) << (first & 7)
        bits |= int.from_bytes(self._bits[place], "little")
        self._bits[place] = bits.to_bytes(place.stop - place.start, "little")

    @property
    def filled_bytes(self) -> int:
        """Of the tar, those that are there, or were when it was closed; blocks there in part are not counted."""
        if self._lease < 0:
            return self._filled_at_end
        there = sum(int.from_bytes(piece, "little").bit_count() for piece in _pieces(self._bits))
        return min(there * BLOCK_BYTES, self.size)

    def may_share(self, other: LazyLayer) -> bool:
        """Whether :meth:`share` can be."""
        return shares_blocks(other._data, self._data)

    def file_bytes(self, *, shared: bool) -> int:
        """What the file takes of the disk, with or without what it shares with other files."""
        taken = os.fstat(self._data).st_blocks * 512
        with suppress(OSError):  # a file system that does not say
            return taken if shared else max(0, taken - shared_bytes(self._data))
        return taken

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return all(self.holds(at, min(at + _RUN_BYTES, self.size)) for at in range(0, self.size, _RUN_BYTES))

    def fill_alone(self) -> bool:
        """Whether this process is the one that fills the layer in the background; it is then until it closes it."""
        with suppress(OSError):
            if self._filling < 0:
                self._filling = _file(self.folder / "filling")
            fcntl.flock(self._filling, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Of the file, of what keeps others from deleting it and of what keeps them from filling it (-1 before
        :meth:`fill_alone`). Whoever has copies has the same, also when this process is gone."""
        return self._data, self._lease, self._filling

    def adopt(self, data: int, filling: int) -> None:
        """Go on with copies of another process's descriptors: it had the file open before it was watched, and alone."""
        os.dup2(data, self._data, inheritable=False)
        self._filling = filling

    def sync(self) -> None:
        """Have what is there survive a crash of the machine.

        Raises DiskFull, OSError: the disk did not take all of it. The kernel drops bytes then that it had taken and
        tells it once, so what was not synced before is not there any more.
        """
        with self._locked():
            if not self._unsynced:
                return
            self._unsynced = False
            bits = self._bits[:]
        try:
            os.fdatasync(self._data)
        except OSError:
            with self._locked():
                self._bits[:] = self._synced().ljust(self._bit_bytes, b"\0")
                os.ftruncate(self._edges, 0)
                os.ftruncate(self._edges, self._blocks * _EDGE_BYTES)
            raise
        write_file(self.folder / "synced", self._synced_head(bits) + bits, mode=0o600)

    def _begin(self, bits: int) -> None:
        """Make the files, and after a crash of the machine believe only what was synced: the kernel writes bits and
        bytes in any order. Nothing is believed of a copy: it may have bits that are younger than its bytes."""
        told, boot = self.folder / "boot", boot_id()
        begun_as = f"{boot} {os.fstat(self._data).st_ino}"
        sizes = os.fstat(self._data).st_size, os.fstat(bits).st_size
        known = told.read_text() if told.exists() else ""
        if boot and known == begun_as and sizes == (self._data_bytes, self._bit_bytes):
            return
        told.unlink(missing_ok=True)
        os.ftruncate(self._edges, 0)
        os.ftruncate(self._edges, self._blocks * _EDGE_BYTES)
        os.ftruncate(bits, 0)
        # With its room: a map of it that finds the disk full would end the process.
        os.posix_fallocate(bits, 0, self._bit_bytes)
        if sizes[0] == self._data_bytes:
            os.pwrite(bits, self._synced(), 0)
        os.ftruncate(self._data, self._data_bytes)
        begun = self.folder / "boot.new"
        begun.write_text(begun_as)
        begun.replace(told)

    def _synced(self) -> bytes:
        with suppress(OSError):
            raw = (self.folder / "synced").read_bytes()
            bits = raw[_SYNCED_HEAD.size :]
            if raw[: _SYNCED_HEAD.size] == self._synced_head(bits) and len(bits) == self._bit_bytes:
                return bits
        return b""

    def _synced_head(self, bits: bytes) -> bytes:
        return _SYNCED_HEAD.pack(self.size, os.fstat(self._data).st_ino, zlib.crc32(bits))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads and processes."""
        with self._thread_lock:
            fcntl.flock(self._edges, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._edges, fcntl.LOCK_UN)


def _part(block: int, start: int, stop: int) -> int:
    """Which bytes of a block lie between two positions, one bit for each."""
    first = max(start - block * BLOCK_BYTES, 0)
    last = min(stop - block * BLOCK_BYTES, BLOCK_BYTES)
    return (1 << last) - (1 << first)


def _file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _pieces(bits: mmap.mmap) -> Iterator[bytes]:
    for start in range(0, len(bits), 1 << 16):
        yield bits[start : start + (1 << 16)]


def boot_id() -> str:
    """Of this run of the kernel; empty where it does not say, and then nothing is believed but what was synced."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


__all__ = ["LazyLayer", "boot_id"]
