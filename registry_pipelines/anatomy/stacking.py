"""Layers on each other, file by file: which bytes a container sees, and which a later layer overwrites or deletes
(image-spec 1.1, layer.md, "Applying Changesets"; links in a file's folders are followed as containerd does).

A file's content counts as seen while one of its names stands: hard links share it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.anatomy.report import Gone
from registry_pipelines.errors import LayerInvalid, LayerUnlisted
from registry_pipelines.oci.layer.record import LayerRecord, RawEntry
from registry_pipelines.oci.layer.tar import BLOCK_BYTES, read_header, read_pax, sparse_name
from registry_pipelines.oci.layer.walk import OPAQUE_WHITEOUT, WHITEOUT_PREFIX
from registry_pipelines.scan.merge import MAX_LINK_HOPS
from registry_pipelines.stream.mountable import clean_path
from registry_pipelines.stream.toc import file_metadata, without_global

Content = tuple[int, int]
"""Size and CRC-32 of a file: what a listing knows of its content. Equal ones are taken for the same content; only who
wants to look wasteful makes files that differ and agree in both."""


@dataclass(slots=True)
class Piece:
    """One regular file of one layer."""

    path: str
    layer: int
    size: int
    compressed: int
    mode: int
    owner: tuple[int, int]
    content: Content
    also: list[str] = field(default_factory=list)
    gone: Gone = ""
    gone_by: int = 0
    copied: str = ""
    """``mode``, ``owner`` or ``times``: it overwrites a file with the same content, for nothing but that."""
    names: int = 1
    removed: frozenset[str] = frozenset()
    """Of its names those that lead to it no more, while another does."""


class _Folder(dict[str, "_Folder | Piece | str | None"]):
    """Base name to folder, content, target of a symbolic link; None is a device or a pipe."""


class _Entry(NamedTuple):
    path: str
    kind: bytes
    size: int
    compressed: int
    link: str
    mode: int
    owner: tuple[int, int]
    content: Content


class Stack:
    """The files of an image while its layers are put on each other, base first."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._root = _Folder()
        self._layer = 0
        self._last: tuple[str, _Folder] | None = None

    def add(self, number: int, record: LayerRecord) -> None:
        """The next layer. number: from 1. Raises LayerInvalid: its record is damaged."""
        self._layer = number
        entries = list(_entries(record))
        # A layer's whiteouts hide what is below it, wherever they stand in it.
        for entry in entries:
            folder, _, base = entry.path.rpartition("/")
            if base == OPAQUE_WHITEOUT:
                self._empty(folder)
            elif base.startswith(WHITEOUT_PREFIX):
                self._remove(folder, base.removeprefix(WHITEOUT_PREFIX))
        for entry in entries:
            if entry.path and not entry.path.rpartition("/")[2].startswith(WHITEOUT_PREFIX):
                self._put(entry)

    def removed_names(self, piece: Piece) -> frozenset[str]:
        """Those that a later entry or layer overwrote or deleted."""
        names = {piece.path, *piece.also}
        removed = frozenset(name for name in names if self._named(name) is not piece)
        return removed if len(removed) < len(names) else frozenset()

    def _put(self, entry: _Entry) -> None:
        parent, _, base = entry.path.rpartition("/")
        folder = self._folder(parent)
        old = folder.get(base)
        if entry.kind == b"dir":
            # The folder stays what it is; a link or a file gives way to one.
            if not isinstance(old, _Folder):
                self._replace(folder, base, _Folder())
        elif entry.kind == b"symlink":
            self._replace(folder, base, entry.link)
        elif entry.kind == b"hardlink":
            target = self._named(entry.link)
            if isinstance(target, Piece) and target is not old:
                target.names += 1
                target.also.append(entry.path)
                self._replace(folder, base, target)
            elif isinstance(target, str):
                self._replace(folder, base, target)
        elif entry.kind == b"reg":
            piece = Piece(entry.path, self._layer, entry.size, entry.compressed, entry.mode, entry.owner, entry.content)
            if isinstance(old, Piece) and old.layer < self._layer and piece.size and old.content == piece.content:
                piece.copied = "mode" if old.mode != piece.mode else "owner" if old.owner != piece.owner else "times"
            self.pieces.append(piece)
            self._replace(folder, base, piece)
        else:
            self._replace(folder, base, None)

    def _replace(self, folder: _Folder, base: str, new: _Folder | Piece | str | None) -> None:
        old = folder.get(base)
        folder[base] = new
        if old is not None:
            self._let_go(old, "overwritten")

    def _remove(self, parent: str, base: str) -> None:
        folder = self._walk(parent, make=False)
        if folder is not None and base in folder:
            self._let_go(folder.pop(base), "deleted")

    def _empty(self, path: str) -> None:
        folder = self._walk(path, make=False)
        if folder is not None:
            gone = list(folder.values())
            folder.clear()
            for each in gone:
                self._let_go(each, "deleted")

    def _let_go(self, what: _Folder | Piece | str | None, why: Gone) -> None:
        self._last = None
        todo = [what]
        while todo:
            each = todo.pop()
            if isinstance(each, _Folder):
                todo.extend(each.values())
            elif isinstance(each, Piece):
                each.names -= 1
                if not each.names:
                    each.gone, each.gone_by = why, self._layer

    def _named(self, path: str) -> _Folder | Piece | str | None:
        """What stands at a path; of links, those in its folders are followed."""
        parent, _, base = path.rpartition("/")
        folder = self._walk(parent, make=False)
        return None if folder is None else folder.get(base)

    def _folder(self, path: str) -> _Folder:
        if self._last is None or self._last[0] != path:
            made = self._walk(path, make=True)
            # Empty folders are false.
            self._last = (path, made if made is not None else self._root)
        return self._last[1]

    def _walk(self, path: str, *, make: bool) -> _Folder | None:
        """The folder at a path; None where there is none and none is to be made."""
        here, above = self._root, [self._root]
        todo, hops = path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                above = above[:-1] or above
                here = above[-1]
                continue
            found = here.get(part)
            if isinstance(found, str) and hops < MAX_LINK_HOPS:
                hops += 1
                above = above[:1] if found.startswith("/") else above
                here = above[-1]
                todo.extend(found.split("/")[::-1])
                continue
            if not isinstance(found, _Folder):
                if not make:
                    return None
                new = _Folder()
                self._replace(here, part, new)
                found = new
            here = found
            above.append(here)
        return here


class _Scale:
    """Places of the tar to places of the layer as stored, straight between those that are known."""

    def __init__(self, record: LayerRecord) -> None:
        end = max(record.tar_size, 1)
        points = [(0, 0), (end, end)] if record.compression == "plain" else record.places
        self._tar = [tar for tar, _ in points]
        self._stored = [stored for _, stored in points]
        self._find(0)

    def stored(self, position: int) -> int:
        if not self._begin <= position < self._end:
            self._find(position)
        if self._end <= self._begin:
            return self._first
        return self._first + min(position - self._begin, self._end - self._begin) * self._bytes // (
            self._end - self._begin
        )

    def _find(self, position: int) -> None:
        """Between which two places it is; those that are asked for next are mostly between the same."""
        number = min(max(bisect_right(self._tar, position) - 1, 0), len(self._tar) - 2)
        self._begin, self._end = self._tar[number : number + 2]
        self._first, after = self._stored[number : number + 2]
        self._bytes = after - self._first


def _entries(record: LayerRecord) -> Iterator[_Entry]:
    scale = _Scale(record)
    for raw in record.entries():
        name, kind, link, mode, owner = _read(raw, record)
        begin = raw.position - len(raw.blocks)
        end = raw.position + raw.size + -raw.size % BLOCK_BYTES
        compressed = scale.stored(end) - scale.stored(begin) if kind == b"reg" else 0
        target = link.decode("utf-8", "surrogateescape")
        path = clean_path(name).decode("utf-8", "surrogateescape")
        if kind == b"hardlink":
            target = clean_path(link).decode("utf-8", "surrogateescape")
        yield _Entry(path, kind, raw.size, compressed, target, mode, owner, (raw.size, raw.crc))


def _read(raw: RawEntry, record: LayerRecord) -> tuple[bytes, bytes, bytes, int, tuple[int, int]]:
    """Name, kind, link, mode, owner."""
    try:
        each = file_metadata(raw.position, raw.size, without_global(raw.blocks), where=record.digest)
    except LayerUnlisted:
        return (*_odd(raw.blocks, record), b"", 0, (0, 0))
    return each.name, each.kind, each.link, each.mode & 0o7777, (each.uid, each.gid)


def _odd(blocks: bytes, record: LayerRecord) -> tuple[bytes, bytes]:
    """Name and kind of what no index can list, as sparse files."""
    pax: dict[str, bytes] = {}
    name, start = b"", 0
    while start < len(blocks):
        header = read_header(blocks[start : start + BLOCK_BYTES], where=record.digest, offset=start)
        data = blocks[start + BLOCK_BYTES : start + BLOCK_BYTES + header.size]
        if header.type not in b"xgLK":
            kind = b"reg" if header.kind == "file" else b"dir" if header.kind == "directory" else b"other"
            return sparse_name(pax) or name or pax.get("path") or header.name, kind
        if header.type == b"L"[0]:
            name = data.partition(b"\0")[0]
        elif header.type == b"x"[0]:
            pax = read_pax(data, where=record.digest, offset=start)
        start += BLOCK_BYTES + header.size + -header.size % BLOCK_BYTES
    raise LayerInvalid("the record of a layer is damaged", where=str(record.digest))


def stack(records: Sequence[LayerRecord | None]) -> list[Piece]:
    """All regular files of all layers, base first; None is a layer that nobody can read. Raises LayerInvalid."""
    stacked = Stack()
    for number, record in enumerate(records, 1):
        if record is not None:
            stacked.add(number, record)
    for piece in stacked.pieces:
        if piece.also and not piece.gone:
            piece.removed = stacked.removed_names(piece)
    return stacked.pieces
