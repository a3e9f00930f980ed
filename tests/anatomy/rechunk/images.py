"""Rechunked images as independent programs see them."""

from __future__ import annotations

import gzip
import io
import subprocess
from pathlib import Path
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from tests.stream.lazy.stacks import described


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
