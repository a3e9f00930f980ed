"""What a configuration says about this machine's images: the class that it holds."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from registry_pipelines.promote.admission.model import Approved
from registry_pipelines.settings import TAG, Duration, Names, Pattern, Short

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


GateMode = Literal["enforce", "audit"]
"""``enforce``: what may not start is refused. ``audit``: it is said, and starts all the same."""
Unknown = Literal["refuse", "pull"]
"""What happens to an image that the gate cannot judge, for it is none of the configuration's."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Which images a node takes: those of this configuration by what the gate says of their digest, as the webhook of
    `admission` has it; others as is told here. What runs already goes on (docs/nodes.md)."""

    mode: GateMode = "enforce"
    """`enforce`: the pull or the start of what may not start fails, and the runtime shows the reasons. `audit`: it is
    said in the agent's log, and starts."""
    policy: Annotated[str, Names("policies")] | None = None
    """Policy whose verdict counts for every image; that of each image's channel unless told."""
    channel: Annotated[str, TAG] | None = None
    """Channel that a release must have been promoted to, of images that have it; the last one of its image unless
    told."""
    unknown: Unknown = "refuse"
    """Images that are neither of this configuration nor `approved`, and layers with which the runtime names no image:
    `refuse` or `pull`."""
    approved: tuple[Approved, ...] = ()
    """Images of others that may start, beside those of `admission.approved`: the pause image, and this agent's own
    where it runs in a pod."""
    keep: Duration = Duration(seconds=30)
    """How long an allowing answer counts before the registry is asked again: so long a revoked release may still
    start."""
    max_age: Duration = Duration(hours=24)
    """How long the last allowing answer counts where the registry cannot be reached; then its images are refused. What
    was refused stays so until the registry says otherwise."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs containers, and what `node serve` does there (docs/nodes.md)."""

    announce: Announced = Announced()
    """Images that are known before they are pulled."""
    gate: Annotated[Gate, Short("mode")] | None = None
    """What a node takes; everything unless told. `gate: enforce` is one with its other values as they are."""
