"""May an image come to this node, and may a container of it start? What the snapshotter asks before it does either.

Who answers is above this room, for it takes a configuration (``chain.node_gate``); without one everything is allowed.
containerd names the image with each of its layers where annotations are on (``lazy_images``); with a container it names
nothing but the layer that it stands on, so the image is the one that this layer was pulled for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from registry_pipelines.node.lazy_images import IMAGE_LABEL, LAYER_LABEL, LAYERS_LABEL, MANIFEST_LABEL
from registry_pipelines.node.store import Info, Refused

_DOCKERS = re.compile(r"[0-9a-f]{64}-init")
_UNPACKED = re.compile(r"extract-\S+ sha256:[0-9a-f]{64}")


class Named(NamedTuple):
    """An image as containerd names it. reference: as it was pulled, with a tag, a digest or both. digest: of its
    manifest for this platform, whatever index led to it. Neither is checked: labels may say anything."""

    reference: str
    digest: str


class Layer(NamedTuple):
    """A layer as containerd knows it. chain_id: empty where it has another name. namespace: of containerd's, which has
    images of its own. snapshotter: what containerd calls this agent."""

    chain_id: str
    namespace: str
    snapshotter: str


class Gate(Protocol):
    """Answers for all images of a node. Called by many threads at once."""

    def pulled(self, image: Named | None, chain_id: str = "") -> None:
        """A layer of it is about to be served or fetched. None: the runtime does not say of which image. chain_id: of
        the layer where only labels say that it is the image's. Raises Refused with every reason, in words for whoever
        waits for the pull."""
        ...

    def started(self, image: Named | None, layer: Layer) -> None:
        """A container of it is about to start. image: for which its topmost layer came here; None where that is not
        known. layer: on which it stands. Raises Refused."""
        ...


def named(labels: Mapping[str, str]) -> Named | None:
    """The image that labels of a layer name; None where they name none."""
    reference, digest = labels.get(IMAGE_LABEL, ""), labels.get(MANIFEST_LABEL, "")
    return Named(reference, digest) if reference and digest else None


def named_so(name: str) -> Named | None:
    """The image of a name as ``LazyImage.name`` has it; None for the empty one."""
    reference, _, digest = name.rpartition("@")
    return Named(reference, digest) if reference else None


def stands_on(parent: Info) -> Named | None:
    """The image whose topmost layer this is; None where labels do not say so. A layer of an image that has others above
    it says nothing about what stands on it: that may be any image."""
    layer, layers = parent.labels.get(LAYER_LABEL, ""), parent.labels.get(LAYERS_LABEL, "")
    if layers and layers != layer:
        return None
    return named(parent.labels) or named_so(parent.image)


def layer_of(parent: Info, key: str, snapshotter: str) -> Layer:
    """The layer on which something with this key stands. containerd's names are ``NAMESPACE/NUMBER/NAME`` (its
    ``core/metadata/snapshot.go``), and a layer's own name is its chain ID."""
    name = parent.chain_id or parent.name.split("/", 2)[-1]
    return Layer(name if name.startswith("sha256:") else "", key.partition("/")[0], snapshotter)


def is_dockers_own(parent: Info) -> bool:
    """Whether this is what Docker puts between an image and a container of it: places to mount over (moby 28,
    ``daemon/containerd/image_snapshot.go``), on a layer of the image. Only who makes snapshots chooses such a name, no
    user of Docker's."""
    return parent.kind == "committed" and _DOCKERS.fullmatch(parent.name.split("/", 2)[-1]) is not None


def unpacks(key: str) -> bool:
    """Whether something with this key becomes a layer, by the name that containerd's clients give it
    (``core/snapshots``, UnpackKeyFormat). No container can have that name: identifiers have no spaces."""
    return _UNPACKED.fullmatch(key.split("/", 2)[-1]) is not None


def denied(reasons: str) -> Refused:
    """What a gate raises."""
    return Refused("PERMISSION_DENIED", reasons)


__all__ = [
    "Gate",
    "Layer",
    "Named",
    "denied",
    "is_dockers_own",
    "layer_of",
    "named",
    "named_so",
    "stands_on",
    "unpacks",
]
