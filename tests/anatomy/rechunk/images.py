"""Rechunked images as independent programs see them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isal import igzip

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from tests.stream.lazy.stacks import described

Json = dict[str, str]


def manifest_at(place: Place, digest: Digest) -> Manifest:
    content = place.registry.get_manifest(place.repository, digest).content()
    assert isinstance(content, Manifest)
    return content


def image_layers(place: Place, digest: Digest) -> list[io.BytesIO]:
    """The tars of an image, base first."""
    blobs = [read_blob(place, layer, limit=1 << 30) for layer in manifest_at(place, digest).layers]
    return [io.BytesIO(gzip.decompress(blob)) for blob in blobs]


def unpacked_by_tar(place: Place, digest: Digest, folder: Path) -> dict[str, tuple[Any, ...]]:
    """What GNU tar makes of the layers, one above the other."""
    folder.mkdir()
    for tar in image_layers(place, digest):
        options = ["--same-owner", "--same-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
        subprocess.run(["tar", "-C", folder, *options, "-xf", "-"], input=tar.getvalue(), check=True, timeout=60)
    return {path.relative_to(folder).as_posix(): described(path) for path in folder.rglob("*")}


def push_archives(place: Place, archives: Sequence[Path], *, tag: str = "", labels: Json | None = None) -> Descriptor:
    """An image of these ``.tar.gz`` files, which are not loaded; its manifest's descriptor."""
    layers, diff_ids = [], []
    for archive in archives:
        with archive.open("rb") as file:
            digest = Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        with igzip.open(archive, "rb") as tar:
            diff_ids.append(f"sha256:{hashlib.file_digest(tar, 'sha256').hexdigest()}")
        layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=archive.stat().st_size)
        with archive.open("rb") as file:
            place.registry.upload_blob(place.repository, layer, file)
        layers.append(layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-11-23T10:00:00Z",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Labels": labels or {}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"COPY {each.name}"} for each in archives],
    }
    described = push_blob(place, json.dumps(config).encode(), media_type=OCI_CONFIG)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=OCI_MANIFEST, config=described, layers=tuple(layers))
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor
