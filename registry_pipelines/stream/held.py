"""Layers that an index leaves out, read all the same by whoever makes it.

A runtime names a layer by what the image's config says it unpacks to, and every image with the same names uses the same
snapshot. With an indexer's word that a small layer is what the config says, a node answers a pull before it fetched it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from registry_pipelines.errors import ContentError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.threads import Pool

MAX_BYTES = 10 << 20
"""Of a layer that is held so, compressed: a node leaves larger ones without a table to the normal pull."""

READERS = 4
"""Layers that are read at the same time."""


def held_layers(
    place: Place, layers: Sequence[tuple[Descriptor, Digest]], listed: Container[str], store: LayerStore
) -> tuple[Digest, ...]:
    """Those of an image's small layers that unpack to what its config says wherever they stand, base first. layers:
    each with its diffID. listed: digests of those that the index has, which are not looked at. store: records; what is
    there is not read again, and what is read is there then. Raises RegistryError, LocalError, DiskFull."""
    pairs = {(layer.digest, diff_id): (layer, diff_id) for layer, diff_id in layers if layer.digest not in listed}
    small = [pair for pair in pairs.values() if pair[0].size <= MAX_BYTES and unreadable(pair[0]) is None]
    with Pool(READERS, "held-layer") as pool:
        fits = list(pool.map(lambda pair: _fits(place, pair[0], pair[1], store), small))
    wrong = {layer.digest for (layer, _), fit in zip(small, fits, strict=True) if not fit}
    return tuple(dict.fromkeys(layer.digest for layer, _ in small if layer.digest not in wrong))


def _fits(place: Place, layer: Descriptor, diff_id: Digest, store: LayerStore) -> bool:
    if store.get(diff_id, layer.digest) is not None:
        return True
    try:
        with store.turn(diff_id, layer.digest):
            if store.get(diff_id, layer.digest) is None:
                with BlobStream(place, layer) as stream:
                    store.read(stream, layer, diff_id, where=f"{place}@{layer.digest}")
    except ContentError:
        return False
    return True


__all__ = ["held_layers"]
