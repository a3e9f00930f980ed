"""Bring weights out of an image's layers: each file streamed from the layer to a registry or a folder.

Nothing is unpacked and nothing but what a folder is to have touches the disk; a layer is read once, to its end, and
both its digests are right before anything names what came of it. A second run remembers the digests of what the first
one took. Files of layers that were finished are passed over with their layers. A layer that was under way is read from
its beginning, since its digest is of all of it; but what its target has of it is not sent or written again: whole
files, and in a registry the parts of the one that was on its way.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from registry_pipelines.anatomy.baked.finding import Baked, BakedFile
from registry_pipelines.anatomy.baked.naming import common_folder
from registry_pipelines.errors import ContentError, InputError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.layer.walk import Entry, open_layer
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.blobs import BlobStream, Counted, push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import tag_content
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads
from registry_pipelines.weights.formats import HEAD_BYTES, kind_of
from registry_pipelines.weights.hashing import LIST_FILE, STAGING_FOLDER, digest_of
from registry_pipelines.weights.listed import list_of, write_list
from registry_pipelines.weights.model import (
    CONFIG_TYPE,
    RAW_TYPES,
    WeightFile,
    WeightSet,
    to_manifest,
    weight_set,
)
from registry_pipelines.weights.paths import fault_of_set
from registry_pipelines.weights.staging import staged_in

Write = Callable[[memoryview | bytes], object]


@dataclass(frozen=True)
class Moved:
    """What came of it. manifest: of the artifact that the files are, also where they went to a folder. sent: bytes that
    were sent or written. replaced: what the tag named before, where that was something else."""

    manifest: Descriptor
    weights: WeightSet
    sent: int
    changed: bool
    replaced: Digest | None = None


class _Known(msgspec.Struct, frozen=True):
    """What is remembered of one file of a layer. head: its first bytes, in hexadecimal."""

    digest: Digest
    size: int
    head: str


class _Goal(Protocol):
    """Where files go."""

    def has(self, name: str, known: _Known) -> bool:
        """Whether it has a file whose content is known from before."""
        ...

    def take(self, name: str, entry: Entry, again: Callable[[], Iterator[memoryview]], *, key: str) -> _Known:
        """Take a file that passes now. again: its content once more, from its beginning. key: another name for the very
        same bytes."""
        ...


def chosen(found: Baked, below: Sequence[str] = ()) -> dict[str, BakedFile]:
    """The files to move by their paths in the set, which begin below the folder that holds them all.

    below: only files in these folders of the image, or these files. Raises InputError: there is nothing to move, or
    names do not go into one set.
    """
    roots = [path.strip("/") for path in below]
    files = [each for each in found.standing if not roots or any(_is_below(each, root) for root in roots)]
    if not any(each.format for each in files):
        where = ", ".join(f"/{root}" for root in roots)
        raise InputError(
            "no weights were found " + (f"below {where}" if where else "in it"),
            where=found.image,
            do="`weights find` lists what is in the image",
        )
    folder = common_folder(each.name for each in files)
    named = {each.name[len(folder) + 1 if folder else 0 :]: each for each in files}
    fault = "two of them have one name" if len(named) < len(files) else fault_of_set(named)
    if fault:
        raise InputError(f"these weights do not go into one set: {fault}", where=found.image, do="Name some by --path")
    return named


def _is_below(each: BakedFile, root: str) -> bool:
    return any(path == root or path.startswith(f"{root}/") for path in (each.path, each.name))


def move_to_registry(
    place: Place,
    found: Baked,
    files: Mapping[str, BakedFile],
    target: Place,
    tag: str,
    *,
    state: Path,
    engine: Engine,
    progress: Progress | None = None,
) -> Moved:
    """Store the files as an artifact under a tag, which is written last. files: as ``chosen`` gives them. state: the
    state folder. Raises ContentError: a layer is not what was looked at; LayerInvalid, DigestMismatch, the
    RegistryError family, DiskFull, LocalError."""
    progress = progress or Silent()
    with engine.opened() as opened:
        own = engine.place(target)
        uploads = Uploads(opened, own, progress)
        goal = _ToRegistry(uploads)
        weights = _move(engine.place(place), found, files, goal, state, progress)
        push_blob(own, weights.config, media_type=CONFIG_TYPE)
        manifest = to_manifest(weights)
        tagged = tag_content(own, manifest, tag)
        opened.cancel_abandoned([own.registry])
    return Moved(manifest.descriptor, weights, goal.sent, tagged.changed or goal.sent > 0, tagged.replaced)


def move_to_folder(
    place: Place,
    found: Baked,
    files: Mapping[str, BakedFile],
    folder: Path,
    *,
    state: Path,
    progress: Progress | None = None,
) -> Moved:
    """Write the files into a folder, each whole or not at all, and their list last. Raises as ``move_to_registry``, and
    InputError for a folder that has other files."""
    with local_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise InputError("this is no folder", where=str(folder), do="Name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        own = {*files, LIST_FILE}
        there = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        others = (path for path in there if path.parts[0] != STAGING_FOLDER and str(path) not in own)
        if other := next(others, None):
            raise InputError(f"{other} is no part of these weights", where=str(folder), do="Name an empty folder")
    with staged_in(folder) as staging:
        try:
            goal = _ToFolder(folder, staging / "file")
            weights = _move(place, found, files, goal, state, progress or Silent())
            manifest = to_manifest(weights)
            write_list(folder, staging, list_of(weights, manifest.digest))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Moved(manifest.descriptor, weights, goal.sent, goal.sent > 0)


def _move(
    place: Place, found: Baked, files: Mapping[str, BakedFile], goal: _Goal, state: Path, progress: Progress
) -> WeightSet:
    image = image_for(place, found.digest)
    by_layer: dict[int, dict[str, BakedFile]] = defaultdict(dict)
    for name, each in files.items():
        by_layer[each.layer][name] = each
    known: dict[str, _Known] = {}
    for number, own in sorted(by_layer.items()):
        known |= _Layer(place, image, number, own, state, progress).move(goal)
    made = [_described(name, each) for name, each in known.items()]
    formats = [kind_of(name, bytes.fromhex(each.head), each.size) for name, each in known.items()]
    return weight_set(made, formats=[each.name for each in formats if each.kind == "weights"])


def _described(name: str, known: _Known) -> WeightFile:
    what = kind_of(name, bytes.fromhex(known.head), known.size)
    return WeightFile(name, known.digest, known.size, what.kind, RAW_TYPES[what.kind], untested=what.name == "unknown")


class _Layer:
    """One layer of which files are wanted, by the names that they get."""

    def __init__(
        self,
        place: Place,
        image: NodeImage,
        number: int,
        files: Mapping[str, BakedFile],
        state: Path,
        progress: Progress,
    ) -> None:
        self._place, self._files, self._progress = place, files, progress
        self._layer, self._diff_id = image.layers[number - 1]
        self._note = state / "weights" / "baked" / f"{self._layer.digest.hex}.json"
        self._aside = self._note.with_suffix(".part.json")
        """The same of a layer that is not read to its end, whose digest therefore says nothing yet."""

    def move(self, goal: _Goal) -> dict[str, _Known]:
        """By name, all of them."""
        remembered, taken = _remembered(self._note), _remembered(self._aside)
        there = {
            name: remembered[each.path]
            for name, each in self._files.items()
            if each.path in remembered and goal.has(name, remembered[each.path])
        }
        left = {name: each for name, each in self._files.items() if name not in there}
        if not left:
            return there
        # A tar has the content under one of the names of a file, whichever was written first.
        by_path = {path: name for name, each in left.items() for path in (each.path, *each.also)}
        moved: dict[str, _Known] = {}
        task = f"layer {self._layer.digest.short}"
        self._progress.begin(task, total_bytes=self._layer.size)
        with BlobStream(self._place, self._layer) as stream:
            walk = open_layer(
                Counted(stream, self._progress, task),
                self._layer.media_type,
                where=f"{self._place}@{self._layer.digest}",
                expected=self._layer,
                diff_id=self._diff_id,
            )
            for entry in walk:
                path = _shown(entry.name)
                if entry.kind == "file" and (name := by_path.get(path)):
                    if entry.sparse:
                        raise ContentError(
                            f"{path} is stored sparse, without its zeros, which is not read",
                            where=f"{self._place}@{self._layer.digest}",
                            do="Bring the others out by --path, and this one from a container",
                        )
                    known = taken.get(left[name].path)
                    if known and goal.has(name, known):
                        moved[name] = self._passed(name, entry, known)
                        continue
                    key = f"{self._layer.digest} {left[name].path}"
                    moved[name] = goal.take(name, entry, partial(self._again, entry.position), key=key)
                    taken[left[name].path] = moved[name]
                    _remember(self._aside, taken)
            walk.finish()
        self._progress.end(task)
        if missing := sorted(left.keys() - moved.keys()):
            raise ContentError(f"{missing[0]} is not in this layer", where=f"{self._place}@{self._layer.digest}")
        _remember(self._note, remembered | {left[name].path: known for name, known in moved.items()})
        with local_errors(self._aside):
            self._aside.unlink(missing_ok=True)
        return there | moved

    def _passed(self, name: str, entry: Entry, known: _Known) -> _Known:
        """What the target has of an earlier run, held against what passes now. Raises ContentError."""
        if _pass(entry.pieces(), lambda _: None) != known:
            with local_errors(self._aside):
                self._aside.unlink(missing_ok=True)
            raise ContentError(
                f"{name} has other bytes now than when it was taken before; one of the two was damaged on its way",
                where=f"{self._place}@{self._layer.digest}",
                do="Run it again: all of this layer is taken anew",
            )
        return known

    def _again(self, position: int) -> Iterator[memoryview]:
        """The content that begins there in the tar, once more, in a stream of its own. It is read to its end, since the
        layer's digests alone say that these are the bytes that passed before."""
        with BlobStream(self._place, self._layer) as stream:
            walk = open_layer(
                stream,
                self._layer.media_type,
                where=f"{self._place}@{self._layer.digest}",
                expected=self._layer,
                diff_id=self._diff_id,
            )
            for entry in walk:
                if entry.position == position and entry.kind == "file":
                    yield from entry.pieces()
            walk.finish()


def _remembered(note: Path) -> dict[str, _Known]:
    with suppress(OSError, ManifestInvalid):
        return decode_json(note.read_bytes(), dict[str, _Known])
    return {}


def _remember(note: Path, known: Mapping[str, _Known]) -> None:
    with local_errors(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_file(note, encode_json(dict(known)))


def _shown(path: str) -> str:
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Hashed:
    """What passed: its digest, size and first bytes."""

    def __init__(self) -> None:
        self._hash, self._size, self._head = hashlib.sha256(), 0, b""

    def add(self, piece: memoryview | bytes) -> None:
        self._hash.update(piece)
        self._size += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(piece[: HEAD_BYTES - len(self._head)])

    def known(self) -> _Known:
        return _Known(Digest(f"sha256:{self._hash.hexdigest()}"), self._size, self._head.hex())


def _pass(pieces: Iterator[memoryview], write: Write) -> _Known:
    hashed = _Hashed()
    for piece in pieces:
        hashed.add(piece)
        write(piece)
    return hashed.known()


class _ToRegistry:
    """Implements _Goal."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self.sent = 0

    def has(self, name: str, known: _Known) -> bool:
        return self._uploads.find(known.digest, known.size) is not None

    def take(self, name: str, entry: Entry, again: Callable[[], Iterator[memoryview]], *, key: str) -> _Known:
        came: list[_Known] = []
        there: list[int] = [0]
        pieces = [entry.pieces]

        def produce(write: Write) -> Descriptor:
            # A registry that lost the session gets the file anew: bytes of it have passed, so the layer is read again.
            if not pieces:
                there.append(0)
            came.append(_pass(pieces.pop()() if pieces else again(), write))
            return Descriptor(media_type="application/octet-stream", digest=came[-1].digest, size=came[-1].size)

        self._uploads.produce(f"weights {key}", produce, resumed=there.append)
        self.sent += came[-1].size - there[-1]
        return came[-1]


class _ToFolder:
    """Implements _Goal."""

    def __init__(self, folder: Path, fresh: Path) -> None:
        """fresh: where a file lies until it is whole; one at a time."""
        self._folder, self._fresh = folder, fresh
        self.sent = 0

    def has(self, name: str, known: _Known) -> bool:
        path = self._folder / name
        return path.is_file() and path.stat().st_size == known.size and digest_of(path) == known.digest

    def take(self, name: str, entry: Entry, again: Callable[[], Iterator[memoryview]], *, key: str) -> _Known:
        path = self._folder / name
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._folder / LIST_FILE).unlink(missing_ok=True)  # it is written again when all files are there
            with self._fresh.open("wb") as file:
                known = _pass(entry.pieces(), file.write)
            self._fresh.replace(path)
        self.sent += known.size
        return known


__all__ = ["Moved", "chosen", "move_to_folder", "move_to_registry"]
