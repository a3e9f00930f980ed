"""What of a layer can be fetched and verified by itself: spans of a ztoc, chunks of eStargz, or only the whole.

Each knows where its bytes are in the blob, where they belong in the tar, and how they are held against a digest.
Nothing is fetched here.
"""

from __future__ import annotations

import hashlib
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.decompress import Decompressor, Source
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Readable
from registry_pipelines.stream.estargz_files import MAX_INNER_BYTES
from registry_pipelines.stream.estargz_stream import MemberStream
from registry_pipelines.stream.spans import MEMORY_BYTES, READ_BYTES, keep_verified, span_content
from registry_pipelines.stream.ztoc import Spans


class Pieces(Protocol):
    """A layer in pieces, numbered in the order of the tar."""

    table: Digest | None
    """Of what is believed to say which bytes they are; None where that is the layer's own digest."""
    tar_size: int
    """Bytes of the tar, as positions go."""
    by_range: bool
    """Whether pieces are ranges of the blob."""

    def between(self, start: int, stop: int) -> range:
        """Those that have bytes from ``start`` to ``stop`` of the tar."""
        ...

    def unpacked(self, piece: int) -> tuple[int, int]:
        """Its bytes of the tar, from and to."""
        ...

    def stored(self, piece: int) -> tuple[int, int]:
        """Its bytes of the blob, from and to. The next piece begins there, or one byte before."""
        ...

    def content(self, piece: int, reader: Readable, folder: Path) -> Iterator[tuple[int, bytes]]:
        """Positions and bytes of the tar, verified. reader: gives exactly the stored bytes. folder: for what is too
        long for memory until its digest is known. Raises ContentError, and what the reader raises."""
        ...


class SpanPieces:
    """Spans, as a ztoc or the record of a layer has them."""

    by_range = True

    def __init__(self, spans: Spans, *, table: Digest | None, where: str = "") -> None:
        """table: digest of the ztoc; None for spans of a record, which was made when the layer's digest was verified.
        Raises IndexInvalid: the first span does not begin where the layer does."""
        self.table = table
        self.tar_size = spans.archive_end
        self._spans, self._where = spans, where
        self._positions = [point.position for point in spans.points]
        if self._positions[:1] != [0]:
            raise IndexInvalid(
                "the SOCI index of a layer does not fit it: its first point does not stand at the layer's begin",
                where=where,
                do="Make the index again",
            )

    def between(self, start: int, stop: int) -> range:
        """See Pieces."""
        return range(bisect_right(self._positions, start) - 1, bisect_left(self._positions, stop))

    def unpacked(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        return self._spans.unpacked(piece)

    def stored(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        return self._spans.stored(piece)

    def content(self, piece: int, reader: Readable, folder: Path) -> Iterator[tuple[int, bytes]]:
        """See Pieces."""
        start, stop = self._spans.stored(piece)
        position, _ = self._spans.unpacked(piece)
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder)) as kept:
            digest = self._spans.digests[piece]
            keep_verified(reader, stop - start, digest, kept, what=f"span {piece}", where=self._where)
            kept.seek(0)
            for content in span_content(self._spans, piece, kept, where=self._where):
                yield position, content
                position += len(content)


class WholeLayer:
    """A layer that has no parts: it is fetched as one, without ranges, and held against its own digest."""

    table: Digest | None = None
    by_range = False

    def __init__(self, layer: Descriptor, tar_size: int, *, where: str = "") -> None:
        self.tar_size = tar_size
        self._layer, self._where = layer, where

    def between(self, start: int, stop: int) -> range:
        """See Pieces."""
        return range(1)

    def unpacked(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        return 0, self.tar_size

    def stored(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        return 0, self._layer.size

    def content(self, piece: int, reader: Readable, folder: Path) -> Iterator[tuple[int, bytes]]:
        """See Pieces."""
        position, buffer = 0, memoryview(bytearray(READ_BYTES))
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder)) as kept:
            keep_verified(reader, self._layer.size, self._layer.digest, kept, what="the layer", where=self._where)
            kept.seek(0)
            decompressor = Decompressor(Source(kept, None), where=self._where)
            while position < self.tar_size and (count := decompressor.readinto(buffer)):
                content = bytes(buffer[: min(count, self.tar_size - position)])
                yield position, content
                position += len(content)
        if position < self.tar_size:
            raise IndexInvalid(f"the layer's tar ends {self.tar_size - position} bytes early", where=self._where)


class Chunk(NamedTuple):
    """Part of a file of an eStargz layer. Its table says nothing of the tar, so files are laid out in their order from
    position 0 on, each at a multiple of 512."""

    position: int
    """Of its first byte, in that layout."""
    size: int
    start: int
    """Where its gzip member begins in the blob."""
    stop: int
    """Where the next content of the blob begins, or the table."""
    inner: int
    """Uncompressed bytes of the member before the content."""
    digest: Digest
    """Of the content."""


class ChunkPieces:
    """Chunks of an eStargz layer; those of one gzip member are one piece."""

    by_range = True

    def __init__(self, chunks: Iterable[Chunk], tar_size: int, *, table: Digest, where: str = "") -> None:
        """chunks: in the order of their positions, and so of the blob. tar_size: of the layout. table: digest of the
        table of contents. Raises IndexInvalid: they overlap, or members have no bytes."""
        self.table: Digest | None = table
        self.tar_size = tar_size
        self._where = where
        self._members: list[list[Chunk]] = []
        end = 0
        for chunk in chunks:
            if chunk.position < end or chunk.size < 1 or not 0 <= chunk.start < chunk.stop:
                raise self._invalid("chunks overlap or lie outside of it")
            end = chunk.position + chunk.size
            if self._members and self._members[-1][0].start == chunk.start:
                self._members[-1].append(chunk)
            else:
                self._members.append([chunk])
        if end > tar_size:
            raise self._invalid("chunks lie outside of it")
        self._positions = [member[0].position for member in self._members]

    def between(self, start: int, stop: int) -> range:
        """See Pieces."""
        return range(max(bisect_right(self._positions, start) - 1, 0), bisect_left(self._positions, stop))

    def unpacked(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        last = self._members[piece][-1]
        return self._positions[piece], last.position + last.size + self._padding(piece, last)

    def stored(self, piece: int) -> tuple[int, int]:
        """See Pieces."""
        return self._members[piece][0].start, self._members[piece][0].stop

    def content(self, piece: int, reader: Readable, folder: Path) -> Iterator[tuple[int, bytes]]:
        """See Pieces. Behind a file come zeros up to the end of its block."""
        member = self._members[piece]
        stream = MemberStream(reader, member[0].start, where=self._where)
        for chunk, following in zip(member, [*member[1:], None], strict=True):
            skipped = chunk.inner - stream.position
            if not 0 <= skipped <= MAX_INNER_BYTES:
                raise self._invalid("chunks of one gzip member do not follow each other")
            stream.exactly(skipped)
            yield from self._verified(chunk, stream, folder)
            end = chunk.position + chunk.size
            padding = -end % BLOCK_BYTES if following else self._padding(piece, chunk)
            if padding and (following is None or following.position >= end + padding):
                yield end, bytes(padding)

    def _padding(self, piece: int, last: Chunk) -> int:
        end = last.position + last.size
        padding = -end % BLOCK_BYTES
        following = self._positions[piece + 1] if piece + 1 < len(self._positions) else end + padding
        return padding if following >= end + padding else 0

    def _verified(self, chunk: Chunk, stream: MemberStream, folder: Path) -> Iterator[tuple[int, bytes]]:
        hasher: Any = hashlib.new(chunk.digest.algorithm)
        buffer, left, position = memoryview(bytearray(READ_BYTES)), chunk.size, chunk.position
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder)) as kept:
            while left:
                view = buffer[:left]
                stream.fill(view)
                hasher.update(view)
                kept.write(view)
                left -= len(view)
            if f"{chunk.digest.algorithm}:{hasher.hexdigest()}" != chunk.digest:
                raise self._invalid("a chunk has another digest")
            kept.seek(0)
            while content := kept.read(READ_BYTES):
                yield position, content
                position += len(content)

    def _invalid(self, why: str) -> IndexInvalid:
        return IndexInvalid(
            f"the eStargz table of a layer does not fit it: {why}", where=self._where, do="Convert the image again"
        )


__all__ = ["Chunk", "ChunkPieces", "Pieces", "SpanPieces", "WholeLayer"]
