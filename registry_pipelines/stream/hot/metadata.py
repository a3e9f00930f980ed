"""The tree of an image as EROFS, as a hot pack brings it; who mounts by FUSE does not fetch it."""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.pack import MAX_METADATA_BYTES, METADATA_TYPE, MetadataBlob
from registry_pipelines.stream.lazy.erofs import FORMAT, Metadata, ReadyMetadata


def read_metadata(place: Place, blob: MetadataBlob, sizes: Sequence[int]) -> ReadyMetadata | None:
    """Metadata of a believed pack, held against its digest; None: it is in another form than this build's. sizes: of
    the layers. Raises IndexInvalid, DigestMismatch, NotFound, and the RegistryError family."""
    if blob.format != FORMAT:
        return None
    stored = read_blob(place, metadata_blob(blob), limit=MAX_METADATA_BYTES)
    return open_metadata(blob, stored, sizes, where=f"{place}@{blob.digest}")


def metadata_blob(blob: MetadataBlob) -> Descriptor:
    """Its descriptor."""
    return Descriptor(media_type=METADATA_TYPE, digest=blob.digest, size=blob.stored)


def pack_metadata(metadata: Metadata) -> tuple[bytes, MetadataBlob]:
    """A tree's metadata as it is stored, and what is told of it. The same metadata makes the same bytes."""
    out = _Pieces()
    metadata.write(out)
    raw = b"".join(out.pieces)
    stored = zstandard.ZstdCompressor(level=3, write_content_size=True).compress(raw)
    layout = metadata.layout
    return stored, MetadataBlob(FORMAT, Digest.of(stored), len(stored), len(raw), layout.left_out)


def open_metadata(blob: MetadataBlob, stored: bytes, sizes: Sequence[int], *, where: str = "") -> ReadyMetadata:
    """The metadata of a blob whose digest was held against it. sizes: of the layers. Raises IndexInvalid."""
    try:
        if zstandard.frame_content_size(stored) != blob.size:
            raise zstandard.ZstdError("it has another size")
        raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=blob.size)
    except zstandard.ZstdError as error:
        raise IndexInvalid(f"the metadata of the hot pack cannot be unpacked: {error}", where=where) from error
    return ReadyMetadata(raw, sizes, blob.left_out)


class _Pieces:
    """What is written, in memory."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, content: bytearray, /) -> None:
        self.pieces.append(bytes(content))


__all__ = ["metadata_blob", "open_metadata", "pack_metadata", "read_metadata"]
