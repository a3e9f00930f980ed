"""The table of one layer that SOCI calls ztoc: its files, and points from which the gzip stream can be inflated.

Format: ``ztoc.fbs`` and ``zinfo.fbs`` of soci-snapshotter 0.15.0 (a FlatBuffer without identifier; version 0.9). What
is written has the official builder's exact bytes. Two things are said otherwise than it says them, because a node would
refuse them: no two spans begin at one place, and nothing but a regular file has a size.
"""

from __future__ import annotations

import io
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.errors import DigestInvalid, IndexInvalid, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.checkpoints import WINDOW_BYTES, Checkpoint
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.stream.flatbuffer import Builder, Reader, Table, layout
from registry_pipelines.stream.toc import KINDS, FileMetadata

VERSION = b"0.9"
TOOL = "AWS SOCI CLI v0.2"
"""What the official tool calls itself from v0.10.0 on; indexes of one layer are one blob, whoever made them."""

GZIP, UNCOMPRESSED = "gzip", "uncompressed"
_ALGORITHMS = {1: GZIP, 2: UNCOMPRESSED}
_RECORDED = {"gzip": GZIP, "plain": UNCOMPRESSED}
_CODES = {name: code for code, name in _ALGORITHMS.items()}
_POINTS_HEAD = struct.Struct("<iq")
_POINT = struct.Struct("<qqB")
POINT_BYTES = _POINT.size + WINDOW_BYTES
_TAR_VERSION = 2
_GZIP_HEAD_BYTES = 10
"""Where the first block begins behind a gzip header without fields; v1 points imply it."""
MAX_SLICES = 1 << 24
"""Of a plain tar; a table by others that cuts finer is not read."""
_KINDS = frozenset(KINDS.values())
_FILE_SLOTS = tuple(range(14))
_REMEMBERED = 1 << 14
BATCH = 1 << 14
"""Entries in memory at once, some 10 MB."""


@dataclass(frozen=True)
class Spans:
    """How a layer's bytes are cut. Span ``i`` goes from point ``i`` to the next, or to the end."""

    algorithm: str
    """``gzip`` or ``uncompressed``."""
    size: int
    """Bytes of the blob."""
    archive_end: int
    """Bytes of the tar to the end of its second zero block, without the padding behind."""
    span_bytes: int
    """Uncompressed bytes that were asked for between two points."""
    points: tuple[Checkpoint, ...]
    """Of a plain tar, where its slices begin."""
    digests: tuple[Digest, ...]
    """sha256 of each span's compressed bytes; spans share a byte where the second begins within one."""
    windows: Any
    """32 KiB of the tar before each point, one after the other; of a plain tar nothing."""

    def window(self, span: int) -> bytes:
        """The dictionary with which the span is inflated."""
        return bytes(self.windows[span * WINDOW_BYTES : (span + 1) * WINDOW_BYTES])

    def stored(self, span: int) -> tuple[int, int]:
        """The span's bytes of the blob, from and to."""
        end = self.points[span + 1].start if span + 1 < len(self.points) else self.size
        return self.points[span].first_byte, end

    def unpacked(self, span: int) -> tuple[int, int]:
        """The span's bytes of the tar, from and to."""
        end = self.points[span + 1].position if span + 1 < len(self.points) else self.archive_end
        return self.points[span].position, max(end, self.points[span].position)


def record_spans(record: LayerRecord) -> Spans:
    """The spans of a layer that was read. Raises LayerInvalid for what SOCI has no spans of: zstd, and zero bytes
    between or behind gzip members, at which a node stops."""
    if record.compression not in _RECORDED:
        raise LayerInvalid(f"the layer cannot be indexed: SOCI does not know {record.compression}", where=record.digest)
    if record.padding_bytes:
        raise LayerInvalid(
            "the layer cannot be indexed: there are zero bytes between or behind its gzip members",
            where=record.digest,
            do="Nodes fetch this layer whole; compress it again to have it streamed",
        )
    return Spans(
        algorithm=_RECORDED[record.compression],
        size=record.size,
        archive_end=record.archive_end,
        span_bytes=record.span_bytes,
        points=record.checkpoints or _slices(record.size, record.span_bytes),
        digests=record.span_digests,
        windows=record.windows,
    )


def _slices(size: int, span_bytes: int) -> tuple[Checkpoint, ...]:
    return tuple(Checkpoint(start, start, 0) for start in range(0, size, span_bytes))


def write_ztoc(target: Path, files: Iterable[FileMetadata], spans: Spans, *, tool: str = TOOL) -> tuple[Digest, int]:
    """Write a layer's ztoc to a file; what is in memory does not grow with it, but for 60 bytes a tar entry.

    files: every tar entry in the tar's order. Returns its digest and size in bytes. Raises IndexInvalid: over 2 GiB,
    no spans; DiskFull, LocalError.
    """
    if not spans.points:
        raise IndexInvalid("the layer holds no bytes, so no index can be made")
    with local_errors(target), Builder(target.parent) as builder, target.open("wb") as out:
        return builder.finish(_write_root(builder, _last_first(files, target.parent), spans, tool.encode()), out)


def _write_root(builder: Builder, batches: Iterable[list[Any]], spans: Spans, tool: bytes) -> int:
    version, name = builder.string(VERSION), builder.string(tool)
    toc = builder.table([(0, 4, builder.offsets(_write_files(builder, batches)))], references=(0,))
    blob = _write_points(builder, spans) if spans.algorithm == GZIP else _write_slices(builder, spans)
    digests = builder.offsets([builder.string(digest.encode()) for digest in spans.digests])
    algorithm = _CODES[spans.algorithm] if spans.algorithm != GZIP else 0
    info = [(1, 4, len(spans.points) - 1), (2, 4, digests), (3, 4, blob), (0, 1, algorithm)]
    compression = builder.table(info, references=(2, 3))
    root = [(0, 4, version), (1, 4, name), (4, 4, toc), (2, 8, spans.size), (3, 8, spans.archive_end)]
    return builder.table([*root, (5, 4, compression)], references=(0, 1, 4, 5))


def _write_files(builder: Builder, batches: Iterable[list[Any]]) -> array[int]:
    """All entries, the last one first, as the format's order of bytes wants it."""
    places = array("I")
    writer = _FileWriter(builder)
    for batch in batches:
        places.extend(writer.write(each) for each in reversed(batch))
    places.reverse()
    return places


def _last_first(files: Iterable[FileMetadata], folder: Path) -> Iterator[list[Any]]:
    """Batches of entries, the last batch first; what is not the last waits in a file of the folder."""
    source = iter(files)
    batch: list[Any] = list(islice(source, BATCH))
    ends = [0]
    with tempfile.TemporaryFile(dir=folder) as waiting:
        while following := list(islice(source, BATCH)):
            ends.append(ends[-1] + waiting.write(msgspec.msgpack.encode(batch)))
            batch = following
        yield batch
        for start, end in reversed(list(pairwise(ends))):
            waiting.seek(start)
            yield msgspec.msgpack.decode(waiting.read(end - start))


_EMPTY_VECTOR = bytes(4)


def _padded(raw: bytes) -> bytes:
    """The bytes of a string that ends at a multiple of 4, as all do here."""
    return b"%b%b%b" % (struct.pack("<I", len(raw)), raw, bytes(4 - len(raw) % 4))


class _FileWriter:
    """Writes entries. Most of an entry's strings are its neighbour's, so their bytes are made once."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._texts: dict[tuple[bytes, ...], tuple[bytes, tuple[int, ...]]] = {}

    def write(self, entry: FileMetadata) -> int:
        builder = self._builder
        name, kind, position, size, link, mode, uid, gid, user, group, modified, major, minor, records = entry
        first = _padded(name)
        name_at = builder.used + len(first)
        raw, (kind_at, link_at, user_at, group_at, time_at) = self._strings((kind, link, user, group, modified))
        builder.put(raw + first if records else _EMPTY_VECTOR + raw + first)
        records_at = self._records(records) if records else builder.used
        sizes = (
            *(4, 4, 8 if position else 0, 8 if size else 0, 4, 8 if mode else 0, 4 if uid else 0),
            *(4 if gid else 0, 4, 4, 4, 8 if major else 0, 8 if minor else 0, 4),
        )
        used = builder.used
        form = layout(_FILE_SLOTS, sizes, used % 8)
        ends = form.ends
        gap = used - name_at
        values = (
            *(ends[0] + gap, ends[1] + gap - kind_at, position, size, ends[4] + gap - link_at, mode, uid, gid),
            *(ends[8] + gap - user_at, ends[9] + gap - group_at, ends[10] + gap - time_at, major, minor),
            ends[13] + used - records_at,
        )
        return builder.place(form, values)

    def _strings(self, texts: tuple[bytes, ...]) -> tuple[bytes, tuple[int, ...]]:
        """The bytes of strings that are written one after the other, and how far below the name each lies."""
        known = self._texts.get(texts)
        if known is None:
            parts = [_padded(raw) for raw in texts]
            below, places = 0, []
            for part in parts:
                below += len(part)
                places.append(below)
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            known = self._texts[texts] = b"".join(reversed(parts)), tuple(places)
        return known

    def _records(self, records: tuple[tuple[bytes, bytes], ...]) -> int:
        builder = self._builder
        places = []
        for key, value in records:
            pair = [(0, 4, builder.string(key)), (1, 4, builder.string(value))]
            places.append(builder.table(pair, references=(0, 1)))
        return builder.offsets(places)


def _write_points(builder: Builder, spans: Spans) -> int:
    count = len(spans.points)
    last_first = range(count - 1, -1, -1)
    points = (b"%b%b" % (_POINT.pack(*spans.points[span]), spans.window(span)) for span in last_first)
    head = _POINTS_HEAD.pack(count, spans.span_bytes)
    return _write_bytes(builder, len(head) + POINT_BYTES * count, chain(points, [head]))


def _write_slices(builder: Builder, spans: Spans) -> int:
    """The points of a plain tar: only how large each slice is."""
    out = io.BytesIO()
    with Builder() as inner:
        inner.finish(inner.table([(0, 4, _TAR_VERSION), (1, 8, spans.span_bytes), (2, 8, spans.size)]), out)
    return _write_bytes(builder, out.tell(), [out.getvalue()])


def _write_bytes(builder: Builder, count: int, pieces: Iterable[bytes]) -> int:
    """A vector of bytes, its last piece first."""
    builder.align(4, count)
    for piece in pieces:
        builder.put(piece)
    builder.put(struct.pack("<I", count))
    return builder.used


class Ztoc:
    """A ztoc that was read: its spans are checked, its entries are read when they are asked for."""

    def __init__(self, table: Table, spans: Spans, *, where: str) -> None:
        self.spans = spans
        self.where = where
        self.tool = table.text(1).decode("utf-8", "replace")
        """Who made it, as it says itself."""
        self._toc = table.table(4)

    def __iter__(self) -> Iterator[FileMetadata]:
        """Every tar entry as it is listed. Raises IndexInvalid."""
        for each in self._toc.tables(0):
            yield _file(each, self.spans.archive_end, self.where)

    def header_starts(self) -> array[int]:
        """For each entry as listed, where its header blocks begin: behind the payload before it (the format does not
        say it, nodes reckon so). Raises IndexInvalid where entries overlap."""
        places, ends = array("q"), array("q")
        for each in self:
            places.append(each.position)
            ends.append(each.position + each.size + -each.size % BLOCK_BYTES)
        starts, following = array("q", bytes(8 * len(places))), 0
        for index in sorted(range(len(places)), key=places.__getitem__):
            if following > places[index]:
                raise _invalid("two entries overlap", self.where)
            starts[index], following = following, ends[index]
        return starts


def read_ztoc(raw: Any, *, where: str = "") -> Ztoc:
    """Read a ztoc by anybody. raw: its bytes, or a map of its file; it must live as long as the result.

    Raises IndexInvalid: an offset that leads out of it, points that do not grow, counts that disagree, what a node
    refuses. Not checked here: that it fits the layer (its digests do, when spans are read) and that entries do not
    overlap (:meth:`Ztoc.header_starts`). v1 points, whose first is implied, are read too.
    """
    reader = Reader(raw, where=where)
    root = reader.root()
    info = root.table(5)
    algorithm = _ALGORITHMS.get(info.number(0, "<b", 1, default=1))
    if algorithm is None:
        raise _invalid("its layer is compressed in an unknown way", where)
    size, archive_end = root.number(2), root.number(3)
    if size < 1 or archive_end < 0:
        raise _invalid("its layer has no size", where)
    start, count = info.vector(3, 1)
    content = memoryview(raw)[start : start + count]
    read = _read_points if algorithm == GZIP else _read_slices
    span_bytes, points, windows = read(content, size, where)
    spans = Spans(algorithm, size, archive_end, span_bytes, points, _digests(info, len(points), where), windows)
    _check_spans(spans, where)
    if info.number(1, "<i", 4) != len(points) - 1:
        raise _invalid("it counts its spans in two ways", where)
    return Ztoc(root, spans, where=where)


HEAD_BYTES = 4096
"""Of a ztoc, for :func:`tar_bytes`: builders write the root table first."""


def tar_bytes(head: bytes, *, where: str = "") -> int:
    """What a layer unpacks to, without the padding behind its tar, by the first bytes of its ztoc. Nothing else is
    read, so nothing is known of the rest. Raises IndexInvalid, also where its writer put the numbers further behind."""
    root = Reader(head, where=where).root()
    if root.number(2) < 1 or (size := root.number(3)) < 0:
        raise _invalid("its layer has no size", where)
    return size


def _invalid(why: str, where: str) -> IndexInvalid:
    return IndexInvalid(f"the SOCI index of a layer is damaged: {why}", where=where, do="Make the index again")


def _digests(info: Table, count: int, where: str) -> tuple[Digest, ...]:
    if info.vector(2)[1] != count:
        raise _invalid("it has not one digest for each span", where)
    try:
        return tuple(Digest.parse(text.decode("ascii")) for text in info.texts(2))
    except (DigestInvalid, UnicodeDecodeError) as error:
        raise _invalid("a span's digest is none", where) from error


def _read_points(raw: memoryview, size: int, where: str) -> tuple[int, tuple[Checkpoint, ...], Any]:
    if len(raw) < _POINTS_HEAD.size:
        raise _invalid("it has no points", where)
    count, span_bytes = _POINTS_HEAD.unpack_from(raw)
    stored, rest = divmod(len(raw) - _POINTS_HEAD.size, POINT_BYTES)
    if rest or count < 1 or stored not in (count, count - 1):
        raise _invalid("its points are cut", where)
    found = [_POINT.unpack_from(raw, _POINTS_HEAD.size + POINT_BYTES * each) for each in range(stored)]
    points = tuple(Checkpoint(start, position, bits) for start, position, bits in found)
    if stored < count:
        points = (Checkpoint(_GZIP_HEAD_BYTES, 0, 0), *points)
    return span_bytes, points, _Windows(raw[_POINTS_HEAD.size :], count - stored)


class _Windows:
    """The windows as they lie between the points, cut out when they are asked for."""

    def __init__(self, raw: memoryview, implied: int) -> None:
        self._raw, self._implied = raw, implied

    def __getitem__(self, part: slice) -> bytes:
        span = part.start // WINDOW_BYTES - self._implied
        start = span * POINT_BYTES + _POINT.size
        return bytes(self._raw[start : start + WINDOW_BYTES]) if span >= 0 else bytes(WINDOW_BYTES)


def _read_slices(raw: memoryview, size: int, where: str) -> tuple[int, tuple[Checkpoint, ...], bytes]:
    table = Reader(raw, where=where).root()
    span_bytes = table.number(1)
    if table.number(2) != size or span_bytes < 1 or size // span_bytes > MAX_SLICES:
        raise _invalid("its slices do not fit the layer", where)
    return span_bytes, _slices(size, span_bytes), b""


def _check_spans(spans: Spans, where: str) -> None:
    """What a node checks before it mounts: every span but the last one holds bytes, and lies in the blob."""
    for span, point in enumerate(spans.points):
        start, end = spans.stored(span)
        if point.bits > 7 or start < 0 or point.position < 0 or end > spans.size:
            raise _invalid("a point lies outside of the layer", where)
        last = span + 1 == len(spans.points)
        if not last and (start >= end or point.position >= spans.points[span + 1].position):
            raise _invalid("its points do not grow", where)
        if last and start > end:
            raise _invalid("a point lies outside of the layer", where)


def _file(table: Table, archive_end: int, where: str) -> FileMetadata:
    found = FileMetadata(
        *(table.text(0), table.text(1), table.number(2), table.number(3), table.text(4), table.number(5)),
        *(table.number(6, "<I", 4), table.number(7, "<I", 4), table.text(8), table.text(9), table.text(10)),
        *(table.number(11), table.number(12)),
        tuple((each.text(0), each.text(1)) for each in table.tables(13)),
    )
    if found.kind not in _KINDS:
        raise _invalid("an entry is of an unknown type", where)
    if found.position < 0 or found.size < 0 or found.position + found.size > archive_end:
        raise _invalid("an entry lies outside of the layer", where)
    return found


__all__ = [
    "GZIP",
    "HEAD_BYTES",
    "TOOL",
    "UNCOMPRESSED",
    "VERSION",
    "Spans",
    "Ztoc",
    "read_ztoc",
    "record_spans",
    "tar_bytes",
    "write_ztoc",
]
