"""An eStargz blob held against its own table of contents: the tar, which runtimes unpack and scanners read, and the
table, by which nodes mount it, must say the same of every entry, and every chunk must be where and what the table says.

stargz-snapshotter verifies chunks against the table, and the table against the annotation; nobody holds it against the
tar, so a table of its own making could show a container other files than those that were scanned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.errors import DigestMismatch, IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.walk import Entry, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER, TOC_ANNOTATION
from registry_pipelines.stream.estargz_headers import toc_row
from registry_pipelines.stream.estargz_stream import MemberStream
from registry_pipelines.stream.estargz_toc import TOC_NAME, Toc, TocEntry, layer_form, read_toc, toc_annotations
from registry_pipelines.stream.ranges import Ranges
from registry_pipelines.stream.toc import file_metadata

_PIECE_BYTES = 1024 * 1024
_COMPARED = (
    *("name", "type", "size", "modtime", "link", "mode", "uid", "gid"),
    *("device_major", "device_minor", "xattrs"),
)


@dataclass(frozen=True)
class Verified:
    """A blob that is what its table says. Sizes in bytes."""

    digest: Digest
    size: int
    diff_id: Digest
    uncompressed_size: int
    toc_digest: Digest
    entries: int
    """Of the table, further chunks not counted."""
    chunks: int

    @property
    def annotations(self) -> dict[str, str]:
        """What its descriptor must tell, so that nodes know it."""
        return toc_annotations(self.toc_digest, self.uncompressed_size)


def verify_layer(stream: Readable, toc: Toc) -> Verified:
    """Read a whole blob once, and hold it against its table. stream: all of its bytes.

    Raises IndexInvalid: they differ, with the entry's name; the blob is damaged. LayerInvalid: its tar is none that is
    safe to unpack. Not checked here: that digest, diffID and the table's digest are those of the image; they are in
    what is returned.
    """
    return _Verifying(stream, toc).all()


def verify_existing(
    layer: Descriptor, diff_id: Digest, ranges: Ranges, *, where: str = "", folder: Path | None = None
) -> Verified | None:
    """Hold a layer that may be eStargz already against its table, its annotation, its digest and its diffID; None when
    it ends as something else. All of it is read, after two ranges that say what it is. folder: see ``read_toc``.

    Raises IndexInvalid, LayerInvalid, DigestMismatch: it is not what it says. What ``ranges`` raises.
    """
    if layer_form(layer.size, ranges) != "estargz":
        return None
    told = (layer.annotations or {}).get(TOC_ANNOTATION)
    expected = Digest(told) if told else None
    with (
        read_toc(ranges, layer.size, expected=expected, where=where, folder=folder) as toc,
        ranges(0, layer.size) as stream,
    ):
        verified = verify_layer(stream, toc)
    if (verified.digest, verified.diff_id) != (layer.digest, diff_id):
        raise DigestMismatch("the layer or what it unpacks to has another digest than the image says", where=where)
    return verified


class _Verifying:
    def __init__(self, stream: Readable, toc: Toc) -> None:
        self._toc = toc
        self._hasher = hashlib.sha256()
        self._members = MemberStream(stream, 0, where=toc.where, hasher=self._hasher)
        self._walk = open_layer(self._members, OCI_LAYER, where=toc.where)
        self._buffer = memoryview(bytearray(_PIECE_BYTES))
        self._rows = iter(toc)
        self._entries = self._chunks = 0

    def all(self) -> Verified:
        table_seen = False
        for entry in self._walk:
            if table_seen:
                raise self._differs(entry.name, "stands behind the table")
            if entry.name == TOC_NAME:
                table_seen = True
                self._table(entry)
            else:
                self._entry(entry)
        if not table_seen:
            raise self._differs(TOC_NAME, "is not in the tar")
        facts = self._walk.finish()
        assert facts.diff_id is not None  # noqa: S101 - it was hashed
        if self._members.position != facts.uncompressed_size:
            raise self._differs(TOC_NAME, "is not the end of the blob")
        return Verified(
            digest=Digest(f"sha256:{self._hasher.hexdigest()}"),
            size=self._members.offset,
            diff_id=facts.diff_id,
            uncompressed_size=facts.uncompressed_size,
            toc_digest=self._toc.digest,
            entries=self._entries,
            chunks=self._chunks,
        )

    def _table(self, entry: Entry) -> None:
        for row in self._rows:
            raise self._differs(row.name, "is in the table, and not in the tar")
        hasher = hashlib.sha256()
        begin = entry.position - len(entry.blocks)
        for view in self._content(entry, entry.size):
            hasher.update(view)
        if f"sha256:{hasher.hexdigest()}" != self._toc.digest or self._start_of(begin) != (self._toc.offset, begin):
            raise self._differs(TOC_NAME, "is another one than the footer names")

    def _entry(self, entry: Entry) -> None:
        row = next(self._rows, None)
        if row is None:
            raise self._differs(entry.name, "is in the tar, and not in the table")
        found = file_metadata(entry.position, entry.size, entry.blocks, where=self._toc.where)
        try:
            expected = toc_row(found)
        except UnicodeDecodeError as error:
            raise self._differs(entry.name, "has a name that no table can have") from error
        for name in _COMPARED:
            if getattr(row, name) != getattr(expected, name):
                raise self._differs(entry.name, f"has another {name.replace('_', ' ')} in the table than in the tar")
        # Empty: the one that was told before for the same number. Nodes do not use them.
        if row.user not in ("", _told(found.user)) or row.group not in ("", _told(found.group)):
            raise self._differs(entry.name, "has another owner in the table than in the tar")
        self._entries += 1
        if row.type == "reg":
            self._file(row, expected, entry)

    def _file(self, row: TocEntry, expected: TocEntry, entry: Entry) -> None:
        if not row.size:
            if row.digest not in ("", expected.digest):
                raise self._differs(row.name, "has another digest")
            return
        whole: Any = hashlib.sha256()
        digest, name, left, chunk = row.digest, row.name, row.size, row
        while True:
            size = chunk.chunk_size or left
            if chunk.chunk_offset != row.size - left or not 0 < size <= left:
                raise self._differs(name, "has chunks that do not follow each other")
            self._chunk(chunk, size, entry, whole)
            left -= size
            if not left:
                break
            following = next(self._rows, None)
            if following is None or following.type != "chunk" or following.name != name:
                raise self._differs(name, "has fewer chunks than bytes")
            chunk = following
        if digest != f"sha256:{whole.hexdigest()}":
            raise self._differs(name, "has another digest")

    def _chunk(self, chunk: TocEntry, size: int, entry: Entry, whole: Any) -> None:
        begin, hasher = entry.position, hashlib.sha256()
        for view in self._content(entry, size):
            hasher.update(view)
            whole.update(view)
        start = self._start_of(begin)
        if start != (chunk.offset, begin - chunk.inner_offset):
            raise self._differs(chunk.name, f"has a chunk that is not at byte {chunk.offset}")
        if chunk.chunk_digest != f"sha256:{hasher.hexdigest()}":
            raise self._differs(chunk.name, "has a chunk with another digest")
        self._chunks += 1

    def _content(self, entry: Entry, size: int) -> Iterator[memoryview]:
        while size:
            view = self._buffer[: min(size, len(self._buffer))]
            entry.readinto(view)
            size -= len(view)
            yield view

    def _start_of(self, position: int) -> tuple[int, int] | None:
        """The member that has a byte of the tar, of which something behind that byte was read."""
        starts = self._members.starts
        while len(starts) > 1 and starts[1].position <= position:
            starts.popleft()
        return starts[0] if starts else None

    def _differs(self, name: str, what: str) -> IndexInvalid:
        return IndexInvalid(
            f"the eStargz layer and its table differ: {name[:200]!r} {what}",
            where=self._toc.where,
            do="Do not run it by streaming; convert the image again from its origin",
        )


def _told(name: bytes) -> str:
    return name.decode("utf-8", "replace")
