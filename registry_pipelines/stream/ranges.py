"""Parts of a layer's blob, as a registry gives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from registry_pipelines.errors import Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import BlobReader, Place

Ranges = Callable[[int, int], AbstractContextManager[BlobReader]]
"""Opens bytes of the layer's blob, from and to."""


def blob_ranges(place: Place, layer: Digest) -> Ranges:
    """Ranges of a layer in a registry. Opening one raises Unsupported where the registry sends whole blobs only, and
    the RegistryError family."""

    def opened(start: int, stop: int) -> AbstractContextManager[BlobReader]:
        reader = place.registry.open_blob(place.repository, layer, start=start, stop=stop)
        if place.registry.capabilities(place.repository).range_reads is False:
            reader.close()
            raise Unsupported(
                "the registry answers a request for a range with the whole blob, so nothing can be read in parts",
                where=f"{place}@{layer}",
                do="Serve the image from a registry that knows Range (RFC 9110, section 14); nodes need it, too",
            )
        return reader

    return opened


__all__ = ["Ranges", "blob_ranges"]
