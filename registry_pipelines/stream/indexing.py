"""The SOCI index of one platform's image of a release, and what is told of it layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.left_out import passed_over
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.pushing import push_piece
from registry_pipelines.stream.results import LayerHow, StreamRow
from registry_pipelines.stream.soci import SociIndex, index_layers
from registry_pipelines.stream.soci_index import read_soci_index
from registry_pipelines.stream.source import SourceImage
from registry_pipelines.transfer.uploads import Uploads

Sent = Mapping[Digest, tuple[LayerHow, int]]
"""By digest of a blob: how it came to its place, and bytes sent."""

NOTHING = "no layer of it can be indexed, or all are smaller than an index is worth"
LEFT_OUT = "no table could be made of it when the image was indexed"


def index_options(stream: Stream) -> dict[str, Any]:
    """What an index depends on beside the image, as plain data."""
    return {
        "span_size": int(stream.span_size),
        "min_layer_size": int(stream.min_layer_size),
        "prefetch": list(stream.prioritize),
    }


def index_image(
    place: Place,
    image: SourceImage,
    stream: Stream,
    *,
    store: LayerStore,
    folder: Path,
    progress: Progress,
    subject: Descriptor | None = None,
) -> SociIndex:
    """Make the index of an image, of version 1 with a ``subject``, else of version 2. See ``soci.index_layers``."""
    return index_layers(
        place,
        image.entry.manifest,
        [diff_id for _, diff_id in image.layers],
        store=store,
        folder=folder,
        subject=subject,
        span_bytes=int(stream.span_size),  # as plain numbers: sizes of a configuration print themselves with a unit
        min_layer_bytes=int(stream.min_layer_size),
        prefetch=stream.prioritize,
        progress=progress,
    )


def push_pieces(uploads: Uploads, index: SociIndex) -> dict[Digest, tuple[LayerHow, int]]:
    """Have all blobs of an index at the place. Raises RegistryError, ContentError, LocalError."""
    return {piece.descriptor.digest: push_piece(uploads, piece) for piece in index.pieces}


def index_rows(image: SourceImage, index: SociIndex, sent: Sent) -> tuple[StreamRow, ...]:
    """A row for each layer of an image whose index was made now."""
    why = {each.layer.digest: each.detail for each in index.skipped}
    spans = {each.descriptor.digest: each.spans for each in index.pieces}
    tables = _tables(index.document) if index.document else {}
    return tuple(
        _row(image, layer, tables.get(layer.digest), sent, spans, why.get(layer.digest, ""))
        for layer, _ in image.layers
    )


def there_rows(image: SourceImage, document: ManifestBytes | None, stream: Stream) -> tuple[StreamRow, ...]:
    """A row for each layer of an image whose index was there, made as ``stream`` says. document: None for an image that
    had nothing to index. Raises ManifestInvalid, IndexInvalid."""
    tables = _tables(document) if document else {}
    return tuple(
        _row(image, layer, tables.get(layer.digest), {}, {}, _left_out(layer, stream)) for layer, _ in image.layers
    )


def _left_out(layer: Descriptor, stream: Stream) -> str:
    """What was found in a layer is not looked for again."""
    found = passed_over(layer, int(stream.min_layer_size))
    return found.detail if found else LEFT_OUT


def _tables(document: ManifestBytes) -> dict[Digest, Descriptor]:
    return {each.layer: each.table for each in read_soci_index(document).tables}


def _row(
    image: SourceImage,
    layer: Descriptor,
    table: Descriptor | None,
    sent: Sent,
    spans: Mapping[Digest, int],
    why: str,
) -> StreamRow:
    if table is None:
        return StreamRow(platform=image.platform, layer=layer.digest, size=layer.size, how="skipped", why=why)
    how, bytes_sent = sent.get(table.digest, ("present", 0))
    return StreamRow(
        platform=image.platform,
        layer=layer.digest,
        size=layer.size,
        how=how,
        made=table.digest,
        made_bytes=table.size,
        spans=spans.get(table.digest),
        bytes_sent=bytes_sent,
    )
