"""Images with a config, made in a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from tests.scan.images import Files, make_tar


def push_configured(
    place: Place,
    layers: Sequence[Files],
    *,
    steps: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    tag: str = "",
) -> Descriptor:
    """An image of these layers, as plain tars. steps: ``created_by`` of each; config: what a container gets."""
    tars = [make_tar(each) for each in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "history": [{"created_by": step} for step in steps],
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
    }
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=push_blob(place, msgspec.json.encode(document), media_type=OCI_CONFIG),
            layers=tuple(push_blob(place, tar, media_type=OCI_LAYER) for tar in tars),
            annotations=dict(annotations) if annotations else None,
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor
