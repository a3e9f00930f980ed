"""A layer taken apart while it comes: the content of each file in a file of its own, named after where it stands in the
tar, and what the headers say beside them. Nothing is named as the layer says, and nothing is read before both digests
of the layer were found right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from registry_pipelines.errors import LayerInvalid, LayerUnlisted
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.walk import Entry, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.pull.entries import EntryWriter
from registry_pipelines.stream.toc import FileMetadata, file_metadata, without_global
from registry_pipelines.threads import Pool

ENTRIES, FILES = "entries", "files"
"""Names in a layer's folder."""

Wanted = Callable[[int], bool]
"""Whether the content that begins at a position of the tar is in the result."""


def content_name(position: int) -> str:
    """Of the file with the content that begins there."""
    return f"{position:x}"


def unpack_layer(
    stream: Readable,
    layer: Descriptor,
    diff_id: Digest,
    folder: Path,
    *,
    wanted: Wanted,
    written: Callable[[int], object],
    where: str,
) -> None:
    """Take a layer apart. folder: its own, empty. written: is told of bytes that are written, and may raise.

    Raises LayerInvalid, DigestMismatch (of the layer or its tar): then the folder has nothing to be used; DiskFull,
    LocalError; what the stream raises.
    """
    files = folder / FILES
    with local_errors(files):
        files.mkdir(mode=0o700)
        here = os.open(files, os.O_RDONLY | os.O_DIRECTORY)
    writer = EntryWriter(folder / ENTRIES)
    try:
        with Pool(1, "hash") as beside:
            walk = open_layer(
                stream, layer.media_type, where=where, expected=layer, diff_id=diff_id, beside=beside, any_names=True
            )
            for entry in walk:
                described = _described(entry, where)
                writer.add(described)
                if described.size and wanted(described.position):
                    with local_errors(files):
                        _write(entry, content_name(described.position), here, written)
            walk.finish()
        writer.finish()
    finally:
        writer.close()
        os.close(here)


def _described(entry: Entry, where: str) -> FileMetadata:
    try:
        return file_metadata(entry.position, entry.size, without_global(entry.blocks), where=where)
    except LayerUnlisted as error:
        raise LayerInvalid(
            error.what.replace("cannot be indexed", "cannot be unpacked"),
            where=where,
            do="Pull the image with a container runtime, or build the layer again without such an entry",
        ) from error


def _write(entry: Entry, name: str, folder: int, written: Callable[[int], object]) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        for piece in entry.pieces():
            written(len(piece))
            while piece:
                piece = piece[os.write(file, piece) :]
    finally:
        os.close(file)


__all__ = ["ENTRIES", "FILES", "Wanted", "content_name", "unpack_layer"]
