"""A layer's tar, buffer by buffer: inflated, bounded, hashed, and remembered where somebody wants a record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isal.isal_zlib import crc32

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.buffers import Buffers
from registry_pipelines.oci.layer.decompress import Decompressor, Readable, Source
from registry_pipelines.oci.layer.record import BYTECODE_HEAD_BYTES, BYTECODE_MAGIC_BYTES, RawEntry, RecordWriter
from registry_pipelines.oci.manifests import Descriptor

if TYPE_CHECKING:
    from registry_pipelines.oci.layer.pushed import PushedTar

BUFFER_BYTES = 1024 * 1024
"""Uncompressed bytes held at once (measured: larger is not faster)."""

POINT_BYTES = 8 * 1024 * 1024
"""Between points of a listing: what the decompressor read in advance is 3 % of it at most."""


@dataclass(frozen=True)
class LayerLimits:
    """What a layer may cost. Going over a limit raises LayerInvalid."""

    max_bytes: int = 256 * 1024**3
    """Uncompressed bytes; the largest registries take about 50 GB compressed a layer."""
    max_ratio: int = 200
    """Uncompressed to compressed bytes; real layers have 2 to 10, deflate can reach 1,032 and zstd 30,000."""
    ratio_grace_bytes: int = 512 * 1024**2
    """The ratio is not judged below this: small layers of zeros exist, and cost half a second at most."""
    max_entries: int = 10_000_000
    """Three million files in one image have been reported (grype issue 1509)."""
    max_names_reported: int = 1_000
    """Escaping links that are remembered by name."""


DEFAULT_LIMITS = LayerLimits()


class TarBytes:
    """The uncompressed bytes of a layer from front to back."""

    def __init__(
        self,
        stream: Readable,
        *,
        where: str,
        limits: LayerLimits = DEFAULT_LIMITS,
        expected: Descriptor | None = None,
        diff_id: Digest | None = None,
        writer: RecordWriter | None = None,
        beside: Executor | None = None,
        ahead: Executor | None = None,
        made: PushedTar | None = None,
    ) -> None:
        """made: the stream again, where who makes it hashes it. For the rest see ``walk.open_layer``."""
        self._where = where
        self._limits = limits
        self._writer = writer
        self._files = _FileHashes(writer) if writer else None
        self._hasher = None if made else _hasher(diff_id)
        self._source = Source(stream, None if made else _hasher(expected.digest if expected else None))
        self._listing = writer is not None and writer.listing
        spans_for = None if self._listing else writer
        self._decompressor = Decompressor(self._source, where=where, writer=spans_for, beside=beside)
        self._points: list[tuple[int, int]] = []
        # Not where the first file is called like the beginning of a gzip stream.
        self._made = made if self._decompressor.kind == "plain" else None
        self._ahead = ahead
        self._coming: Future[_Filled] | None = None
        self._buffers = Buffers(BUFFER_BYTES, beside, ahead=ahead is not None)
        self._view, self._index = memoryview(b""), 0
        self._position = 0
        self._end = 0
        self._entries: list[_Begun] = []
        self.total = 0
        """Bytes inflated so far."""
        self.archive_end: int | None = None
        """Where the second zero block ends, once it was seen."""

    @property
    def empty(self) -> bool:
        """Whether the layer has no byte at all."""
        return self._source.head == b""

    @property
    def byte_count(self) -> int:
        """Bytes read of the layer as stored."""
        return self._source.byte_count

    @property
    def compression(self) -> str:
        """``plain``, ``gzip`` or ``zstd``."""
        return self._decompressor.kind

    @property
    def digest(self) -> Digest | None:
        """Of the layer as stored, at the end; None when it is not hashed here."""
        return _digest(self._source.hasher)

    @property
    def diff_id(self) -> Digest | None:
        """Of the tar, at the end; None when it is not hashed here."""
        return _digest(self._hasher)

    @property
    def offset(self) -> int:
        """Where in the tar the next byte stands."""
        return self.total - self._end + self._position

    def fill(self) -> int:
        """The next buffer, after all of the one before was taken or passed over; 0 at the end."""
        self._done_with_buffer()
        view, count, self._index, stored = self._next_buffer()
        self._view, self._position, self._end = view, 0, count
        self.total += count
        if self._ahead and count and self._decompressor.may_go_on:
            self._coming = self._ahead.submit(self._inflate, ahead=True)
        if self._listing and self.total >= (self._points[-1][0] if self._points else 0) + POINT_BYTES:
            self._points.append((self.total, stored))
        limits = self._limits
        if self.total > limits.max_bytes:
            raise LayerInvalid(f"the layer unpacks to more than {limits.max_bytes} bytes", where=self._where)
        if self.total > limits.ratio_grace_bytes and self.total > limits.max_ratio * stored:
            raise LayerInvalid(
                f"{stored} compressed bytes unpack to more than {self.total}: a decompression bomb",
                where=self._where,
                do="Rebuild the image without huge runs of equal bytes; no program needs them",
            )
        return count

    def _next_buffer(self) -> _Filled:
        coming, self._coming = self._coming, None
        filled = coming.result() if coming else None
        if filled is None or not (filled[1] or self._decompressor.may_go_on):
            return self._inflate()
        return filled

    def _inflate(self, *, ahead: bool = False) -> _Filled:
        view = self._buffers.next()
        index, count = self._buffers.index, self._decompressor.readinto(view, ahead=ahead)
        return view, count, index, self._source.byte_count

    def more(self) -> bool:
        """Whether there is another byte."""
        return self._position < self._end or self.fill() > 0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes. Raises LayerInvalid: fewer are left."""
        start = self._position
        if self._end - start >= count:
            self._position = start + count
            return bytes(self._view[start : start + count])
        parts = bytearray()
        while len(parts) < count:
            if not self.more():
                raise self.truncated()
            step = min(count - len(parts), self._end - self._position)
            parts += self._view[self._position : self._position + step]
            self._position += step
        return bytes(parts)

    def take_into(self, buffer: memoryview) -> None:
        """Exactly as many bytes as the buffer has. Raises LayerInvalid: fewer are left."""
        have = 0
        while have < len(buffer):
            if not self.more():
                raise self.truncated()
            step = min(len(buffer) - have, self._end - self._position)
            buffer[have : have + step] = self._view[self._position : self._position + step]
            self._position += step
            have += step

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Exactly so many bytes as they lie in the buffers, each piece until the next is asked for. Raises
        LayerInvalid: fewer are left."""
        while count:
            if not self.more():
                raise self.truncated()
            step = min(count, self._end - self._position)
            piece = self._view[self._position : self._position + step]
            self._position += step
            count -= step
            yield piece

    def skip(self, count: int) -> None:
        """Pass over so many bytes. Raises LayerInvalid: fewer are left."""
        while True:
            have = self._end - self._position
            if count <= have:
                self._position += count
                return
            count -= have
            if self._made and count >= BUFFER_BYTES:
                self._done_with_buffer()
                self._made.skip(count)
                self.total += count
                self._source.byte_count += count
                return
            if not self.fill():
                raise self.truncated()

    def truncated(self) -> LayerInvalid:
        """What to raise when the tar ends too early."""
        return LayerInvalid(
            f"the tar is truncated after {self.total} bytes",
            where=self._where,
            do="Push the image again, or fetch the layer from another place",
        )

    def note(self, size: int, blocks: bytes) -> None:
        """An entry begins: its headers were taken, its content of ``size`` bytes comes next."""
        if self._writer:
            self._entries.append((self.total - self._end + self._position, size, blocks))

    def archive_ended(self) -> None:
        """The second zero block was taken."""
        self.archive_end = self.offset
        if self._decompressor.spans:
            self._decompressor.spans.archive_ended(self.offset)

    def finish(self) -> None:
        """Read and hash the rest."""
        while self.fill():
            pass
        self._buffers.finish()
        self._decompressor.finish()

    def write(self) -> None:
        """After :meth:`finish`, and when the digests are right: the record is whole."""
        digest, diff_id = self.digest, self.diff_id
        if self._writer and digest and diff_id:
            self._writer.finish(
                self._decompressor.spans,
                digest=digest,
                size=self.byte_count,
                diff_id=diff_id,
                tar_size=self.total,
                archive_end=self.total if self.archive_end is None else self.archive_end,
                compression=self.compression,
                padding_bytes=self._decompressor.padding_bytes,
                points=self._points,
            )

    def _done_with_buffer(self) -> None:
        if self._end:
            view, first = self._view[: self._end], self.total - self._end
            self._buffers.work(self._hash, view, first, self._entries, index=self._index)
            self._entries = []
            self._position = self._end = 0

    def _hash(self, view: memoryview, first: int, entries: list[_Begun]) -> None:
        if self._hasher is not None:
            self._hasher.update(view)
        if self._files:
            self._files.feed(view, first, entries)


def _hasher(digest: Digest | None) -> Any:
    """sha256 where no digest asks for another algorithm."""
    return digest.hasher() if digest else hashlib.sha256()


def _digest(hasher: Any) -> Digest | None:
    return Digest(f"{hasher.name}:{hasher.hexdigest()}") if hasher is not None else None


_Filled = tuple[memoryview, int, int, int]
"""A buffer, how many bytes it has, which one it is, and bytes of the layer as stored that were read by then."""

_Begun = tuple[int, int, bytes]
"""position, size and blocks of a RawEntry whose content is not hashed yet."""


_BYTECODE = b".pyc"
"""In the headers of what is hashed a second time, without what installations of a module differ in."""


class _Crc:
    """CRC-32, and no hash: a listing has none (sha256 of the files takes a fifth of such a pass)."""

    def __init__(self, content: memoryview | bytes = b"") -> None:
        self.crc = crc32(content)

    def update(self, content: memoryview) -> None:
        self.crc = crc32(content, self.crc)

    def digest(self) -> bytes:
        return b""


class _CrcAndHash(_Crc):
    """CRC-32 and sha256."""

    def __init__(self, content: memoryview | bytes = b"") -> None:
        super().__init__(content)
        self._sha256 = hashlib.sha256(content)

    def update(self, content: memoryview) -> None:
        super().update(content)
        self._sha256.update(content)

    def digest(self) -> bytes:
        return self._sha256.digest()


class _FileHashes:
    """Gives every entry what its content hashes to, and hands it on to the record."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._entry: _Begun | None = None
        self._bytecode: _BytecodeHash | None = None
        self._make = _Crc if writer.listing else _CrcAndHash
        self._hasher = self._make()

    def feed(self, view: memoryview, first: int, entries: list[_Begun]) -> None:
        """Bytes of the tar from offset ``first`` on, and the entries whose headers end in them."""
        if self._entry:
            self._go_on(view, first, self._entry)
        end, add, make, hashed = first + len(view), self._writer.add, self._make, not self._writer.listing
        for entry in entries:
            position, size, blocks = entry
            if not size:
                add(RawEntry(position, 0, blocks, b""))
            elif position + size <= end and not (hashed and _BYTECODE in blocks):
                begin = position - first
                hasher = make(view[begin : begin + size])
                add(RawEntry(position, size, blocks, hasher.digest(), b"", hasher.crc))
            else:
                self._entry, self._hasher = entry, make()
                self._bytecode = _BytecodeHash() if hashed and _BYTECODE in blocks else None
                self._go_on(view, first, entry)

    def _go_on(self, view: memoryview, first: int, entry: _Begun) -> None:
        position, size, blocks = entry
        stop = position + size - first
        piece = view[max(0, position - first) : stop]
        self._hasher.update(piece)
        if self._bytecode:
            self._bytecode.feed(piece)
        if stop <= len(view):
            bytecode = self._bytecode.told() if self._bytecode else b""
            self._writer.add(RawEntry(position, size, blocks, self._hasher.digest(), bytecode, self._hasher.crc))
            self._entry = None


class _BytecodeHash:
    """``RawEntry.bytecode`` of one file."""

    def __init__(self) -> None:
        self._head = b""
        self._hasher = hashlib.sha256()

    def feed(self, piece: memoryview) -> None:
        missing = BYTECODE_HEAD_BYTES - len(self._head)
        if missing:
            self._head += piece[:missing]
            if len(self._head) == BYTECODE_HEAD_BYTES:
                self._hasher.update(self._head[:BYTECODE_MAGIC_BYTES])
        self._hasher.update(piece[missing:])

    def told(self) -> bytes:
        """Nothing of a file that is too short to be a module."""
        return self._head + self._hasher.digest() if len(self._head) == BYTECODE_HEAD_BYTES else b""
