"""An image for drills that try clients alone: three layers, as any image has several, and nothing to start."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

LAYERS = 3
"""As many as clients fetch at once."""
LAYER_BYTES = 512 * 1024


def push_made(place: Place) -> Digest:
    """Put the image there, always the same for one platform: this machine's."""
    tars = [_tar(number) for number in range(LAYERS)]
    here = Platform.here()
    config = {
        "architecture": here.architecture,
        "os": here.os,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
    }
    if here.variant:
        config["variant"] = here.variant
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(
                push_blob(place, gzip.compress(tar, 1, mtime=0), media_type=media_types.OCI_LAYER_GZIP) for tar in tars
            ),
        )
    )
    place.registry.put_manifest(place.repository, manifest)
    return manifest.digest


def _tar(number: int) -> bytes:
    content = hashlib.shake_256(bytes([number])).digest(LAYER_BYTES)  # which gzip makes no smaller
    member = tarfile.TarInfo(f"drill/{number}")
    member.size = len(content)
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            tar.addfile(member, io.BytesIO(content))
        return stream.getvalue()


__all__ = ["LAYERS", "push_made"]
