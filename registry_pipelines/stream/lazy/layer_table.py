"""How one layer is read, and which entries it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from registry_pipelines.errors import LayerInvalid, LayerUnlisted
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.lazy.pieces import Pieces
from registry_pipelines.stream.toc import FileMetadata, file_metadata, without_global


@dataclass(frozen=True)
class LayerTable:
    """How one layer is read."""

    layer: Descriptor
    pieces: Pieces
    """What can be fetched and verified by itself; positions of the tree are theirs."""
    why: str = ""
    """Why the layer had to be fetched whole; empty: it is lazy."""
    voucher: Digest | None = None
    """See ``vouching.vouched``; None where ``pieces.table`` says enough."""

    @property
    def digest(self) -> Digest:
        """Of the layer's blob."""
        return self.layer.digest

    @property
    def tar_size(self) -> int:
        """Bytes of what ``pieces`` make."""
        return self.pieces.tar_size


@dataclass(frozen=True)
class FoundTable:
    """A table and the entries it has, to be read once."""

    table: LayerTable
    files: Iterable[FileMetadata]


@dataclass(frozen=True)
class Unread:
    """A layer that has to be fetched whole, and why."""

    layer: Descriptor
    diff_id: Digest
    why: str
    by_range: bool = True
    """Whether its registry sends parts of it later."""


def record_files(record: LayerRecord) -> Iterator[FileMetadata]:
    """The entries of a layer that was read. Global PAX headers are passed over, as containerd does. Raises
    LayerInvalid: one cannot be served, as sparse files of GNU tar."""
    try:
        for each in record.entries():
            yield file_metadata(each.position, each.size, without_global(each.blocks), where=record.digest)
    except LayerUnlisted as error:
        raise LayerInvalid(
            error.what.replace("cannot be indexed", "cannot be mounted"),
            where=error.where,
            do="Start the image with a container runtime, or build the layer again without such an entry",
        ) from error


__all__ = ["FoundTable", "LayerTable", "Unread", "record_files"]
