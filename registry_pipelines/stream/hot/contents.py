"""The files of an image with the digests of their contents, by which a recording finds them in another image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from registry_pipelines.errors import ContentError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.estargz_toc import read_toc
from registry_pipelines.stream.hot.recording import RecordedFile, Recording, with_contents
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.layer_table import LayerTable
from registry_pipelines.stream.lazy.tables import ImageTables, image_tables
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree
from registry_pipelines.stream.ranges import blob_ranges


def image_files(
    place: Place,
    tables: ImageTables,
    layers: Sequence[tuple[Descriptor, Digest]],
    *,
    records: LayerStore,
    folder: Path | None = None,
) -> Iterator[RecordedFile]:
    """Every regular file of an image that has content, under each of its names; without a digest where this machine
    does not know it (the layer was read for no index). layers: each with its diffID, base first. folder: for what is
    too long for memory.

    Raises RegistryError: a table of eStargz cannot be had.
    """
    known = _known(place, tables, layers, records, folder)
    for path, number in _files(tables.tree):
        inode = tables.tree.node(number)
        if inode.size:
            yield _told(os.fsdecode(path), inode, known)


def files_like(
    recording: Recording,
    place: Place,
    tables: ImageTables,
    layers: Sequence[tuple[Descriptor, Digest]],
    *,
    records: LayerStore,
    folder: Path | None = None,
) -> Iterator[RecordedFile]:
    """Those of :func:`image_files` that may stand for a file of a recording: by their path, or by their content where
    it is at no such path. An image has a hundred times as many."""
    known, tree = _known(place, tables, layers, records, folder), tables.tree
    moved = {bytes.fromhex(file.sha256) for file in recording.files if file.sha256}
    for file in recording.files:
        number = tree.find(os.fsencode(file.path))
        inode = tree.node(number) if number else None
        if inode and inode.size and stat.S_ISREG(inode.mode):
            found = _told(file.path, inode, known)
            if found.sha256 == file.sha256:
                moved.discard(bytes.fromhex(found.sha256))
            yield found
    places = {(n, position) for n, each in enumerate(known) for position, sha256 in each.items() if sha256 in moved}
    for path, number in _files(tree) if places else ():
        inode = tree.node(number)
        if inode.size and (inode.layer, inode.position) in places:
            yield _told(os.fsdecode(path), inode, known)


def known_contents(place: Place, recording: Recording, *, state: Path) -> Recording:
    """A recording with the digests of its files, as far as this machine knows them. state: the folder of what is kept.
    Raises what ``tables.image_tables`` does."""
    image, records = image_for(place, recording.image), LayerStore(state / "layers")
    tables = tables_here(place, image, state=state)
    return with_contents(recording, image_files(place, tables, image.layers, records=records))


def tables_here(place: Place, image: NodeImage, *, state: Path) -> ImageTables:
    """The tables of an image as this machine reads layers for itself. Raises what ``tables.image_tables`` does."""
    return image_tables(
        place,
        image.descriptor.digest,
        image.layers,
        verifier=None,
        records=LayerStore(state / "layers"),
        blocks=BlockStore(state / "lazy" / "blocks"),
        folder=state / "lazy",
        own_tables_first=True,
    )


def _known(
    place: Place,
    tables: ImageTables,
    layers: Sequence[tuple[Descriptor, Digest]],
    records: LayerStore,
    folder: Path | None,
) -> list[dict[int, bytes]]:
    """For each layer SHA-256 of its files, by position."""
    pairs = zip(tables.layers, layers, strict=True)
    return [_contents(place, table, diff_id, records, folder) for table, (_, diff_id) in pairs]


def _told(path: str, inode: Inode, known: Sequence[dict[int, bytes]]) -> RecordedFile:
    return RecordedFile(path, inode.size, known[inode.layer].get(inode.position, b"").hex())


def _contents(
    place: Place, table: LayerTable, diff_id: Digest, records: LayerStore, folder: Path | None
) -> dict[int, bytes]:
    """SHA-256 of a layer's files, by position."""
    if table.pieces.table is None:
        record = records.get(diff_id, table.digest)
        return {each.position: each.sha256 for each in record.entries() if each.sha256} if record else {}
    found, position = {}, 0
    ranges = blob_ranges(place, table.digest)
    try:
        with read_toc(
            ranges, table.layer.size, expected=table.pieces.table, where=str(table.digest), folder=folder
        ) as toc:
            for row in toc:  # positions as ``lazy.chunked`` counts them
                if row.type == "reg" and row.size:
                    if row.digest.startswith("sha256:"):
                        found[position] = bytes.fromhex(row.digest.partition(":")[2])
                    position += row.size + -row.size % BLOCK_BYTES
    except (ContentError, ValueError):  # its files are then found by path and size
        return {}
    return found


def _files(tree: Tree) -> Iterator[tuple[bytes, int]]:
    """Paths and numbers of all regular files."""
    waiting = [(b"", ROOT)]
    while waiting:
        above, directory = waiting.pop()
        for name, number in tree.children(directory):
            mode = tree.node(number).mode
            if stat.S_ISDIR(mode):
                waiting.append((above + name + b"/", number))
            elif stat.S_ISREG(mode):
                yield above + name, number


__all__ = ["files_like", "image_files", "known_contents"]
