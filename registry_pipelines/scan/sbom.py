"""Scan an image: every platform's layers streamed once, their packages found, and the SBOM documents.

What a layer says is kept in the state folder by its diffID, and what an image holds by its manifest's digest: a layer
that two images share is streamed once, and a second scan reads no blob.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layers import open_layer
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    Descriptor,
    ImageConfig,
    Manifest,
    decode_json,
    encode_json,
    read_image_config,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.interface import BlobReader, Place
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.interface import PlatformPackages
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.state import replaced

__all__ = ["cyclonedx", "read_cyclonedx", "scan_image"]

CACHE_FORMAT = 2
"""Part of the cache's paths; raised when reading a layer gives other facts than before."""

MAX_MANIFESTS = 512
"""Manifests and indexes below one release that are opened; official images have about 40 with their attestations."""

WORKERS = 4
"""Layers streamed at once, at most one a core: inflating and hashing release the interpreter lock."""

cyclonedx = write_cyclonedx

_T = TypeVar("_T", LayerContent, PlatformPackages)


def scan_image(
    place: Place, descriptor: Descriptor, *, state: Path, progress: Progress | None = None
) -> list[PlatformPackages]:
    """The packages of every platform of an image, in the index's order.

    descriptor: the release's top digest, an index or a manifest. state: the state folder; caches live in ``scan/``.
    Children of an index that are no images (attestations) are passed over. Raises ManifestInvalid: not an image, or
    no image in the index; LayerInvalid, DigestMismatch: damaged or hostile content; the RegistryError family.
    """
    images = list(_images(place, descriptor, 0, set()))
    if not images:
        raise ManifestInvalid("there is no image in it", where=f"{place}@{descriptor.digest}")
    scanner = _Scanner(place, descriptor.digest, state / "scan" / f"v{CACHE_FORMAT}", progress or Silent())
    return [scanner.packages(image, manifest) for image, manifest in images]


def _images(
    place: Place, descriptor: Descriptor, depth: int, opened: set[Digest]
) -> Iterator[tuple[Descriptor, Manifest]]:
    """Every image manifest below a descriptor, each once, in the order of the indexes."""
    where = f"{place}@{descriptor.digest}"
    if depth > MAX_DEPTH:
        raise ManifestInvalid(f"indexes are nested deeper than {MAX_DEPTH}", where=where)
    if len(opened) >= MAX_MANIFESTS:
        raise ManifestInvalid(f"there are more than {MAX_MANIFESTS} manifests below the release", where=where)
    opened.add(descriptor.digest)
    stored = place.registry.get_manifest(place.repository, descriptor.digest)
    content = stored.content()
    if isinstance(content, Manifest):
        if _is_image(content):
            yield stored.descriptor, content
        return
    for child in content.manifests:
        if child.is_manifest and child.digest not in opened:
            yield from _images(place, child, depth + 1, opened)


def _is_image(manifest: Manifest) -> bool:
    """BuildKit's attestation manifests have an image config too; only their layers tell (platform and annotations
    could be set on a real image to keep it from being scanned)."""
    attestation = bool(manifest.layers) and all(layer.media_type == media_types.IN_TOTO for layer in manifest.layers)
    return manifest.is_image and not attestation


class _Scanner:
    """One scan: where the image is, and where results are kept."""

    def __init__(self, place: Place, subject: Digest, cache: Path, progress: Progress) -> None:
        self._place = place
        self._subject = subject
        self._cache = cache
        self._progress = progress

    def packages(self, image: Descriptor, manifest: Manifest) -> PlatformPackages:
        kept = self._read("images", image.digest, PlatformPackages)
        if kept is not None:
            return msgspec.structs.replace(kept, subject=self._subject)
        raw = read_blob(self._place, manifest.config, limit=MAX_CONFIG_BYTES)
        config = read_image_config(raw, where=f"{self._place}@{manifest.config.digest}")
        tree = merge_layers(self._layers(image, manifest, config))
        components, unknowns = find_components(tree)
        packages = PlatformPackages(
            subject=self._subject,
            manifest=image,
            platform=Platform(os=config.os, architecture=config.architecture, variant=config.variant),
            components=tuple(components),
            unknowns=tuple(unknowns),
            created=config.created,
        )
        self._write("images", image.digest, packages)
        return packages

    def _layers(self, image: Descriptor, manifest: Manifest, config: ImageConfig) -> list[LayerContent]:
        diff_ids = config.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise ManifestInvalid(
                f"the manifest has {len(manifest.layers)} layers, its config {len(diff_ids)} diff_ids",
                where=f"{self._place}@{image.digest}",
            )
        unique = dict(zip(diff_ids, manifest.layers, strict=True))
        with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1), "scan-layer") as pool:
            contents = dict(zip(unique, pool.map(self._layer, unique.values(), unique), strict=True))
        return [contents[diff_id] for diff_id in diff_ids]

    def _layer(self, layer: Descriptor, diff_id: Digest) -> LayerContent:
        kept = self._read("layers", diff_id, LayerContent)
        task = f"scan {layer.digest.short}"
        if kept is not None:
            self._progress.end(task, note="known")
            return kept
        self._progress.begin(task, total_bytes=layer.size)
        where = f"{self._place}@{layer.digest}"
        with self._place.registry.open_blob(self._place.repository, layer.digest) as reader:
            counted = _Counted(reader, self._progress, task)
            walk = open_layer(counted, layer.media_type, where=where, expected=layer, diff_id=diff_id)
            content = read_layer(walk)
        self._write("layers", diff_id, content)
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
