"""What a configuration says about this machine's images: the class that it holds."""

from __future__ import annotations

from typing import Annotated

import msgspec

from registry_pipelines.settings import Duration, Names, Pattern

IMAGE = Pattern(
    r"^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$",
    "a reference of an image",
    "write registry/repository:tag, as in a pod",
)

LEAST_AGAIN_S = 10
"""Between two looks at where tags point: each asks a registry once for each image."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """Images that are served before they are fetched also where containerd does not say which image a layer is of: then
    a layer is known by its chain ID alone (containerd 1.6 and 1.7 unless told; docs/nodes.md)."""

    images: tuple[Annotated[str, IMAGE], ...] = ()
    """References, as in a pod, or `<registry>/<repository>:<tag>` with a name of `registries`."""
    channels: bool = False
    """Also what the channel tags of the configuration's own images name."""
    target: Annotated[str, Names("targets")] | None = None
    """Target whose copies of those are read; their source registry unless told."""
    again: Duration = Duration(minutes=10)
    """How often it is looked at where the tags point."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs containers, and what `node serve` does there (docs/nodes.md)."""

    announce: Announced = Announced()
    """Images that are known before they are pulled."""
