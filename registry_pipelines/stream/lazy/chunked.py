"""What an eStargz table says, in the words of a lazy tree: entries with positions, and the chunks that fill them.

The table tells where content lies in the blob and not where in the tar, so files get positions of their own: in the
order of the table, each at a multiple of 512, from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from registry_pipelines.errors import DigestInvalid, IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.stream.estargz_toc import RESERVED, Toc, TocEntry
from registry_pipelines.stream.lazy.pieces import Chunk, ChunkPieces
from registry_pipelines.stream.mountable import clean_path
from registry_pipelines.stream.toc import KINDS, FileMetadata

MAX_CONTENT_BYTES = 1 << 44
"""Of all files of a layer, 16 TiB: what a sparse file of ext4 can have."""

_KINDS = frozenset(kind.decode() for kind in KINDS.values())
_XATTR = b"SCHILY.xattr."
_RESERVED = frozenset(name.encode() for name in RESERVED)


class _Placed(NamedTuple):
    """A row with content, and where that was put."""

    position: int
    size: int
    row: TocEntry


def chunk_pieces(toc: Toc) -> ChunkPieces:
    """What can be fetched of the layer. Raises IndexInvalid: chunks are not what a file is made of, without a gap."""
    placed, end = _placed(toc)
    chunks: list[Chunk] = []
    stop, begin = toc.offset, toc.offset
    for position, size, row in reversed(placed):
        if row.offset != begin:
            stop, begin = begin, row.offset
        digest = row.chunk_digest or row.digest
        try:
            chunks.append(Chunk(position, size, row.offset, stop, row.inner_offset, Digest.parse(digest)))
        except DigestInvalid as error:
            raise _invalid(toc, row, "has no digest") from error
    chunks.reverse()
    return ChunkPieces(chunks, end, table=toc.digest, where=toc.where)


def toc_files(toc: Toc) -> Iterator[FileMetadata]:
    """Its entries, with the positions of :func:`chunk_pieces`; without those that belong to the format. Raises
    IndexInvalid."""
    position = 0
    for row in toc:
        if row.type == "chunk":
            continue
        if row.type not in _KINDS:
            raise _invalid(toc, row, "is of an unknown type")
        if not 0 <= row.size <= MAX_CONTENT_BYTES - position:
            raise _invalid(toc, row, f"has {row.size} bytes")
        start = position
        if row.has_content:
            position += row.size + -row.size % BLOCK_BYTES
        name = row.name.encode("utf-8", "surrogatepass")
        if clean_path(name) not in _RESERVED:
            yield _file(row, name, start)


def _file(row: TocEntry, name: bytes, position: int) -> FileMetadata:
    link = row.link.encode("utf-8", "surrogatepass")
    xattrs = tuple((_XATTR + key.encode("utf-8", "surrogatepass"), value) for key, value in row.xattrs.items())
    size = row.size if row.type == "reg" else 0
    return FileMetadata(
        *(name, row.type.encode(), position, size, link, row.mode, row.uid & 0xFFFFFFFF, row.gid & 0xFFFFFFFF),
        *(b"", b"", row.modtime.encode("utf-8", "replace"), row.device_major, row.device_minor, xattrs),
    )


def _placed(toc: Toc) -> tuple[list[_Placed], int]:
    """All chunks in the order of the table, and where the last file ends."""
    found: list[_Placed] = []
    start, done, file = 0, 0, TocEntry(name="", type="reg")
    for row in toc:
        if not row.has_content:
            continue
        if row.type == "reg":
            if done != file.size:
                raise _invalid(toc, file, "has chunks for a part of it only")
            start, done = start + file.size + -file.size % BLOCK_BYTES, 0
            file = row
            if start + row.size > MAX_CONTENT_BYTES:
                raise _invalid(toc, row, f"has {row.size} bytes, more than can be mounted")
        size = row.chunk_size or file.size - done
        if row.chunk_offset != done or not 0 < size <= file.size - done or row.name != file.name:
            raise _invalid(toc, row, "has chunks that do not follow each other")
        found.append(_Placed(start + done, size, row))
        done += size
    if done != file.size:
        raise _invalid(toc, file, "has chunks for a part of it only")
    return found, start + file.size + -file.size % BLOCK_BYTES


def _invalid(toc: Toc, row: TocEntry, what: str) -> IndexInvalid:
    return IndexInvalid(
        f"the eStargz table of a layer cannot be used: {row.name[:200]!r} {what}",
        where=toc.where,
        do="Convert the image again",
    )


__all__ = ["chunk_pieces", "toc_files"]
