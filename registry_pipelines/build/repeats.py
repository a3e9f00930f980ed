"""No layer twice: a base may hold a layer that the build would put on top again, or hold one twice by itself.

GKE fetches an image whole that has a layer twice or an empty one (``oci.layer.repeats``), and says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from registry_pipelines.build.bases import BaseImage
from registry_pipelines.build.builder import LayerRow
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.pushing import LayerJob
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.errors import ContentError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.repeats import EMPTY_DIFF_IDS, repeated_layers
from registry_pipelines.oci.layer.walk import Entry, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import BlobStream

FORMAT = 2
"""Of what the cache remembers; raised when a base is read otherwise."""

AGAIN = "again above what changed it"
"""The pax comment of a layer that stands in the base already, below another that changes its files."""


def base_warnings(image: BaseImage, platform: Platform) -> Iterator[str]:
    """What is said of a base that GKE would not stream, by layer."""
    where = f"base {image.reference}, {platform}"
    for layer, places in repeated_layers(image.manifest.layers, image.diff_ids):
        yield f"{where}: layers {', '.join(map(str, places))} are one layer, {layer.digest}: GKE streams no such image"
    for number, (layer, diff_id) in enumerate(zip(image.manifest.layers, image.diff_ids, strict=True), 1):
        if diff_id in EMPTY_DIFF_IDS:
            yield f"{where}: layer {number} is empty, {layer.digest}: GKE streams no such image"


def stands_in(image: BaseImage, row: LayerRow, cache: BuildCache) -> bool | None:
    """Whether what a layer of ours would bring is in the base as it is; None: the base has no such layer.

    False: a layer above it changes a path of it, or one of these cannot be read. They are read once, where there are
    any above, or the base has ours in another compression. Raises RegistryError.
    """
    layers = list(zip(image.manifest.layers, image.diff_ids, strict=True))
    places = [place for place, (layer, diff) in enumerate(layers) if row.digest == layer.digest or row.diff_id == diff]
    if not places:
        return None
    lowest, last = places[-1], len(layers) - 1
    if lowest == last and layers[lowest][0].digest == row.digest:
        return True
    key = f"untouched {FORMAT} {row.diff_id} {' '.join(str(layer.digest) for layer, _ in layers[lowest:])}"
    known = cache.fact(key)
    if not isinstance(known, bool):
        known = _untouched(image, layers[lowest:])
        cache.remember_fact(key, known)
    return known


def marked(job: LayerJob) -> LayerJob:
    """The same files in a layer of another digest."""

    def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
        writer.comment(AGAIN)
        job.write(writer, advance)

    return replace(job, key=hashlib.sha256(f"{AGAIN} {job.key}".encode()).hexdigest(), write=write)


def _untouched(image: BaseImage, layers: Sequence[tuple[Descriptor, Digest]]) -> bool:
    """Whether no later layer changes what the first one brings."""
    mine = _Paths()
    try:
        for entry in _entries(image, *layers[0]):
            mine.add(entry)
        return not any(mine.changed_by(entry) for layer in layers[1:] for entry in _entries(image, *layer))
    except ContentError:
        return False


def _entries(image: BaseImage, layer: Descriptor, diff_id: Digest) -> Iterator[Entry]:
    """What is in a layer of the base, which is what the config says of it. Raises LayerInvalid, DigestMismatch."""
    where = f"{image.place}@{layer.digest}"
    with BlobStream(image.place, layer) as reader:
        walk = open_layer(reader, layer.media_type, where=where, expected=layer, diff_id=diff_id)
        yield from walk
        walk.finish()


class _Paths:
    """What a layer brings."""

    def __init__(self) -> None:
        self._modes: dict[str, int | None] = {}
        """Modes of folders; None for all else."""
        self._parents: set[str] = {""}

    def add(self, entry: Entry) -> None:
        self._modes[entry.name] = entry.mode if entry.kind == "directory" else None
        parent = entry.name
        while (parent := parent.rpartition("/")[0]) not in self._parents:
            self._parents.add(parent)

    def changed_by(self, entry: Entry) -> bool:
        """Whether an entry of a later layer changes or hides any of it."""
        if entry.opaque is not None or entry.removed:
            hidden = entry.opaque if entry.opaque is not None else entry.removed
            return hidden in self._modes or hidden in self._parents
        if entry.kind == "directory":
            return entry.name in self._modes and self._modes[entry.name] != entry.mode
        return entry.name in self._modes or entry.name in self._parents
