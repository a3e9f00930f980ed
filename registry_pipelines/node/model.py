"""What a configuration says about this machine's images: the class that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.promote.admission.model import Approved
from registry_pipelines.settings import TAG, Duration, Names, Pattern, Short, Size
from registry_pipelines.stream.model import QUIET_S

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
    containerd: Path = Path("/run/containerd/containerd.sock")
    """containerd's own socket, where it is asked which images a container may be of: it names none with it. Where it
    cannot be asked, that image counts for which the container's topmost layer was pulled. In a pod with `hostPID` it is
    found on the host."""
    max_age: Duration = Duration(hours=24)
    """How long the last allowing answer counts where the registry cannot be reached; then its images are refused. What
    was refused stays so until the registry says otherwise."""


INBOX = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$",
    "a repository",
    "write registry/repository, without a tag",
)
MOST_AN_HOUR = 1000
LEAST_RECORDED, MOST_RECORDED = Size(1 << 20), Size(4 << 30)
"""The second is what a recording can name (``recording.MAX_PAGES``)."""


class RecordStarts(msgspec.Struct, frozen=True, kw_only=True):
    """What starts on a node read of their images is recorded and sent to an inbox, for hot packs. A list of an image's
    files and pages, never a byte of them, and nothing of who runs it (docs/nodes.md)."""

    inbox: Annotated[str, INBOX]
    """Repository for the recordings and nothing else, `<registry>/<repository>` with a name of `registries` or a host:
    the only place that a node needs to push to. It is never copied."""
    per_hour: Annotated[int, msgspec.Meta(ge=1, le=MOST_AN_HOUR)] = 4
    """Most starts that a node records in an hour; while one is recorded it reads page by page, and is slower."""
    max_bytes: Size = Size(1 << 30)
    """Most that a start reads of its image; one that reads more is not recorded."""
    images: tuple[str, ...] = ("*",)
    """Which images, as patterns of `<registry>/<repository>`; all that are served before they are fetched unless
    told."""
    timeout: Duration = Duration(minutes=10)
    """How long a start may take, from the first read of the image on. It is over when nothing new was read for 30
    seconds."""


def record_problems(record: RecordStarts) -> Iterator[tuple[str, str]]:
    """What does not go together: the field, and what is wrong with it."""
    if not LEAST_RECORDED <= record.max_bytes <= MOST_RECORDED:
        yield "max_bytes", f"{record.max_bytes} is not between {LEAST_RECORDED} and {MOST_RECORDED}"
    if record.timeout.total_seconds() <= QUIET_S:
        yield "timeout", f"{record.timeout} are not longer than the {QUIET_S} seconds after which a start is over"
    if not record.images:
        yield "images", "names none: leave out `record`, or write patterns"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs containers, and what `node serve` does there (docs/nodes.md)."""

    announce: Announced = Announced()
    """Images that are known before they are pulled."""
    gate: Annotated[Gate, Short("mode")] | None = None
    """What a node takes; everything unless told. `gate: enforce` is one with its other values as they are."""
    record: Annotated[RecordStarts, Short("inbox")] | None = None
    """Where nodes send what starts read; nothing is recorded unless told. `record: <registry>/<repository>` is one with
    its other values as they are."""
    unproven: Literal["pull", "serve"] = "pull"
    """Layers of eStargz of which no trusted indexer says that they unpack to what their image's config claims, in the
    signed record of a conversion (`stream convert`). A runtime gives a layer to every image that claims the same, so
    `serve` is for nodes on which nobody starts images that others must not trust."""
    carrier: Literal["fuse", "fanotify", "auto"] = "fuse"
    """By what images are mounted: FUSE, which fails closed whatever is killed; `fanotify`, by which the kernel reads by
    itself what is here (Linux 6.14, see `node probe`), and which is refused where it does not work; `auto` takes FUSE
    there."""
    hosts: tuple[Path, ...] = (Path("/etc/containerd/certs.d"),)
    """containerd's `config_path`: folders whose `hosts.toml` files say where the images of a host are asked for. They
    are followed, so that what is read comes from where containerd would pull."""
