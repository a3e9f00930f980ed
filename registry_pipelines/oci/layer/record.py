"""What one pass found of a layer, kept in a folder of three files so that nobody has to read the layer again.

``entries``: the tar's headers as they stand there, in one zstd frame (as tar-split keeps them: 1 to 2 % of their size);
every index format is made from them. ``windows``: 32 KiB for each checkpoint, 0.8 % of the tar at 4 MiB spans.
``record.json``: the rest, with checksums of both; it is written last. The two big files are mapped, not loaded.

A *listing* is a record without what only readers of ranges need: no windows, checkpoints and span digests, and of
files the CRC-32 but no sha256. It costs a pass a tenth of what a record costs, and 1 to 2 % of the headers on disk.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
import zstandard

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.checkpoints import WINDOW_BYTES, Checkpoint, Checkpoints, FixedSpans
from registry_pipelines.oci.manifests import decode_json, encode_json

_ENTRY = struct.Struct("<QQIIB")
"""position, size, CRC-32, bytes of ``blocks``, bytes of ``sha256`` and ``bytecode``; then these two, and ``blocks``."""

_SHA256_BYTES = 32
BYTECODE_HEAD_BYTES = 16
"""What a ``.pyc`` begins with: magic number, flags, and time and size of its source or a hash of it (PEP 552)."""
BYTECODE_MAGIC_BYTES = 4

_LEVEL = 1
"""Headers repeat so much that higher levels win nothing (measured)."""

_BATCH_BYTES = 64 * 1024
"""Compressed at once; entry by entry it takes five times as long."""

_READ_BYTES = 256 * 1024
_PIECE_BYTES = 64 * 1024
"""Of entries, unpacked at once."""
_CHECKED_BYTES = 4 * 1024 * 1024

MAX_BLOCKS_BYTES = 8 * 1024 * 1024
"""Header blocks of one entry; PAX records of 1 MiB, a long name and a long link of as much are three."""


class RawEntry(NamedTuple):
    """One tar entry as it stands in the layer."""

    position: int
    """Offset in the uncompressed tar where the payload begins (or would)."""
    size: int
    """Bytes of payload stored there, without padding."""
    blocks: bytes
    """All header blocks: those of extensions (``g``, ``x``, ``L``, ``K``) with their data, then the entry's own, then
    those of an old GNU sparse map."""
    sha256: bytes
    """Of the payload, 32 bytes; empty when there is none, and in a listing."""
    bytecode: bytes = b""
    """Of Python's compiled modules: the payload's first 16 bytes, and sha256 of the first four with all behind those
    16. Installations differ in what lies between, and in nothing else. Empty for other files, and in a layer whose
    maker did not look, and in a listing."""
    crc: int = 0
    """CRC-32 of the payload (that of gzip and zip): with the size it tells equal files apart from others, unless
    somebody made them to look equal."""


class RecordFacts(msgspec.Struct, frozen=True):
    """``record.json``."""

    digest: Digest
    size: int
    diff_id: Digest
    tar_size: int
    archive_end: int
    compression: str
    padding_bytes: int
    span_bytes: int
    checkpoints: tuple[Checkpoint, ...]
    span_digests: tuple[str, ...]
    entries: int
    entries_crc: int
    windows_crc: int
    points: tuple[tuple[int, int], ...] = ()
    """Of a listing: where in the tar one was when so many bytes of the layer had been taken; about every 8 MiB, and
    right within what the decompressor reads at once."""


class LayerRecord:
    """A finished record; opened by the store. Its files stay readable when the store lets it go meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError, ManifestInvalid, LayerInvalid: not there, or damaged."""
        facts = decode_json((folder / "record.json").read_bytes(), RecordFacts, what="record of a layer")
        self._windows: Any = _map(folder / "windows")
        self._entries: Any = _map(folder / "entries")
        self.entry_count = facts.entries
        if (
            _crc(self._windows) != facts.windows_crc
            or _crc(self._entries) != facts.entries_crc
            or len(self._windows) != len(facts.checkpoints) * WINDOW_BYTES
        ):
            raise LayerInvalid("the record of a layer is damaged", where=str(folder))
        self.digest = facts.digest
        """Of the bytes as stored."""
        self.size = facts.size
        self.diff_id = facts.diff_id
        self.tar_size = facts.tar_size
        """Uncompressed bytes, padding behind the archive's end included."""
        self.archive_end = facts.archive_end
        """Where the second zero block ends; ``tar_size`` when there are not two."""
        self.compression = facts.compression
        """``plain``, ``gzip`` or ``zstd``, as the first bytes say."""
        self.padding_bytes = facts.padding_bytes
        """Zero bytes between and behind gzip members, which the official SOCI builder refuses."""
        self.span_bytes = facts.span_bytes
        self.checkpoints = facts.checkpoints
        """Of gzip layers, at least one; empty for others."""
        self.span_digests = tuple(Digest(f"sha256:{digest}") for digest in facts.span_digests)
        """Of each span's bytes as stored: one for each checkpoint of gzip, each ``span_bytes`` of plain; zstd none."""
        self._points = facts.points

    @property
    def places(self) -> list[tuple[int, int]]:
        """Offsets in the tar, rising, and in the layer as stored: its beginning, checkpoints or points, its end."""
        points = self._points or [(each.position, each.start) for each in self.checkpoints]
        return [(0, 0), *(each for each in points if each[0]), (max(self.tar_size, 1), self.size)]

    @property
    def windows(self) -> memoryview:
        """All windows, one behind the other."""
        return memoryview(self._windows)

    def window(self, index: int) -> memoryview:
        """The 32 KiB before checkpoint ``index``, oldest first, zeros before the stream's beginning."""
        if not 0 <= index < len(self.checkpoints):
            raise IndexError(index)
        return memoryview(self._windows)[index * WINDOW_BYTES : (index + 1) * WINDOW_BYTES]

    def entries(self) -> Iterator[RawEntry]:
        """The entries in tar order, those before the end of the archive. May be called several times, also by several
        threads at once. Raises LayerInvalid."""
        if not self.entry_count:
            return
        # A map has a read of its own, whose position all callers would share.
        reader = zstandard.ZstdDecompressor().stream_reader(memoryview(self._entries), read_size=_READ_BYTES)
        piece, at = b"", 0
        for _ in range(self.entry_count):
            if len(piece) - at < _ENTRY.size:
                piece, at = _more(reader, piece[at:], _ENTRY.size), 0
            position, size, crc, blocks, digest = _ENTRY.unpack_from(piece, at)
            if blocks > MAX_BLOCKS_BYTES:
                raise LayerInvalid("the record of a layer is damaged", where=str(self.digest))
            at += _ENTRY.size
            if len(piece) - at < digest + blocks:
                piece, at = _more(reader, piece[at:], digest + blocks), 0
            middle, end = at + digest, at + digest + blocks
            sha256, bytecode = piece[at:middle][:_SHA256_BYTES], piece[at + _SHA256_BYTES : middle]
            yield RawEntry(position, size, piece[middle:end], sha256, bytecode, crc)
            at = end


def _map(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        if not path.stat().st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _crc(content: mmap.mmap | bytes) -> int:
    """CRC-32 of a file. Its pages are let go at once: they would count as this process's memory, 8 MB for each GB of
    a layer's tar."""
    crc, whole = 0, memoryview(content)
    for start in range(0, len(whole), _CHECKED_BYTES):
        piece = whole[start : start + _CHECKED_BYTES]
        crc = zlib.crc32(piece, crc)
        if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            content.madvise(mmap.MADV_DONTNEED, start, len(piece))
    return crc


def _more(reader: Any, piece: bytes, count: int) -> bytes:
    """A piece and what follows it, at least ``count`` bytes together. Raises LayerInvalid: there are fewer."""
    parts, have = [piece], len(piece)
    while have < count:
        try:
            parts.append(reader.read(max(_PIECE_BYTES, count - have)))
        except zstandard.ZstdError as error:
            raise LayerInvalid(f"the record of a layer is damaged: {error}") from error
        if not parts[-1]:
            raise LayerInvalid("the record of a layer is damaged: it is cut off")
        have += len(parts[-1])
    return b"".join(parts)


class RecordWriter:
    """Writes a record while the layer passes, into a folder that exists; made by ``LayerStore.writing``.

    Whoever sees the layer tells it of windows (:meth:`keep_window`, which ``Checkpoints`` calls) and entries, and at
    the end calls :meth:`finish`. A thread of its own may add the entries. Raises DiskFull, LocalError.
    """

    def __init__(self, folder: Path, *, span_bytes: int, listing: bool = False) -> None:
        self.span_bytes = int(span_bytes)  # a size of the configuration is written with its unit
        """What checkpoints or slices are to be made with."""
        self.listing = listing
        """Whether it is to be a listing: entries without sha256, and :meth:`finish` gets points for spans."""
        self.facts: RecordFacts | None = None
        """Once it is finished."""
        self.folder = folder
        self._windows = _Checked(folder / "windows")
        self._entries = _Checked(folder / "entries")
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._batch = bytearray()
        self.entry_count = 0

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._windows.close()
        self._entries.close()

    def keep_window(self, window: bytes) -> None:
        """The window of the next checkpoint, exactly WINDOW_BYTES."""
        self._windows.write(window)

    def add(self, entry: RawEntry) -> None:
        """The next entry."""
        position, size, blocks, sha256, bytecode, crc = entry
        self._batch += _ENTRY.pack(position, size, crc, len(blocks), len(sha256) + len(bytecode))
        self._batch += sha256
        self._batch += bytecode
        self._batch += blocks
        self.entry_count += 1
        if len(self._batch) >= _BATCH_BYTES:
            self._write_batch()

    def _write_batch(self) -> None:
        self._entries.write(self._compressor.compress(self._batch))
        self._batch.clear()

    def finish(
        self,
        spans: Checkpoints | FixedSpans | None,
        *,
        digest: Digest,
        size: int,
        diff_id: Digest,
        tar_size: int,
        archive_end: int,
        compression: str,
        padding_bytes: int = 0,
        points: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Write the rest. spans: finished; None for zstd and of a listing. points: of a listing. Sizes in bytes; see
        LayerRecord for what each one is."""
        self._write_batch()
        self._entries.write(self._compressor.flush())
        self._windows.close()
        self._entries.close()
        facts = RecordFacts(
            digest=digest,
            size=size,
            diff_id=diff_id,
            tar_size=tar_size,
            archive_end=archive_end,
            compression=compression,
            padding_bytes=padding_bytes,
            span_bytes=spans.span_bytes if spans else 0,
            checkpoints=tuple(spans.points) if spans else (),
            span_digests=tuple(digest.hex() for digest in spans.digests) if spans else (),
            entries=self.entry_count,
            entries_crc=self._entries.crc,
            windows_crc=self._windows.crc,
            points=tuple(points),
        )
        with local_errors(self.folder):
            (self.folder / "record.json").write_bytes(encode_json(facts))
        self.facts = facts


class _Checked:
    """A file written from front to back, with the CRC-32 of what went in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with local_errors(path):
            self._file = path.open("xb", buffering=1 << 17)
        self.crc = 0

    def write(self, piece: bytes) -> None:
        if piece:
            self.crc = zlib.crc32(piece, self.crc)
            with local_errors(self._path):
                self._file.write(piece)

    def close(self) -> None:
        with local_errors(self._path):
            self._file.close()
