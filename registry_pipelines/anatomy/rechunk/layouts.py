"""Which package goes into which layer, so that a package stays where it was in the last release.

Large packages have a layer each; small ones share layers that depend on their names alone, those of languages apart
from the distribution's; what no package lists has a layer for each class of files, and weights one for each folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from packaging.utils import canonicalize_name

from registry_pipelines.anatomy.rechunk.model import Layout, LayoutLayer
from registry_pipelines.build.buckets import BUCKETS, LARGE_WHEEL_BYTES, MAX_LAYERS, RESERVED_LAYERS
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.stream.model import RECHUNKED_LAYER

NAME_ANNOTATION = RECHUNKED_LAYER
PACKAGES_ANNOTATION = "registry-pipelines.rechunk.packages"
"""On the line of a layer in a manifest: what it is called, and its packages, separated by line feeds."""

LARGE_PACKAGE_BYTES = 2 * LARGE_WHEEL_BYTES
"""Unpacked; such a package has some ``LARGE_WHEEL_BYTES`` in a layer."""

OUTGROWN = 2
"""A package leaves the layer that it shares when it has become so many times as large as a large one: one that grows
and shrinks around the limit would move with each release."""

SYSTEM_BUCKETS = 8
_SYSTEM = ("deb", "rpm", "apk")
_LAST = "(application)"
_ORDER = ("(base OS)", "(runtime)", "(system libraries)", "(dependencies)", "(weights)", _LAST)


def package_of(owner: str, class_: str, path: str) -> str:
    """The name by which a package is known in all its versions. owner: as ``Owners`` tells it, empty for none."""
    if owner:
        kind, _, name = " ".join(owner.split()[:2]).partition(" ")
        # Projects change the spelling of their name from one version to the next, and stay one (PEP 503).
        return f"{kind} {canonicalize_name(name) if kind == 'python' else name}".rstrip()
    folder = _printable(path.rpartition("/")[0]).replace("\n", " ")
    return f"(weights) {folder}" if class_ == "weights" and folder else f"({class_})"


def plan_layout(sizes: Mapping[str, int], previous: Layout | None = None) -> Layout:
    """Layers for packages of these unpacked bytes. previous: the last release's; its packages stay in their layers, in
    their order, and new ones come behind. The application is always the last."""
    layers: dict[str, list[str]] = {}
    placed: set[str] = set()
    for layer in previous.layers if previous else ():
        if layer.name not in layers and len(layers) >= MAX_LAYERS:
            break  # a manifest that anybody wrote lends no more: overlayfs mounts some hundred
        for package in layer.packages:
            if package in sizes and package not in placed and not _has_outgrown(package, layer, sizes):
                layers.setdefault(layer.name, []).append(package)
                placed.add(package)
    new = [package for package in sizes if package not in placed]
    for package in _alone(new, sizes, _free(layers)):
        layers.setdefault(package, []).append(package)
        placed.add(package)
    for package in sorted(set(new) - placed):
        layers.setdefault(_shared(package), []).append(package)
    order = list(layers) if previous and previous.layers else sorted(layers, key=_rank)
    order.sort(key=lambda name: name == _LAST)
    return Layout(tuple(LayoutLayer(name, tuple(sorted(layers[name]))) for name in order))


def _has_outgrown(package: str, layer: LayoutLayer, sizes: Mapping[str, int]) -> bool:
    return layer.name != package and len(layer.packages) > 1 and sizes[package] >= OUTGROWN * LARGE_PACKAGE_BYTES


def _free(layers: Mapping[str, list[str]]) -> int:
    """Layers that may still be given to single packages: all that are shared may come, too."""
    alone = sum(1 for name, packages in layers.items() if packages == [name])
    return max(0, MAX_LAYERS - RESERVED_LAYERS - BUCKETS - SYSTEM_BUCKETS - len(_ORDER) - alone)


def _alone(new: Iterable[str], sizes: Mapping[str, int], room: int) -> list[str]:
    large = [each for each in new if each not in _ORDER and sizes[each] >= LARGE_PACKAGE_BYTES]
    chosen = sorted(large, key=lambda each: (-sizes[each], each))[:room]
    return sorted(chosen)


def _shared(package: str) -> str:
    """The layer of a package that has none of its own: by its name alone."""
    if package.startswith("("):
        return package.partition(")")[0] + ")"
    kind = package.partition(" ")[0]
    count, name = (SYSTEM_BUCKETS, "system") if kind in _SYSTEM else (BUCKETS, "language")
    return f"small {name} packages {hashlib.sha256(package.encode('utf-8', 'surrogateescape')).digest()[0] % count + 1}"


def _rank(name: str) -> tuple[int, int, str, int]:
    """What changes seldom comes first: a runtime unpacks again what stands behind a change."""
    text, _, number = name.rpartition(" ")
    own = (text, int(number)) if number.isdecimal() and len(number) < 9 else (name, 0)
    if name.startswith("small system"):
        return (1, 0, *own)
    if name in _ORDER:
        return ((0, 2, 2, 5, 6, 8)[_ORDER.index(name)], _ORDER.index(name), *own)
    if name.startswith("(weights)"):
        return (6, 1, *own)
    if name.startswith("small language"):
        return (4, 0, *own)
    return (1 if name.partition(" ")[0] in _SYSTEM else 3, 1, *own)


def layer_notes(layer: LayoutLayer) -> dict[str, str]:
    """The annotations of a layer's line."""
    return {NAME_ANNOTATION: _printable(layer.name), PACKAGES_ANNOTATION: _printable("\n".join(layer.packages))}


def layout_of(manifest: Manifest) -> Layout:
    """What the annotations of a manifest say; no layers for an image that was not rechunked."""
    found = []
    for line in manifest.layers:
        notes = line.annotations or {}
        if NAME_ANNOTATION in notes and PACKAGES_ANNOTATION in notes:
            found.append(LayoutLayer(notes[NAME_ANNOTATION], tuple(notes[PACKAGES_ANNOTATION].split("\n"))))
    return Layout(tuple(found))


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


__all__ = ["layer_notes", "layout_of", "package_of", "plan_layout"]
