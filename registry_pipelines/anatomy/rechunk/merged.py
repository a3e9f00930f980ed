"""The tree that a container of an image sees, with the digests of its contents as records of its layers have them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from registry_pipelines.errors import LayerInvalid, LayerUnlisted
from registry_pipelines.oci.layer.record import BYTECODE_HEAD_BYTES, LayerRecord
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree
from registry_pipelines.stream.toc import FileMetadata, file_metadata, without_global

_SHA256_BYTES = 32
EMPTY_SHA256 = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


class Content(NamedTuple):
    """Digests of a file; see ``RawEntry``."""

    sha256: bytes
    bytecode: bytes = b""


NOTHING = Content(EMPTY_SHA256)


@dataclass(frozen=True)
class Merged:
    """An image's layers on each other."""

    tree: Tree
    contents: tuple[dict[int, bytes], ...]
    """For each layer, by position: sha256, and behind it ``RawEntry.bytecode``. As objects they take twice as much."""
    listed_bytes: int
    """Of all regular files of all layers, seen or not."""
    lacking: frozenset[int] = frozenset()
    """Layers, from 0 for the base, whose records were made by who did not look at compiled modules."""

    def content(self, inode: Inode) -> Content:
        """Digests of a regular file."""
        found = self.contents[inode.layer].get(inode.position) if inode.size else None
        return Content(found[:_SHA256_BYTES], found[_SHA256_BYTES:]) if found else NOTHING

    def is_file(self, number: int) -> bool:
        """Whether an inode is a regular file with content."""
        inode = self.tree.node(number)
        return stat.S_ISREG(inode.mode) and inode.size > 0

    def paths(self) -> Iterator[tuple[bytes, int]]:
        """Each path with its number, the top (empty) first; each directory before what it holds, names sorted by their
        bytes."""
        for path, number, _ in self.nodes():
            yield path, number

    def nodes(self) -> Iterator[tuple[bytes, int, Inode]]:
        """The same with what stands there."""
        waiting: list[tuple[bytes, int]] = [(b"", ROOT)]
        node = self.tree.node
        while waiting:
            path, number = waiting.pop()
            inode = node(number)
            yield path, number, inode
            if stat.S_ISDIR(inode.mode):
                above = path + b"/" if path else b""
                waiting += [(above + name, child) for name, child in reversed(self.tree.children(number))]


def merge(records: Sequence[LayerRecord]) -> Merged:
    """Merge layers that were read, base first. Raises LayerInvalid: they cannot be unpacked, or a record is damaged."""
    contents: tuple[dict[int, bytes], ...] = tuple({} for _ in records)
    total, lacking = [0], set[int]()
    pairs = enumerate(zip(records, contents, strict=True))
    try:
        tree = merge_layers([_entries(record, found, total, lacking, at) for at, (record, found) in pairs])
    except LayerUnlisted as error:
        raise LayerInvalid(
            error.what.replace("be indexed", "be rechunked"),
            where=error.where,
            do="Build the layer again without such an entry",
        ) from error
    return Merged(tree, contents, total[0], frozenset(lacking))


def _entries(
    record: LayerRecord, contents: dict[int, bytes], total: list[int], lacking: set[int], layer: int
) -> Iterator[FileMetadata]:
    for raw in record.entries():
        if raw.size:
            contents[raw.position] = raw.sha256 + raw.bytecode
            total[0] += raw.size
            if not raw.bytecode and raw.size >= BYTECODE_HEAD_BYTES and b".pyc" in raw.blocks:
                lacking.add(layer)
        yield file_metadata(raw.position, raw.size, without_global(raw.blocks), where=str(record.digest))
