"""Files of an eStargz layer, read as nodes read them: the gzip members that have them, and nothing else of the blob."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.estargz_stream import MemberStream
from registry_pipelines.stream.estargz_toc import Toc, TocEntry
from registry_pipelines.stream.ranges import Ranges

MAX_INNER_BYTES = 64 * 1024 * 1024
"""Of a member before the content; writers that pack several files into one take 50 KB to some MB."""


class Chunk(NamedTuple):
    """Part of a file."""

    row: TocEntry
    stop: int
    """Where the next content of the blob begins."""


@dataclass
class TocFile:
    """What the table has of one name."""

    entry: TocEntry
    chunks: list[Chunk] = field(default_factory=list)


def find_files(toc: Toc, names: Iterable[str]) -> dict[str, TocFile]:
    """Some entries of the table, by their names as they stand in it; those that are not there are left out. Raises
    IndexInvalid: the table cannot be read."""
    wanted = set(names)
    found: dict[str, TocFile] = {}
    open_chunks: list[tuple[TocFile, TocEntry]] = []  # of one member; several where others pack them
    for row in toc:
        file = found.get(row.name) if row.type == "chunk" else None
        if row.name in wanted and file is None:
            file = found[row.name] = TocFile(row)
        if row.has_content:
            if open_chunks and open_chunks[0][1].offset != row.offset:
                _close(open_chunks, row.offset)
            if file:
                open_chunks.append((file, row))
    _close(open_chunks, toc.offset)
    return found


def _close(open_chunks: list[tuple[TocFile, TocEntry]], stop: int) -> None:
    for file, row in open_chunks:
        file.chunks.append(Chunk(row, stop))
    open_chunks.clear()


def read_file(ranges: Ranges, file: TocFile, *, limit: int, where: str = "") -> bytes:
    """All content of a file. Raises IndexInvalid: it has more than ``limit`` bytes, the blob is damaged, a chunk or the
    whole has another digest than the table says; what ``ranges`` raises. Hard links are not followed."""
    entry, content = file.entry, bytearray()
    if entry.size > limit:
        raise _wrong(entry, f"has {entry.size} bytes, at most {limit} are read", where)
    for row, stop in file.chunks:
        size = row.chunk_size or entry.size - len(content)
        if row.chunk_offset != len(content) or not 0 < size <= entry.size - len(content):
            raise _wrong(entry, "has chunks that do not follow each other", where)
        if not 0 <= row.offset < stop or not 0 <= row.inner_offset <= MAX_INNER_BYTES:
            raise _wrong(entry, f"has a chunk at byte {row.offset}, before what ends at {stop}", where)
        with ranges(row.offset, stop) as stream:
            members = MemberStream(stream, row.offset, where=where)
            members.exactly(row.inner_offset)
            chunk = members.exactly(size)
        if Digest.of(chunk) != row.chunk_digest:
            raise _wrong(entry, "has a chunk with another digest", where)
        content += chunk
    if len(content) != entry.size or (entry.digest and Digest.of(memoryview(content)) != entry.digest):
        raise _wrong(entry, "has another digest", where)
    return bytes(content)


def _wrong(entry: TocEntry, what: str, where: str) -> IndexInvalid:
    return IndexInvalid(f"the eStargz layer cannot be read: {entry.name[:200]!r} {what}", where=where)
