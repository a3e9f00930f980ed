"""The base images that the demonstration's sync takes: four versions in one repository, made here, always the same."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile

import msgspec

from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, EmbeddedRegistry
from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

REPOSITORY = "demo/base"
"""Only a sync that names exactly this repository of an embedded registry gets these images."""
VERSIONS = ("1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0")
SHARED_BYTES = 4 * 1024 * 1024
OWN_BYTES = 256 * 1024
"""Of the layer that all versions have, and of each version's own."""


class DemoBases(msgspec.Struct, frozen=True):
    """The base images in one registry. changed: they were pushed now."""

    sync: str
    registry: str
    address: str
    """Of the repository."""
    versions: tuple[str, ...]
    changed: bool

    def sentence(self) -> str:
        """For people."""
        return f"{self.address}: {', '.join(self.versions)}" + ("" if self.changed else ", there before")


def push_demo_bases(config: Config, chain: Chain) -> list[DemoBases]:
    """Push the base images where a sync of the configuration wants them and they are not yet; where they are then.
    Raises RegistryError."""
    found = []
    for name, sync in config.syncs.items():
        if REPOSITORY in sync.repositories and isinstance(config.registries[sync.source], EmbeddedRegistry):
            place = Place(chain.registry(sync.source), REPOSITORY)
            before = _is_there(place)
            for version in VERSIONS if not before else ():
                _push(place, version)
            found.append(DemoBases(name, sync.source, str(place), VERSIONS, not before))
    return found


def _is_there(place: Place) -> bool:
    try:
        place.registry.resolve(place.repository, VERSIONS[-1])
    except NotFound:
        return False
    return True


def _push(place: Place, version: str) -> None:
    layers = [_layer("opt/base/shared.bin", SHARED_BYTES), _layer(f"opt/base/{version}.bin", OWN_BYTES)]
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers]},
    }
    image = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(settings).encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(_stored(place, tar) for tar in layers),
        )
    )
    place.registry.put_manifest(place.repository, image, tag=version)
    notes = f"Base image {version} of the demonstration.\n".encode()
    attach(place, subject=image.descriptor, artifact_type="text/markdown", content=notes, media_type="text/markdown")


def _stored(place: Place, tar: bytes) -> Descriptor:
    return push_blob(place, gzip.compress(tar, 1, mtime=0), media_type=media_types.OCI_LAYER_GZIP)


def _layer(path: str, size_bytes: int) -> bytes:
    """A tar with one file that does not compress; its name alone decides the content."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        entry = tarfile.TarInfo(path)
        entry.size = size_bytes
        archive.addfile(entry, io.BytesIO(random.Random(path).randbytes(size_bytes)))  # noqa: S311 - no secret
    return written.getvalue()
