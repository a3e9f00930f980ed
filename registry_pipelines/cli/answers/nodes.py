"""What ``stream`` and ``node`` answer."""

from __future__ import annotations

from typing import Any, TypedDict

from registry_pipelines.cli.answers.common import Row


class ProbedPart(TypedDict):
    """A part of the kernel, and what came of trying it. without: what follows where it does not work."""

    name: str
    works: bool
    tried: str
    came: str
    without: str


class Probed(TypedDict):
    """What images can be mounted by on this machine. carriers: those that work, the one that `auto` takes first."""

    kernel: str
    file_system: str
    carriers: list[str]
    parts: list[ProbedPart]


class NodeDiskRow(TypedDict):
    """A disk of a node's container runtime: sizes in bytes, the volume in GiB, thresholds in percent of it."""

    way: str
    images: int
    largest: int
    writable: int
    volume_gib: int
    gc_low_percent: int
    gc_high_percent: int
    evicted_percent: int
    fits: bool


class NodeSizes(TypedDict):
    """What a node's images take, an image with its layers each, and the disk for them: in the way that was asked for,
    and in the others. unread: images that are in none of it, with why."""

    platform: str
    images: list[Row]
    disk: NodeDiskRow
    others: list[NodeDiskRow]
    unread: list[Row]


class Mounted(TypedDict):
    """An image that is mounted, as the fields of ``stream.lazy.notes.MountNote``."""

    mount: dict[str, Any]


class Ran(TypedDict):
    """A program of an image that ended. Seconds since the command was started: to the program's first output, None
    where it had the terminal, and to its end. mount: as ``stream mount`` has it."""

    mount: dict[str, Any]
    started_s: float | None
    result_s: float
    program_exit_code: int


class RecordedStart(TypedDict):
    """Which pages of an image its start reads. Seconds since the program was started: to its first output, and until it
    had started; None where nothing was run, or printed. limits: whether the kernel held those of memory and processes
    for all processes together. recording: digest of the manifest that was attached; file: where it was written in its
    place. packages: files, pages and bytes by package and layer, the largest first."""

    image: str
    digest: str
    files: int
    pages: int
    bytes: int
    gpu: bool
    first_output_s: float | None
    seconds: float | None
    limits: str
    recording: str
    changed: bool
    new_pages: int
    file: str
    packages: list[Row]


class Mounts(TypedDict):
    """What is mounted: fields as ``stream mount`` has them, and whether its process is alive."""

    mounts: list[dict[str, Any]]
    layers_disk_bytes: int
    files_disk_bytes: int


class NodeStatus(TypedDict):
    """What an agent of this machine says of itself (``node.status.NodeStatus``), whether it runs, and what its disk has
    of layers that are read by pieces. images: of each its layers, containers and mounts, as ``stream status`` has
    them. counters: since it started, by name and labels, as Prometheus gets them."""

    alive: bool
    process: int
    started: str
    updated: str
    ended: str
    version: str
    socket: str
    root: str
    lazy_state: str
    drain: dict[str, Any] | None
    snapshots: int
    containers: int
    images: list[dict[str, Any]]
    counters: list[dict[str, Any]]
    fallbacks: list[dict[str, Any]]
    layers_disk_bytes: int
    files_disk_bytes: int


class NodeDrain(TypedDict):
    """How far a drain is, and who uses what is still served. drain: None once it was taken back."""

    reached: bool
    drain: dict[str, Any] | None
    images: list[dict[str, Any]]


class NodeFindings(TypedDict):
    """What was looked at on a node, each with about, state (ok, note, failed), what, where, do and exit_code."""

    findings: list[dict[str, Any]]


class PullTimes(TypedDict):
    """How long two images take to be pulled, as ``stream.bench.pulls.document`` has it."""

    pulls: dict[str, Any]


class PulledWhole(TypedDict):
    """An image that was fetched whole, as the fields of ``stream.pull.pulling.Pulled``."""

    pull: dict[str, Any]


class StartTimes(TypedDict):
    """How long an image takes to start, in each way, as ``stream.bench.report.document`` has it."""

    start: dict[str, Any]
