"""Files of a layer, read through the spans of its ztoc or its record: only those that hold them are fetched, each held
against its digest.

zlib modules of Python cannot begin within a byte (``inflatePrime``). What stands before the first whole byte is given
as empty deflate blocks that end where the block begins (RFC 1951, sections 3.2.6 and 3.2.7): a fixed one has 10 bits,
a dynamic one of our making 91, so every position modulo 8 can be reached.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any

from zlib_ng import zlib_ng

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Readable
from registry_pipelines.stream.ranges import Ranges
from registry_pipelines.stream.toc import FileMetadata, file_metadata
from registry_pipelines.stream.ztoc import GZIP, Spans

KEPT_BYTES = 32 << 20
"""Of inflated content: files lie one behind the other, and most share a span with the one before. Larger spans are
inflated anew for each read."""

MEMORY_BYTES = 8 << 20
"""Of a span's stored bytes; more of them wait in a file until their digest is known."""

MAX_HEADER_BYTES = 4 << 20
"""Between two payloads: two extensions of 1 MiB at most, and a header."""

MAX_GZIP_HEADER_BYTES = 1 << 20
"""Before the first block: a name and a comment have no limit in RFC 1952."""

READ_BYTES = 1 << 18
_TRAILER_BYTES = 8
_ERRORS: Any = (zlib.error, zlib_ng.error)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class LayerFiles:
    """Reads files of one layer. Not for several threads."""

    def __init__(self, spans: Spans, ranges: Ranges, *, where: str = "") -> None:
        self._spans = spans
        self._ranges = ranges
        self._where = where
        self._kept: tuple[int, bytes] = (-1, b"")
        self._header_is_right = self._spans.algorithm != GZIP
        self._positions = [point.position for point in self._spans.points]

    def content(self, entry: FileMetadata, *, limit: int) -> bytes:
        """All bytes of a file. Raises IndexInvalid where it has more than ``limit``; see :meth:`pieces`."""
        if entry.size > limit:
            raise IndexInvalid(
                f"{entry.name.decode('utf-8', 'replace')}: has {entry.size} bytes, at most {limit} are read",
                where=self._where,
            )
        return b"".join(self.pieces(entry.position, entry.size))

    def pieces(self, position: int, size: int) -> Iterator[bytes]:
        """Bytes of the tar, in the pieces in which they come; none is given before its whole span was verified.

        Raises IndexInvalid: a span has another digest, or is no part of this layer; the RegistryError family.
        """
        if not self._header_is_right:
            self._check_gzip_header()
        end = position + size
        if position < 0 or end > self._spans.archive_end:
            raise self._invalid("what was asked for lies outside of the layer")
        span = max(bisect_right(self._positions, position) - 1, 0)
        while position < end:
            first, last = self._spans.unpacked(span)
            if position < first:
                raise self._invalid("its first point does not stand at the layer's begin")
            for piece in self._span_from(span, position - first, min(end, last) - position):
                position += len(piece)
                yield piece
            span += 1

    def check_entry(self, entry: FileMetadata, header_start: int) -> None:
        """That the layer's own tar header says what the ztoc does, as a node does when a file is first read: all but
        the names of the owners. header_start: see :meth:`Ztoc.header_starts`. Raises IndexInvalid, RegistryError."""
        size = entry.position - header_start
        if size % 512 or not 0 < size <= MAX_HEADER_BYTES:
            raise self._invalid("an entry has no room for its tar header")
        blocks = b"".join(self.pieces(header_start, size))
        found = file_metadata(entry.position, entry.size, blocks, where=self._where)
        same_time = _instant(found.modified) == _instant(entry.modified)
        if not same_time or found != entry._replace(user=found.user, group=found.group, modified=found.modified):
            raise self._invalid(
                f"it says other things of {entry.name[:200].decode('utf-8', 'replace')!r} than the layer"
            )

    def _span_from(self, span: int, skip: int, size: int) -> Iterator[bytes]:
        """``size`` bytes of a span behind its first ``skip``."""
        first, last = self._spans.unpacked(span)
        if last - first > KEPT_BYTES:
            yield from _part(self._inflated(span), skip, size)
            return
        if self._kept[0] != span:
            self._kept = (span, b"".join(self._inflated(span)))
        yield self._kept[1][skip : skip + size]

    def _inflated(self, span: int) -> Iterator[bytes]:
        """The content of a span in pieces; verified before the first one."""
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as stored:
            self._fetch(span, stored)
            stored.seek(0)
            yield from span_content(self._spans, span, stored, where=self._where)

    def _fetch(self, span: int, target: IO[bytes]) -> None:
        start, stop = self._spans.stored(span)
        if start == stop:
            keep_verified(None, 0, self._spans.digests[span], target, what=f"span {span}", where=self._where)
            return
        with self._ranges(start, stop) as reader:
            keep_verified(
                reader, stop - start, self._spans.digests[span], target, what=f"span {span}", where=self._where
            )

    def _check_gzip_header(self) -> None:
        """What stands before the first span is read by nobody else, so it has no digest: nodes look whether it is a
        gzip header, too."""
        size = self._spans.stored(0)[0]
        if not 0 < size <= MAX_GZIP_HEADER_BYTES:
            raise self._invalid("its first point leaves no room for a gzip header")
        head = bytearray(size)
        filled = 0
        with self._ranges(0, size) as reader:
            while filled < size and (count := reader.readinto(memoryview(head)[filled:])):
                filled += count
        try:
            zlib_ng.decompressobj(31).decompress(bytes(head[:filled]))
        except _ERRORS as error:
            raise self._invalid("the layer does not begin as gzip does") from error
        self._header_is_right = True

    def _invalid(self, why: str) -> IndexInvalid:
        return _invalid(why, self._where)


def keep_verified(
    reader: Readable | None, size: int, wanted: Digest, target: IO[bytes], *, what: str, where: str
) -> None:
    """Write ``size`` bytes of a reader to a file, if they have the digest. What is there after an error was not
    verified. reader: None where there are no bytes. Raises IndexInvalid, and what the reader raises."""
    hasher, left, buffer = wanted.hasher(), size, memoryview(bytearray(min(READ_BYTES, size)))
    while left and reader is not None and (count := reader.readinto(buffer[:left])):
        hasher.update(buffer[:count])
        target.write(buffer[:count])
        left -= count
    found = f"{hasher.name}:{hasher.hexdigest()}"
    if left or found != wanted:
        short = f"has {left} bytes less" if left else f"hashes to {found}, the index says {wanted}"
        raise _invalid(f"{what} {short}: the layer is damaged, or the index is of another one", where)


def span_content(spans: Spans, span: int, stored: IO[bytes], *, where: str) -> Iterator[bytes]:
    """The bytes of the tar that a span holds, in pieces. stored: its bytes of the blob, held against its digest before.

    Raises IndexInvalid, after pieces that are right: it is shorter than the index says, or cannot be inflated.
    """
    first, last = spans.unpacked(span)
    left = last - first
    try:
        for piece in _deflated(spans, span, stored) if spans.algorithm == GZIP else _blocks(stored):
            left -= len(piece)
            yield piece[: len(piece) + min(left, 0)]
            if left <= 0:
                return
    except _ERRORS as error:
        raise _invalid(f"span {span} cannot be inflated: {error}", where) from error
    if left:
        raise _invalid(f"span {span} ends {left} bytes early", where)


def _invalid(why: str, where: str) -> IndexInvalid:
    return IndexInvalid(f"the SOCI index of a layer does not fit it: {why}", where=where, do="Make the index again")


def _deflated(spans: Spans, span: int, stored: IO[bytes]) -> Iterator[bytes]:
    """Inflate from a point on, through ends of gzip members."""
    bits = spans.points[span].bits
    raw, inflater = True, zlib_ng.decompressobj(-15, zdict=spans.window(span))
    data = _lead(bits, stored.read(1)[0]) if bits else stored.read(READ_BYTES)
    while data:
        yield inflater.decompress(data, READ_BYTES)
        data = inflater.unconsumed_tail
        if inflater.eof:
            data = inflater.unused_data
            if raw:
                data = (data + stored.read(_TRAILER_BYTES))[_TRAILER_BYTES:]
            raw, inflater = False, zlib_ng.decompressobj(31)
        data = data or stored.read(READ_BYTES)
    yield inflater.flush()


def _blocks(stored: IO[bytes]) -> Iterator[bytes]:
    while piece := stored.read(READ_BYTES):
        yield piece


def _part(pieces: Iterator[bytes], skip: int, size: int) -> Iterator[bytes]:
    """``size`` bytes behind the first ``skip``."""
    for piece in pieces:
        wanted = piece[skip : skip + size]
        skip = max(skip - len(piece), 0)
        size -= len(wanted)
        if wanted:
            yield wanted
        if not size:
            return


def _instant(text: bytes) -> tuple[str, str]:
    """A time in UTC to the second, and its fraction: the official builder writes the time zone it runs in."""
    match = _TIME.fullmatch(text.decode("ascii", "replace"))
    if match is None:
        return text.decode("ascii", "replace"), ""
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return moment.astimezone(UTC).isoformat(), match[2] or ""


def _bits(value: int, count: int) -> str:
    """A number as deflate stores it, its lowest bit first."""
    return "".join(str(value >> index & 1) for index in range(count))


_FIXED = "0" + "10" + "0" * 7
"""Not the last block, fixed codes, end of block: 10 bits."""
_CODE_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
_DYNAMIC = "".join(
    (
        "0" + "01" + "00000" + "00000" + _bits(len(_CODE_ORDER) - 4, 4),
        *(_bits(symbol in (1, 18), 3) for symbol in _CODE_ORDER),
        *("1", _bits(127, 7), "1", _bits(106, 7), "0", "0"),
        *("0", "1"),
    )
)
"""Not the last block, dynamic codes. There are 257 literals and a distance, whose lengths are written with two symbols:
runs of 138 and 117 zeros, then length 1 for the literal 255, the end of the block, and the distance. Then the end of
the block: 91 bits."""


def _lead(bits: int, byte: int) -> bytes:
    """Empty blocks, and behind them the high ``bits`` of a byte, so that a whole number of bytes comes out."""
    blocks = _DYNAMIC if bits % 2 else ""
    blocks += _FIXED * ((-bits - len(blocks)) % 8 // 2)
    value = (byte >> 8 - bits) << len(blocks) | int("0" + blocks[::-1], 2)
    return value.to_bytes((len(blocks) + bits) // 8, "little")


__all__ = ["LayerFiles", "keep_verified", "span_content"]
