"""Layers that a node mounts as something else than what unpacking makes of them.

SOCI's snapshotter makes a tree of the names in the table and follows no link while it does. Seen with v0.15.0 and
containerd 2.1.9 on 2026-11-28: a file that stands below a symbolic link of its layer is there after unpacking, and
missing in the mounted tree, without a word; a hard link whose target does not come before it keeps the layer from being
mounted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.stream.toc import FileMetadata, file_metadata

_LINK = b"1"


def ztoc_files(record: LayerRecord) -> Iterator[FileMetadata]:
    """The entries of a layer as its ztoc lists them. Raises LayerInvalid for one that none can list."""
    return (file_metadata(each.position, each.size, each.blocks, where=record.digest) for each in record.entries())


def mountable_files(record: LayerRecord) -> Iterator[FileMetadata]:
    """The same, and LayerInvalid, too, for one that a node does not show as unpacking would."""
    return _checked(ztoc_files(record), _link_targets(record), record.digest)


def _link_targets(record: LayerRecord) -> set[bytes]:
    """What hard links name; only these are remembered, so that memory does not grow with the layer."""
    return {
        clean_path(file_metadata(each.position, each.size, each.blocks, where=record.digest).link)
        for each in record.entries()
        if each.blocks[156 - BLOCK_BYTES :][:1] == _LINK
    }


def _checked(files: Iterable[FileMetadata], targets: set[bytes], where: str) -> Iterator[FileMetadata]:
    seen: set[bytes] = set()
    links: set[bytes] = set()
    folder = b""
    for each in files:
        name = clean_path(each.name)
        parent = name[: max(name.rfind(b"/"), 0)]
        if parent != folder and links:
            if any(above in links for above in _folders(parent)):
                raise _refused(each, "it stands below a symbolic link of its layer, and would be missing there", where)
            folder = parent
        if each.kind == b"hardlink" and clean_path(each.link) not in seen:
            raise _refused(each, "it is a hard link to what does not come before it in its layer", where)
        if name in targets:
            seen.add(name)
        if each.kind == b"symlink":
            links.add(name)
            folder = b""
        else:
            links.discard(name)
        yield each


def _folders(name: bytes) -> Iterator[bytes]:
    while name:
        yield name
        name = name[: max(name.rfind(b"/"), 0)]


def _refused(entry: FileMetadata, why: str, where: str) -> LayerInvalid:
    name = entry.name[:200].decode("utf-8", "replace")
    return LayerInvalid(
        f"the layer cannot be indexed because of {name!r}: {why}",
        where=where,
        do="Nodes fetch this layer whole; build it without such an entry to have it streamed",
    )


def clean_path(name: bytes) -> bytes:
    """A path below the root, however people and tars write it: no leading ``/`` or ``./``, no slash at the end."""
    if b"//" in name or b"./" in name or name[:1] in (b"/", b".") or name[-1:] in (b"/", b"."):
        return posixpath.normpath(b"/" + name).lstrip(b"/")
    return name


__all__ = ["clean_path", "mountable_files", "ztoc_files"]
