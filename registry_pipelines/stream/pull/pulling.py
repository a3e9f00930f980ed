"""A whole image as a folder: fetched, verified, unpacked and merged, under its name once all of it is right."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.image import NodeImage
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.tree import Tree
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.stream.pull.building import RootBuilder
from registry_pipelines.stream.pull.entries import read_entries
from registry_pipelines.stream.pull.fetching import LAYERS_AT_ONCE, MEMORY_BYTES, BlobFlow
from registry_pipelines.stream.pull.room import Room
from registry_pipelines.stream.pull.stored import StoredLayers
from registry_pipelines.stream.pull.unpacking import ENTRIES, FILES, Wanted, unpack_layer
from registry_pipelines.stream.pull.workplace import Workplace
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.memory import PartMemory

_Layer = tuple[Descriptor, Digest]


@dataclass
class Pulled:
    """What a pull did. Sizes in bytes."""

    image: Digest
    """The manifest of the platform."""
    to: str
    layers: int = 0
    """Different ones."""
    fetched_bytes: int = 0
    kept_layers: int = 0
    """Those of a pull before this one, that was not finished."""
    stored_layers: int = 0
    """Those that this machine had from a mount."""
    files: int = 0
    content_bytes: int = 0
    seconds: float = 0.0
    left_out: dict[str, int] = field(default_factory=dict)
    """Files that lack something which only root may set, by what it is."""
    notes: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    """What the image's config says of how it is started."""


def check_layers(image: NodeImage) -> None:
    """Raises LayerInvalid for an image that cannot be pulled whole: a layer is encrypted, kept elsewhere by its
    publisher, or of a type that nobody here can read."""
    for layer, _ in image.layers:
        if refused := unreadable(layer):
            raise LayerInvalid(
                f"the image cannot be pulled, for a layer cannot be read: {refused.detail}",
                where=f"{image.place}@{layer.digest}",
            )


def pull_to_folder(
    image: NodeImage, folder: Path, *, state: Path | None = None, progress: Progress | None = None
) -> Pulled:
    """Make the image's root file system in a folder that is empty or not there; it has its name when all is right.

    Each layer is held against its digest and its diffID. Layers that a pull before this one finished are not fetched
    again, and neither are those that this machine holds whole. state: the folder with what this node keeps of layers;
    None to look at none.

    Raises InputError, StateLocked (``Workplace``); LayerInvalid, DigestMismatch: a layer is not what the image says, or
    cannot be unpacked; DiskFull, LocalError; the RegistryError family. Nothing has the folder's name then; what is
    whole is kept beside it for the next try.
    """
    began = time.monotonic()
    check_layers(image)
    with Workplace(folder) as work:
        work.begin(image.descriptor.digest)
        pulled = _Pull(image, work, state, progress or Silent()).run()
        work.finish()
    pulled.seconds = time.monotonic() - began
    return pulled


class _Pull:
    """One pull into a folder."""

    def __init__(self, image: NodeImage, work: Workplace, state: Path | None, progress: Progress) -> None:
        self._image, self._work, self._progress = image, work, progress
        self._layers: list[_Layer] = list(dict.fromkeys(image.layers))
        self._memory = PartMemory(MEMORY_BYTES)
        self._stopped = threading.Event()
        self._stored = (
            StoredLayers(LayerStore(state / "layers"), BlockStore(state / "lazy" / "blocks")) if state else None
        )
        self._lock = threading.Lock()
        self.pulled = Pulled(
            image.descriptor.digest, str(work.target), layers=len(self._layers), config=dict(image.config.config or {})
        )

    def run(self) -> Pulled:
        """Do all of it but for the name."""
        tree = self._known_tree()
        self._fetch(tree)
        tree = tree or merge_layers([read_entries(self._folder(each) / ENTRIES) for each in self._image.layers])
        self._build(tree)
        if self._image.place.registry.capabilities(self._image.place.repository).range_reads is False:
            self.pulled.notes.append("the registry answers no range requests, so each layer came over one connection")
        return self.pulled

    def _known_tree(self) -> Tree | None:
        """Where this machine has read all layers before: then files that do not show need not be written."""
        files = self._stored.files(self._image.layers) if self._stored else None
        return merge_layers(files) if files else None

    def _folder(self, layer: _Layer) -> Path:
        return self._work.layer(*layer)

    def _fetch(self, tree: Tree | None) -> None:
        """Have each layer in its folder, verified."""
        contents = f"of {self._image.descriptor.digest}" if tree else "all"
        left = [each for each in self._layers if not self._work.is_whole(self._folder(each), contents)]
        self.pulled.kept_layers = len(self._layers) - len(left)
        left.sort(key=lambda each: each[0].size, reverse=True)
        room = Room(self._work.path, sum(layer.size for layer, _ in left))
        wanted = _wanted(tree, self._image.layers) if tree else dict.fromkeys(self._layers, _everything)
        with Pool(LAYERS_AT_ONCE, "pull") as pool:
            waiting = [pool.submit(self._layer, each, wanted[each], contents, room) for each in left]
            errors = [error for each in waiting if (error := each.exception())]
        for error in sorted(errors, key=lambda each: isinstance(each, CancelledError)):
            raise error  # what stopped the others comes first

    def _layer(self, layer: _Layer, wanted: Wanted, contents: str, room: Room) -> None:
        folder, (blob, diff_id) = self._folder(layer), layer
        self._work.fresh(folder)
        try:
            if self._stored and self._stored.copy(blob, diff_id, folder, wanted=wanted, written=room.written):
                room.came(blob.size)
                with self._lock:
                    self.pulled.stored_layers += 1
            else:
                self._work.fresh(folder)
                self._one(blob, diff_id, folder, wanted, room)
            self._work.keep(folder, contents)
        except Exception:
            self._stopped.set()
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _one(self, blob: Descriptor, diff_id: Digest, folder: Path, wanted: Wanted, room: Room) -> None:
        task = f"pull {blob.digest.short}"
        place = self._image.place
        self._progress.begin(task, total_bytes=blob.size)
        with BlobFlow(place, blob, self._memory, self._progress, task, self._stopped) as flow:
            told = 0

            def written(byte_count: int) -> None:
                nonlocal told
                room.came(flow.byte_count - told)
                told = flow.byte_count
                room.written(byte_count)

            where = f"{place}@{blob.digest}"
            unpack_layer(flow, blob, diff_id, folder, wanted=wanted, written=written, where=where)
            room.came(flow.byte_count - told)
            with self._lock:
                self.pulled.fetched_bytes += flow.byte_count
        self._progress.end(task)

    def _build(self, tree: Tree) -> None:
        with ExitStack() as opened, local_errors(self._work.path):
            root = self._work.build()
            opened.callback(os.close, root)
            folders = {each: opened.enter_context(_opened(self._folder(each) / FILES)) for each in self._layers}
            builder = RootBuilder(tree, root, [folders[each] for each in self._image.layers])
            self.pulled.left_out = {what: count for what, count in builder.build().items() if count}
            self.pulled.files, self.pulled.content_bytes = builder.files, tree.content_bytes


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _everything(position: int) -> bool:
    return True


def _wanted(tree: Tree, layers: Sequence[_Layer]) -> Mapping[_Layer, Wanted]:
    """Of each layer, whether a content of it shows."""
    shown: dict[_Layer, set[int]] = {each: set() for each in layers}
    for inode in tree:
        if inode.size:
            shown[layers[inode.layer]].add(inode.position)
    return {layer: positions.__contains__ for layer, positions in shown.items()}


__all__ = ["Pulled", "check_layers", "pull_to_folder"]
