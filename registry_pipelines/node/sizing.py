"""How large the disk for a node's images is to be, and at what fill kubelet may clear it: arithmetic alone.

kubelet clears images (those that no container uses, the longest unused first) once the disk is filled to
``imageGCHighThresholdPercent``, until it is filled to ``imageGCLowThresholdPercent`` (Kubernetes, "Garbage
collection"). So all images that the node is to keep must lie below the low one, and a new release beside them below the
high one: else kubelet clears what the next pod needs, and pulls it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import decode_json

GIB = 1 << 30
HIGH_PERCENT = 85
"""kubelet's own default, and the most that GKE takes."""
LEAST_PERCENT = 10
"""The least that GKE takes."""
EVICTED_PERCENT = 10
"""Of the disk free: with less kubelet ends pods. Less than what is free when it begins to clear images."""
LEAST_GIB = 20
"""What is computed is not below: smaller disks are not worth a decision. One that is there may be smaller."""
WRITABLE = 10 * GIB
"""What containers write beside volumes, with their logs, unless told."""

Way = Literal["whole", "filled", "lazy"]
WAYS: dict[Way, str] = {
    "whole": "pulled by containerd: compressed layers and unpacked files",
    "filled": "served lazily, the rest fetched later (`node serve`)",
    "lazy": "served lazily, nothing fetched ahead (`node serve --no-fill`)",
}


class LayerSize(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a layer. digest: of what is stored; diff_id: of what it unpacks to."""

    digest: Digest
    diff_id: Digest
    compressed: int
    unpacked: int
    exact: bool
    """False where the unpacked size was estimated."""


class ImageSize(msgspec.Struct, frozen=True, kw_only=True):
    """An image of a node, of one platform."""

    name: str
    digest: Digest
    """Of the platform's manifest."""
    layers: tuple[LayerSize, ...]
    form: str = ""
    """How it can be served lazily; empty where it cannot."""
    first: int = 0
    """Bytes that are fetched until it computes, of its hot packs where there are any."""
    packed: bool = False
    """True where ``first`` comes from hot packs; else it is estimated."""

    @property
    def compressed(self) -> int:
        """Of all layers."""
        return sum(each.compressed for each in self.layers)

    @property
    def unpacked(self) -> int:
        """Likewise."""
        return sum(each.unpacked for each in self.layers)

    @property
    def exact(self) -> bool:
        """Whether nothing of it was estimated but ``first``."""
        return all(each.exact for each in self.layers)


class UnreadImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose sizes could not be had: the disk has no room for it. error: class of what came."""

    name: str
    error: str
    what: str
    exit_code: int


class NodeDisk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk of a node's container runtime. Bytes, GiB (2**30), percent of the disk."""

    way: Way
    images: int
    """Bytes of all images, each layer once."""
    largest: int
    """Of the largest image, which comes as a new release beside the old one."""
    writable: int
    volume_gib: int
    gc_low_percent: int
    gc_high_percent: int = HIGH_PERCENT
    evicted_percent: int = EVICTED_PERCENT
    fits: bool = True
    """False where the disk was given and is too small."""


class NodeSize(msgspec.Struct, frozen=True, kw_only=True):
    """What ``node size`` answers."""

    platform: str
    images: tuple[ImageSize, ...]
    disk: NodeDisk
    """In the way that was asked for."""
    others: tuple[NodeDisk, ...]
    """In the other ways, for comparison."""
    unread: tuple[UnreadImage, ...] = ()
    """Named, and in none of these numbers."""


class _Document(msgspec.Struct, frozen=True):
    """What the command prints: see ``cli.envelope``."""

    result: NodeSize


def read_size(path: Path) -> NodeSize:
    """What ``node size --json`` printed. Raises LocalError, InputError."""
    with local_errors(path):
        raw = path.read_bytes()
    try:
        return decode_json(raw, _Document).result
    except ManifestInvalid as error:
        raise InputError(
            "is not what `node size --json` writes", where=f"{path}: {error.what}", do="Write it again"
        ) from None


def bytes_of(images: Iterable[ImageSize], way: Way) -> int:
    """What these images take on a disk, each layer once, in one way. What cannot be served lazily is pulled."""
    images = list(images)
    pulled = [each for each in images if way == "whole" or not each.form]
    served = [each for each in images if way != "whole" and each.form]
    blobs = {layer.digest: layer.compressed for image in pulled for layer in image.layers}
    # containerd's snapshots and the agent's store are two places: a layer of both kinds of images is in both.
    files = {layer.diff_id: layer.unpacked for image in pulled for layer in image.layers}
    total = sum(blobs.values()) + sum(files.values())
    if way == "lazy":
        return total + sum(each.first for each in served)
    return total + sum({layer.diff_id: layer.unpacked for image in served for layer in image.layers}.values())


def disk(images: Sequence[ImageSize], *, way: Way, writable: int = WRITABLE, given_gib: int | None = None) -> NodeDisk:
    """The least disk for these images, or how a given one is to be used. writable: bytes that containers write."""
    needed = bytes_of(images, way)
    largest = max((bytes_of([each], way) for each in images), default=0)
    kept, peak = needed + writable, needed + writable + largest
    least = math.ceil(peak * 100 / HIGH_PERCENT / GIB)
    volume = given_gib or max(LEAST_GIB, least)
    low = math.ceil(100 * kept / (volume * GIB))
    return NodeDisk(
        way=way,
        images=needed,
        largest=largest,
        writable=writable,
        volume_gib=volume,
        gc_low_percent=min(max(low, LEAST_PERCENT), HIGH_PERCENT - 1),
        fits=volume >= least,
    )


__all__ = [
    "GIB",
    "WAYS",
    "WRITABLE",
    "ImageSize",
    "LayerSize",
    "NodeDisk",
    "NodeSize",
    "UnreadImage",
    "Way",
    "bytes_of",
    "disk",
    "read_size",
]
