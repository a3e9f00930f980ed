"""Layers that an image has twice, or for nothing: GKE streams no such image. Found by names alone, nothing is read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor

EMPTY_DIFF_IDS = frozenset(
    Digest(f"sha256:{hashlib.sha256(bytes(size)).hexdigest()}") for size in (0, 512, 1024, 5120, 10240)
)
"""Tars that hold nothing: two zero blocks (Go, BuildKit, kaniko), and what GNU tar and Python's pad to."""


def repeated_layers(
    layers: Sequence[Descriptor], diff_ids: Sequence[Digest] | None
) -> Iterator[tuple[Descriptor, list[int]]]:
    """Each layer that is there more than once, with its places from 1: the same blob, or the same content in another
    compression, which Docker's ``RootFS.Layers`` shows as one (GKE's documentation compares those).

    diff_ids: of the image's config, one for each layer; None where it does not tell.
    """
    content = {
        layer.digest: key for layer, key in zip(layers, diff_ids or [each.digest for each in layers], strict=True)
    }
    keys = [content[layer.digest] for layer in layers]
    for key, count in Counter(keys).items():
        if count > 1:
            places = [number for number, each in enumerate(keys, 1) if each == key]
            yield layers[places[0] - 1], places
