"""No value of a secret leaves with an image: everything that would be pushed is read for it first.

``RUN --mount=type=secret`` keeps a secret out of a layer only as long as no step writes it somewhere: ``pip config``,
``git clone https://user:token@...`` and ``npm`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from registry_pipelines.build.dockerfile.image import MadeImage
from registry_pipelines.errors import ContentError
from registry_pipelines.oci.layer.walk import Entry, open_layer
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

SHORTEST_SECRET = 6
"""Shorter values stand in any layer by chance; of those, config and provenance alone are read."""


def check_leaks(made: MadeImage, statement: bytes, values: Sequence[str], progress: Progress) -> None:
    """Raise ContentError when a value of a secret stands in a config, a manifest, the provenance, or in the name or
    content of a file of a layer. Reads nothing where there are no secrets."""
    needles = [value.encode(errors="surrogateescape") for value in values if value]
    if not needles:
        return
    for image in made.images:
        for what, content in (("config", image.raw_config), ("manifest", image.stored.raw), ("provenance", statement)):
            if _holds(content, needles):
                raise _leaked(f"the {what} of {image.platform}", "An argument, a label or a step carries it: mount it")
    long = [needle for needle in needles if len(needle) >= SHORTEST_SECRET]
    layers = {layer.digest: layer for image in made.images for layer in image.manifest.layers}
    for layer in layers.values() if long else ():
        _check_layer(made.place, layer, long, progress)


def check_cache_leaks(folder: Path, values: Sequence[str], progress: Progress) -> None:
    """The same for a build cache that lies in a layout: the layers of all stages, also of those that the image has
    nothing of. Nothing where there is no cache."""
    needles = [value.encode(errors="surrogateescape") for value in values]
    long = [needle for needle in needles if len(needle) >= SHORTEST_SECRET]
    layout, place = Layout(folder), Place(LayoutRegistry(folder.parent), folder.name)
    for digest in layout.manifests() if long else ():
        content = place.registry.get_manifest(place.repository, digest).content()
        if not isinstance(content, Manifest):
            raise ContentError("the engine's cache is no image manifest, and cannot be read", where=str(folder))
        for layer in content.layers:
            _check_layer(place, layer, long, progress)


def _check_layer(place: Place, layer: Descriptor, needles: Sequence[bytes], progress: Progress) -> None:
    task = f"look for secrets in {layer.digest.short}"
    progress.begin(task, total_bytes=layer.size)
    with BlobStream(place, layer) as stream:
        walk = open_layer(Counted(stream, progress, task), layer.media_type, where=layer.digest, any_names=True)
        for entry in walk:
            if _holds(entry.blocks, needles):  # its name, what it links to, its extended attributes
                raise _leaked(f"the name of a file of layer {layer.digest.short}", _REMOVE)
            if _runs_through(entry, needles):
                raise _leaked(f"/{entry.name} of layer {layer.digest.short}", _REMOVE)
    progress.end(task)


_REMOVE = "Have the step that writes it remove it again before it ends, or give it to the program in another way"


def _runs_through(entry: Entry, needles: Sequence[bytes]) -> bool:
    """Whether a value stands in the content, also where a piece ends within it."""
    keep, before = max(map(len, needles)) - 1, b""
    for piece in entry.pieces():
        content = before + bytes(piece)
        if _holds(content, needles):
            return True
        before = content[-keep:] if keep else b""
    return False


def _holds(content: bytes, needles: Sequence[bytes]) -> bool:
    return any(needle in content for needle in needles)


def _leaked(where: str, do: str) -> ContentError:
    return ContentError("the value of a secret stands in the image; nothing was pushed", where=where, do=do)
