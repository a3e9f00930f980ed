"""Put a set of weights into a registry as a plain image (``image_form``), from wherever a transfer reads, and hold one
against its own list."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.walk import LayerWalk, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, Counted, push_blob
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Place, Registry
from registry_pipelines.registry.tags import tag_content
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.uploads import Uploads, Wanted
from registry_pipelines.weights.image_form import ImageForm, LayerPlan, image_manifest, plan_layers
from registry_pipelines.weights.model import WeightFile
from registry_pipelines.weights.reading import FILES_AT_ONCE, Reading, wrong_content
from registry_pipelines.weights.to_registry import RegisteredWeights, carry_one
from registry_pipelines.weights.to_store import Source


def register_image(
    source: Source, place: Place, tag: str, *, platform: Platform, engine: Engine = PLAIN
) -> RegisteredWeights:
    """Have a set under a tag as an image, and a signature that fits beside it. The tag moves when all of it is there.

    All files are read twice: a layer's digest must be known before it is asked for, and it is none of the file's.
    platform: of the nodes that mount it. Raises InputError (a name that no layer can hold, too many files), and as
    :func:`~registry_pipelines.weights.to_registry.register_weights`.
    """
    plans = plan_layers(source.weights)
    goal, origin = engine.place(place), engine.place(source.place)
    with engine.opened() as state, Pool(FILES_AT_ONCE, "hash") as pool:
        reading = Reading(state, origin, engine)
        digests = list(pool.map(partial(_digest, reading, engine.progress), plans))
        layers = dict(zip(digests, plans, strict=True))
        config, manifest = image_manifest(source.weights, plans, digests, platform)
        made = Place(cast(Registry, _Layers(origin, layers)), "")
        wanted = [
            Wanted(made, Descriptor(media_type=media_types.OCI_LAYER, digest=digest, size=plan.size), _label(plan))
            for digest, plan in layers.items()
        ]
        brought = Uploads(state, goal, engine.progress).bring(wanted)
        push_blob(goal, config, media_type=media_types.OCI_CONFIG)
        source.check()
        tagged = tag_content(goal, manifest, tag)
        signature = carry_one(source, goal, manifest.descriptor)
        state.cancel_abandoned([goal.registry])
    return RegisteredWeights(
        manifest.descriptor,
        tagged.changed or signature == "attached",
        Counter(each.how for each in brought),
        sum(each.bytes_sent for each in brought),
        signature,
        tagged.replaced,
    )


def _label(plan: LayerPlan) -> str:
    more = f" and {len(plan.files) - 1} more" if len(plan.files) > 1 else ""
    return f"{plan.files[0].path}{more}"


def _digest(reading: Reading, progress: Progress, plan: LayerPlan) -> Digest:
    """Of a layer. Raises DigestMismatch where a file has other content than it is said to have."""
    whole, task = hashlib.sha256(), f"hash {_label(plan)}"
    progress.begin(task, total_bytes=plan.size)
    for piece in plan.pieces:
        if isinstance(piece, bytes):
            whole.update(piece)
        elif piece.size:
            own = piece.digest.hasher()
            for part in reading.parts(piece.descriptor):
                own.update(part)
                whole.update(part)
                progress.advance(task, len(part))
            if own.hexdigest() != piece.digest.hex:
                raise wrong_content(reading.place, piece.descriptor, piece.path, own.hexdigest())
    progress.end(task)
    return Digest(f"sha256:{whole.hexdigest()}")


class _Layers:
    """Layers that are made of the files of a place while they are read. Implements the reading part of Registry."""

    def __init__(self, source: Place, layers: Mapping[Digest, LayerPlan]) -> None:
        self.name, self._source, self._layers = source.registry.name, source, layers

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        if digest not in self._layers:
            raise NotFound(f"no layer has the digest {digest}", where=self.name)
        return _LayerReader(self._source, self._layers[digest], start, stop)

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return self._source.registry.capabilities(self._source.repository)


class _LayerReader:
    """Implements BlobReader: pieces one after another, files opened where they are reached."""

    def __init__(self, source: Place, plan: LayerPlan, start: int, stop: int | None) -> None:
        self._source, self._plan, self.start, self._position = source, plan, start, start
        self._stop = plan.size if stop is None else min(stop, plan.size)
        self._file: BlobReader | None = None

    @property
    def size(self) -> int | None:
        """See BlobReader."""
        return self._plan.size

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        buffer = buffer[: max(0, self._stop - self._position)]
        if not buffer:
            return 0
        number = bisect_right(self._plan.starts, self._position) - 1
        piece, behind = self._plan.pieces[number], self._position - self._plan.starts[number]
        if isinstance(piece, bytes):
            part = piece[behind : behind + len(buffer)]
            buffer[: len(part)] = part
            count = len(part)
        else:
            count = self._read_file(piece, behind, buffer[: piece.size - behind])
        self._position += count
        if self._position == self._plan.starts[number + 1]:
            self.close()
        return count

    def _read_file(self, file: WeightFile, behind: int, buffer: memoryview) -> int:
        if self._file is None:
            stop = min(file.size, behind + self._stop - self._position)
            registry, repository = self._source.registry, self._source.repository
            self._file = registry.open_blob(repository, file.digest, start=behind, stop=stop)
        return self._file.readinto(buffer)

    def close(self) -> None:
        """See BlobReader."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def faults_of_image(place: Place, layers: Sequence[Descriptor], form: ImageForm, progress: Progress) -> dict[str, str]:
    """Read all layers, and say of each file that is not there as it is listed why: ``missing`` or ``other content``.

    A layer that has something else beside its files counts against all of them: a runtime would unpack that, too.
    Raises the RegistryError family where the registry does not answer.
    """
    with Pool(FILES_AT_ONCE, "verify") as pool:
        found = pool.map(partial(_faults, place, form, progress), {each.digest: each for each in layers}.values())
        return {path: why for each in found for path, why in each.items()}


def _faults(place: Place, form: ImageForm, progress: Progress, layer: Descriptor) -> dict[str, str]:
    files = {each.path: each for each in form.weights.files if form.rows[each.path][0] == layer.digest}
    task, where = f"layer {layer.digest.short}", f"{place}@{layer.digest}"
    progress.begin(task, total_bytes=layer.size)
    try:
        with BlobStream(place, layer) as stream:
            counted = Counted(stream, progress, task)
            walk = open_layer(counted, layer.media_type, where=where, expected=layer, diff_id=layer.digest)
            wrong = set(_walked(walk, files, {path: form.rows[path][1] for path in files}))
            walk.finish()
    except NotFound:
        return dict.fromkeys(files, "missing")
    except ContentError:
        return dict.fromkeys(files, "other content")
    progress.end(task)
    if "" in wrong:
        return dict.fromkeys(files, "other content")
    return dict.fromkeys(wrong, "other content")


def _walked(walk: LayerWalk, files: Mapping[str, WeightFile], offsets: Mapping[str, int]) -> Iterator[str]:
    """Files that are otherwise than listed; an empty word for what is not listed at all."""
    left = dict(files)
    for entry in walk:
        if entry.kind == "directory" and any(path.startswith(f"{entry.name}/") for path in files):
            continue
        file = left.pop(entry.name, None)
        if file is None or entry.kind != "file" or entry.sparse:
            yield ""
            return
        right = entry.size == file.size and (entry.position == offsets[file.path] or not file.size)
        hashed = file.digest.hasher()
        for piece in entry.pieces():
            hashed.update(piece)
        if not right or hashed.hexdigest() != file.digest.hex:
            yield file.path
    yield from left


__all__ = ["faults_of_image", "register_image"]
