"""Scan an image: every platform's layers streamed once, their packages found, and the SBOM documents.

What a layer says is kept in the state folder by its digest and diffID, and what an image holds by its manifest's
digest: a layer that two images share is streamed once, and a second scan reads no layer.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import replaced
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import (
    Descriptor,
    ImageConfig,
    Manifest,
    decode_json,
    encode_json,
)
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.platforms import Entry, image_config, read_images
from registry_pipelines.registry.protocol import BlobReader, Place
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.threads import Pool

__all__ = ["cyclonedx", "read_cyclonedx", "scan_image"]

CACHE_FORMAT = 7
"""Part of the cache's paths; raised when reading a layer gives other facts than before."""

WORKERS = 4
"""Layers streamed at once, at most one a core: inflating and hashing release the interpreter lock."""

cyclonedx = write_cyclonedx

_T = TypeVar("_T", LayerContent, PlatformPackages)


def scan_image(
    place: Place, descriptor: Descriptor, *, state: Path, progress: Progress | None = None
) -> list[PlatformPackages]:
    """The packages of every image below a release that some client could start, in the index's order: several for one
    platform are several, and what only calls itself an attestation or an artifact is one too.

    descriptor: the release's top digest, an index or a manifest. state: the state folder; caches live in ``scan/``.
    Raises ManifestInvalid: not an image, or no image in the index; ClosureIncomplete: a piece is missing; LayerInvalid,
    DigestMismatch: damaged or hostile content; the RegistryError family.
    """
    top = place.registry.get_manifest(place.repository, descriptor.digest)
    images = read_images(place, top, configs=False)
    if not images:
        raise ManifestInvalid("there is no image in it", where=f"{place}@{descriptor.digest}")
    scanner = _Scanner(place, descriptor.digest, state / "scan" / f"v{CACHE_FORMAT}", progress or Silent())
    return [scanner.packages(image) for image in images]


class _Scanner:
    """One scan: where the image is, and where results are kept."""

    def __init__(self, place: Place, subject: Digest, cache: Path, progress: Progress) -> None:
        self._place = place
        self._subject = subject
        self._cache = cache
        self._progress = progress

    def packages(self, entry: Entry) -> PlatformPackages:
        image, manifest = entry.descriptor, entry.manifest
        known = self._read("images", image.digest, PlatformPackages)
        if known is not None:
            return msgspec.structs.replace(known, subject=self._subject)
        config = image_config(self._place, manifest)
        tree = merge_layers(self._layers(image, manifest, config))
        contents = find_components(tree)
        packages = PlatformPackages(
            subject=self._subject,
            manifest=image,
            platform=config.platform,
            components=tuple(contents.components),
            unknowns=tuple(contents.unknowns),
            created=config.created,
            left_out=tuple(contents.left_out),
        )
        self._write("images", image.digest, packages)
        return packages

    def _layers(self, image: Descriptor, manifest: Manifest, config: ImageConfig) -> list[LayerContent]:
        diff_ids = config.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise ManifestInvalid(
                f"the manifest has {count_text(len(manifest.layers), 'layer')}, "
                f"its config {count_text(len(diff_ids), 'diff_id')}",
                where=f"{self._place}@{image.digest}",
            )
        pairs = list(zip(diff_ids, manifest.layers, strict=True))
        unique = {_key(diff_id, layer): (diff_id, layer) for diff_id, layer in pairs}
        with Pool(min(WORKERS, os.cpu_count() or 1), "scan-layer") as pool:
            contents = dict(zip(unique, pool.map(self._layer, unique, unique.values()), strict=True))
        return [contents[_key(*pair)] for pair in pairs]

    def _layer(self, key: Digest, pair: tuple[Digest, Descriptor]) -> LayerContent:
        diff_id, layer = pair
        known = self._read("layers", key, LayerContent)
        task = f"scan {layer.digest.short}"
        if known is not None:
            self._progress.end(task, note="known")
            return known
        self._progress.begin(task, total_bytes=layer.size)
        where = f"{self._place}@{layer.digest}"
        with self._place.registry.open_blob(self._place.repository, layer.digest) as reader:
            counted = _Counted(reader, self._progress, task)
            walk = open_layer(counted, layer.media_type, where=where, expected=layer, diff_id=diff_id)
            content = read_layer(walk)
        self._write("layers", key, content)
        self._progress.end(task)
        return content

    def _path(self, kind: str, digest: Digest) -> Path:
        return self._cache / kind / digest.algorithm / f"{digest.hex}.json"

    def _read(self, kind: str, digest: Digest, shape: type[_T]) -> _T | None:
        """A kept result; None when there is none or it cannot be read (then it is made again)."""
        with suppress(OSError, ManifestInvalid):
            return decode_json(self._path(kind, digest).read_bytes(), shape)
        return None

    def _write(self, kind: str, digest: Digest, content: LayerContent | PlatformPackages) -> None:
        with replaced(self._path(kind, digest)) as temporary:
            temporary.write_bytes(encode_json(content))


def _key(diff_id: Digest, layer: Descriptor) -> Digest:
    """Names a layer's bytes and what its image says they unpack to: only both together were checked when it was read.
    By the diff_id alone, an image could name one that is known to be harmless for a layer of its own; Docker and
    containerd would refuse it when they unpack, containers/image (Podman, CRI-O) does not look (2026-11-28)."""
    return Digest.of(f"{diff_id} {layer.digest}".encode())


class _Counted:
    """A blob reader that tells how many bytes went through."""

    def __init__(self, reader: BlobReader, progress: Progress, task: str) -> None:
        self._reader = reader
        self._progress = progress
        self._task = task

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer)
        self._progress.advance(self._task, count)
        return count
