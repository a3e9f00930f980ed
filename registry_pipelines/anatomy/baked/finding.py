"""Weights in the layers of an image: which, how large, and what the image would be without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.baked.naming import (
    MAX_COMPANION_BYTES,
    common_folder,
    companions,
    links_to,
    name_of,
)
from registry_pipelines.anatomy.reading import read_layers
from registry_pipelines.anatomy.report import Anatomy, FilePart, LayerPart
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent, count_text, size_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.weights_found import MIN_WEIGHTS_BYTES
from registry_pipelines.stream.lazy.image import image_for

EXAMPLES = 3

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z")
"""Names of files that a start may unpack, and that may hold weights; wheels and checkpoints are others."""
MOST_ARCHIVES = 20
"""That are named; the largest ones."""


class BakedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file with weights, or one that goes with them."""

    path: str
    """In the image, where its bytes lie."""
    name: str
    """By which programs know it: ``path``, or a symbolic link to it."""
    also: tuple[str, ...] = ()
    """Hard links to it."""
    layer: int
    format: str
    """By its content; ``unknown``: its name alone says that it is weights. Empty of what goes with them."""
    size: int
    compressed: int
    """Its share of the layer as stored: exact of a plain tar, else an estimate."""
    pickle: bool = False
    """Whoever loads it may run what it holds."""
    by_name: bool = False
    """Its content alone does not say that it is weights."""
    gone: str = ""
    """``overwritten`` or ``deleted`` by a later layer: pulls move it, and no container sees it."""
    tensors: int = 0
    dtypes: dict[str, int] = {}


class BakedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer that has weights, and what to change."""

    number: int
    digest: str
    compressed: int
    weights: int
    """Unpacked bytes of weights and of what goes with them, of those too that are gone."""
    other_files: int
    other_bytes: int
    """Unpacked, of what else it holds."""
    made_by: str
    do: str


class Baked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one image. Sizes in bytes."""

    image: str
    digest: str
    platform: str
    compressed: int
    unpacked: int
    weights: int
    """Unpacked, of all its weights."""
    weights_compressed: int
    code: int
    """What the image would have as stored without them: an estimate where layers are compressed."""
    code_unpacked: int
    folder: str
    """Where the weights lie, with a leading slash: what a volume is mounted at. Empty: no folder but the root holds all
    of them."""
    hides: tuple[str, ...]
    """Some of the other files in this folder, which a volume there would hide."""
    pickles: int
    files: tuple[BakedFile, ...]
    """The largest first."""
    companions: tuple[BakedFile, ...]
    """What goes with them: configs, tokenizers, lists of shards."""
    layers: tuple[BakedLayer, ...]
    unread: tuple[str, ...]
    """What of the image was not looked at, and why; empty: all was."""

    @property
    def standing(self) -> tuple[BakedFile, ...]:
        """Weights that a container sees, and what goes with them."""
        return tuple(each for each in (*self.files, *self.companions) if not each.gone)


def find_weights(
    place: Place, selector: str, *, state: Path, platform: Platform | None = None, progress: Progress | None = None
) -> Baked:
    """Look for weights in an image; what was read of it before, by a scan or an anatomy, is not read again.

    selector: tag or digest. platform: this machine's unless told. Raises as ``image_anatomy``.
    """
    progress = progress or Silent()
    found = image_anatomy(place, selector, state=state, platform=platform, all_files=True, progress=progress)
    image = image_for(place, found.digest)
    read = read_layers(place, image.layers, state=state, progress=progress)
    return _baked(found, [each.content for each in read])


def _baked(found: Anatomy, contents: Sequence[LayerContent | None]) -> Baked:
    links = links_to(contents)
    weights = [part for part in found.files if part.class_ == "weights"]
    names = {id(part): name_of(part, links) for part in found.files}
    standing = [names[id(part)] for part in weights if not part.gone]
    known = {id(part) for part in weights}
    others = {
        names[id(part)]: part
        for part in found.files
        if id(part) not in known and not part.gone and part.size <= MAX_COMPANION_BYTES
    }
    beside = companions(standing, others)
    folder = common_folder([*standing, *beside])
    hidden = [path for path in sorted(others) if folder and path.startswith(f"{folder}/") and path not in beside]
    weighed = sum(part.size for part in weights)
    stored = sum(part.compressed for part in weights)
    return Baked(
        image=found.image,
        digest=found.digest,
        platform=found.platform,
        compressed=found.compressed,
        unpacked=found.unpacked,
        weights=weighed,
        weights_compressed=stored,
        code=max(found.compressed - stored, 0),
        code_unpacked=found.unpacked - weighed,
        folder=f"/{folder}" if folder else "",
        hides=tuple(f"/{path}" for path in hidden[:EXAMPLES]),
        pickles=sum(1 for part in weights if part.weights is not None and part.weights.pickle),
        files=tuple(_file(part, names[id(part)]) for part in sorted(weights, key=lambda part: (-part.size, part.path))),
        companions=tuple(_file(others[path], path) for path in sorted(beside)),
        layers=tuple(_layers(found, [*weights, *(others[path] for path in sorted(beside))])),
        unread=(*found.unread, *_archives(found)),
    )


def _archives(found: Anatomy) -> Iterator[str]:
    """What may hold weights and is not opened."""
    closed = [
        part
        for part in found.files
        if part.size >= MIN_WEIGHTS_BYTES
        and part.class_ != "weights"
        and not part.gone
        and part.path.lower().endswith(ARCHIVES)
    ]
    closed.sort(key=lambda part: (-part.size, part.path))
    for part in closed[:MOST_ARCHIVES]:
        yield f"{part.path} ({size_text(part.size)}), an archive"
    if len(closed) > MOST_ARCHIVES:
        yield count_text(len(closed) - MOST_ARCHIVES, "more archive")


def _file(part: FilePart, name: str) -> BakedFile:
    told = part.weights
    return BakedFile(
        path=part.path,
        name=name,
        also=part.also,
        layer=part.layer,
        format=told.format if told else "unknown" if part.class_ == "weights" else "",
        size=part.size,
        compressed=part.compressed,
        pickle=told is not None and told.pickle,
        by_name=part.class_ == "weights" and (told is None or told.by_name),
        gone=part.gone,
        tensors=told.tensors if told else 0,
        dtypes=dict(told.dtypes) if told else {},
    )


def _layers(found: Anatomy, parts: Sequence[FilePart]) -> list[BakedLayer]:
    """parts: weights, and what goes with them."""
    rows = []
    for layer in found.layers:
        own = [part for part in parts if part.layer == layer.number]
        if any(part.class_ == "weights" for part in own):
            weighed = sum(part.size for part in own)
            files, size = layer.files - len(own), sum(layer.classes.values()) - weighed
            rows.append(
                BakedLayer(
                    number=layer.number,
                    digest=layer.digest,
                    compressed=layer.compressed,
                    weights=weighed,
                    other_files=files,
                    other_bytes=size,
                    made_by=layer.made_by,
                    do=_do(layer, own, files, size),
                )
            )
    return rows


def _do(layer: LayerPart, own: Sequence[FilePart], files: int, size: int) -> str:
    """What to write in the Dockerfile instead."""
    line = " ".join(layer.made_by.removeprefix("/bin/sh -c ").removesuffix("# buildkit").split())
    copies = line.startswith(("COPY", "ADD", "#(nop) COPY", "#(nop) ADD"))
    rest = f"{count_text(files, 'other file')} ({size_text(size)})"
    if not line:
        return f"Leave out the instruction that brings {own[0].path}; the history of the image does not name it"
    if not files:
        return f"Leave this instruction out: `{line[:160]}`"
    if copies:
        weights = [part for part in own if part.class_ == "weights"]
        names = sorted(
            {f"**/*.{part.path.rpartition('.')[2]}" for part in weights if "." in part.path.rpartition("/")[2]}
        )
        listed = " ".join(names[:EXAMPLES]) or own[0].path
        return f"Keep `{line[:160]}` for its {rest}, and put the weights into .dockerignore: {listed}"
    return f"Take what fetches or writes the weights out of `{line[:160]}`; it brings {rest}, too"


__all__ = ["Baked", "BakedFile", "BakedLayer", "find_weights"]
