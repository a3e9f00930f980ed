"""Config and manifest of a rechunked image, from those of its origin: what nobody here knows stays as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from registry_pipelines.anatomy.rechunk.layouts import layer_notes
from registry_pipelines.anatomy.rechunk.model import LayoutLayer
from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, encode_json

CREATED_BY = "registry-pipelines rechunk"


def rechunked_config(origin: bytes, layers: Sequence[tuple[LayoutLayer, LayerDigests]]) -> bytes:
    """The config with other layers. Its history stays to be read, as steps without a layer, and each layer has a line
    behind it."""
    document: dict[str, Any] = json.loads(origin)
    document["rootfs"] = {"type": "layers", "diff_ids": [digests.diff_id for _, digests in layers]}
    before = [{**line, "empty_layer": True} for line in document.get("history") or () if isinstance(line, dict)]
    created = {"created": document["created"]} if isinstance(document.get("created"), str) else {}
    lines = [{**created, "created_by": f"{CREATED_BY}: {layer.name}"} for layer, _ in layers]
    document["history"] = before + lines
    return encode_json(document)


def rechunked_manifest(
    origin: bytes, config: Descriptor, layers: Sequence[tuple[LayoutLayer, LayerDigests]]
) -> ManifestBytes:
    """The manifest with other layers, whose lines say which packages are in each. Its types become OCI's."""
    document: dict[str, Any] = json.loads(origin)
    described = {"mediaType": media_types.OCI_CONFIG, "digest": config.digest, "size": config.size}
    lines = [
        {
            "mediaType": media_types.OCI_LAYER_GZIP,
            "digest": digests.digest,
            "size": digests.size,
            "annotations": layer_notes(layer),
        }
        for layer, digests in layers
    ]
    document |= {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": described, "layers": lines}
    raw = encode_json(document)
    return ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))
