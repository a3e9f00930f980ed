"""Scan an image: every platform's layers streamed once, their packages found, and the SBOM documents.

What was found is kept in the state folder: a layer that two images share is streamed once, and a second scan reads no
layer. A listing of each layer's entries is kept on the way, so that ``anatomy`` reads none. What else one pass can tell
(``LayerStore``) is kept where somebody will index it: to hash its files and spans takes a third more of the processor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.behind import in_turns
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.inflate import stops_at_blocks
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.walk import LayerWalk, open_layer
from registry_pipelines.oci.manifests import (
    Descriptor,
    ImageConfig,
    Manifest,
)
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.platforms import Entry, image_config, read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.kept import Kept
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.threads import Pool

__all__ = ["cyclonedx", "read_cyclonedx", "scan_image"]

WORKERS = 4
"""Layers streamed at once, at most one a core: inflating and hashing release the interpreter lock."""

cyclonedx = write_cyclonedx

_Key = tuple[Digest, Digest]
"""A layer's diffID and its digest."""


def scan_image(
    place: Place, descriptor: Descriptor, *, state: Path, records: bool = False, progress: Progress | None = None
) -> list[PlatformPackages]:
    """The packages of every image below a release that some client could start, in the index's order: several for one
    platform are several, and what only calls itself an attestation or an artifact is one too.

    descriptor: the release's top digest, an index or a manifest. state: the state folder; results live in ``scan/``.
    records: layers that are read leave their records in ``layers/``, for an image that is to be indexed; else listings.
    Raises ManifestInvalid: not an image, or no image in the index; ClosureIncomplete: a piece is missing; LayerInvalid,
    DigestMismatch: damaged or hostile content; the RegistryError family.
    """
    top = place.registry.get_manifest(place.repository, descriptor.digest)
    images = read_images(place, top, configs=False)
    if not images:
        raise ManifestInvalid("there is no image in it", where=f"{place}@{descriptor.digest}")
    store, full = LayerStore(state / "layers"), records and stops_at_blocks()
    scanner = _Scanner(place, descriptor.digest, Kept(state), store, progress or Silent(), full=full)
    return [scanner.packages(image) for image in images]


class _Scanner:
    """One scan: where the image is, and where results are kept."""

    def __init__(
        self, place: Place, subject: Digest, kept: Kept, store: LayerStore, progress: Progress, *, full: bool
    ) -> None:
        """full: layers leave records, not listings alone."""
        self._place = place
        self._subject = subject
        self._kept = kept
        self._store = store
        self._full = full
        self._progress = progress

    def packages(self, entry: Entry) -> PlatformPackages:
        image, manifest = entry.descriptor, entry.manifest
        known = self._kept.image(image.digest)
        if known is not None:
            return msgspec.structs.replace(known, subject=self._subject)
        config = image_config(self._place, manifest)
        digests = [layer.digest for layer in manifest.layers]
        tree = merge_layers(self._layers(image, manifest, config), digests)
        contents = find_components(tree)
        packages = PlatformPackages(
            subject=self._subject,
            manifest=image,
            platform=config.platform,
            components=tuple(contents.components),
            unknowns=tuple(contents.unknowns),
            created=config.created,
            left_out=tuple(contents.left_out),
            unattributed=contents.unattributed,
        )
        self._kept.keep_image(image.digest, packages)
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
        unique = {(diff_id, layer.digest): layer for diff_id, layer in pairs}
        cores = os.cpu_count() or 1
        with Pool(min(WORKERS, cores), "known-layer") as pool:
            contents = dict(zip(unique, pool.map(self._known, unique), strict=True))
        unread = in_turns(self._store.folder, [key for key in unique if contents[key] is None])
        # Two threads for one layer are slower together than two for two, where there are so many.
        read = partial(self._layer, alone=len(unread) < cores)
        with Pool(min(WORKERS, cores), "scan-layer") as pool:
            contents.update(zip(unread, pool.map(read, unread, (unique[key] for key in unread)), strict=True))
        return [content for diff_id, layer in pairs if (content := contents[diff_id, layer.digest])]

    def _known(self, key: _Key) -> LayerContent | None:
        content = self._kept.layer(*key)
        if content is not None:
            self._progress.end(_task(key), note="known")
        return content

    def _layer(self, key: _Key, layer: Descriptor, *, alone: bool) -> LayerContent:
        """alone: fewer layers are read than there are cores."""
        with self._store.turn(*key):
            return self._known(key) or self._read(key, layer, alone=alone)

    def _read(self, key: _Key, layer: Descriptor, *, alone: bool) -> LayerContent:
        diff_id, task = key[0], _task(key)
        self._progress.begin(task, total_bytes=layer.size)
        with (
            BlobStream(self._place, layer) as reader,
            Pool(1, "hash-layer") if alone else nullcontext() as beside,
            self._walk(Counted(reader, self._progress, task), layer, diff_id, beside) as walk,
        ):
            content = read_layer(walk)
        self._kept.keep_layer(diff_id, layer.digest, content)
        self._progress.end(task)
        return content

    @contextmanager
    def _walk(
        self, stream: Readable, layer: Descriptor, diff_id: Digest, beside: Executor | None
    ) -> Iterator[LayerWalk]:
        """One that also writes the layer's listing, or its record where that is wanted, if it is not there."""
        where = f"{self._place}@{layer.digest}"
        known = (self._store.get if self._full else self._store.listing)(diff_id, layer.digest)
        with nullcontext() if known else self._store.writing(listing=not self._full) as writer:
            yield open_layer(
                stream, layer.media_type, where=where, expected=layer, diff_id=diff_id, writer=writer, beside=beside
            )


def _task(key: _Key) -> str:
    return f"scan {key[1].short}"
