"""The ways in which a node starts an image: what each needs, and what one start of it took."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from registry_pipelines.stream.bench.clocks import Clocks, time_command
from registry_pipelines.stream.bench.curve import Curve
from registry_pipelines.stream.bench.docker import DockerDaemon, missing_for_docker
from registry_pipelines.stream.bench.link import Link, Space
from registry_pipelines.stream.bench.machine import drop_caches, read_in
from registry_pipelines.stream.bench.preparing import ESTARGZ, OURS, PACK, PART, PLAIN, SPANS, UNPACKED, Prepared
from registry_pipelines.stream.bench.serving import CountingRegistry, Served
from registry_pipelines.stream.lazy.program_root import run_folder

CARRIERS = ("fuse", "fanotify")
LOADED = (
    *("cli.lazy", "cli.pulling", "chain.places", "chain.serving", "config.loading", "evidence.keys"),
    *("stream.hot.using", "stream.pull.pulling"),
    *(
        f"stream.lazy.{name}"
        for name in ("fanotify", "gpu", "opened", "running", "serving", "program_root", "sandbox", "tables")
    ),
)
"""Modules that a start loads, below our package."""
_WARM_UP = "\n".join([f"import registry_pipelines.{name}" for name in LOADED] + ["registry_pipelines.cli.main()"])
"""Loads what our program loads, so that its own files are in memory as Docker's daemon is."""


@dataclass(frozen=True)
class Sample:
    """One start. Bytes: over the wire with all headers where there is a link (else 0), and what the registry gave."""

    clocks: Clocks
    wire_bytes: int
    bytes: int
    requests: int
    refused: int
    """Answers 429 or 503."""
    curve: tuple[tuple[float, int], ...] = ()
    """Seconds and bytes that had come over the wire by then."""


class Workload(Protocol):
    """What is started."""

    def lazily(self, ours: Sequence[str], target: str, options: Sequence[str]) -> list[str]:
        """The command that starts it from an image that is not here. ours: our program; options: of the command."""
        ...

    def locally(self, folder: Path) -> list[str]:
        """The command that starts it from an unpacked image."""
        ...

    def in_docker(self, image: str) -> list[str] | None:
        """Arguments of ``docker run``; None where it cannot be started there."""
        ...

    @property
    def until(self) -> str:
        """Text of the line that is its answer; empty: its end."""
        ...

    @property
    def told(self) -> dict[str, Any]:
        """What it is, as plain values."""
        ...


@dataclass(frozen=True)
class Program:
    """A command of the image; empty for the image's own."""

    image: Prepared
    command: tuple[str, ...] = ()
    until: str = ""

    def lazily(self, ours: Sequence[str], target: str, options: Sequence[str]) -> list[str]:
        """See :class:`Workload`."""
        return [*ours, "stream", "run", *options, target, *(("--", *self.command) if self.command else ())]

    def locally(self, folder: Path) -> list[str]:
        """See :class:`Workload`."""
        from registry_pipelines.stream.bench.local_program import local_command

        return local_command(folder, self.image.image.config.config, self.command)

    def in_docker(self, image: str) -> list[str]:
        """See :class:`Workload`."""
        return [image, *self.command]

    @property
    def told(self) -> dict[str, Any]:
        """See :class:`Workload`."""
        return {"command": list(self.command), "until": self.until}


@dataclass(frozen=True)
class Setting:
    """What all ways have in common."""

    image: Prepared
    workload: Workload
    registry: CountingRegistry
    link: Link | None
    timeout_s: float = 900.0
    fill: bool = False
    """Whether lazy ways fetch the rest, too, when nobody waits for anything."""
    baseline: Prepared | None = None
    """The image before somebody made it smaller, for ``docker-baseline``."""


@dataclass
class Node:
    """A machine that has nothing of the image: a network namespace and a folder, both empty."""

    folder: Path
    space: Space | None

    def enter(self, command: Sequence[str]) -> list[str]:
        """The command, to be run there."""
        return self.space.enter(command) if self.space else list(command)

    def received(self) -> int:
        """Bytes over the wire so far."""
        return self.space.received_bytes() if self.space else 0


class Way(ABC):
    """One way. key: its name in options and JSON; title: its row in tables."""

    def __init__(self, key: str, title: str, form: str) -> None:
        self.key, self.title, self.form = key, title, form

    def missing(self, setting: Setting) -> str:
        """Why it cannot be measured, in one sentence; empty where it can."""
        return setting.image.why_not.get(self.form, "")

    def disk_bytes(self, setting: Setting) -> int:
        """About how much of the disk one start fills, where that matters."""
        return 0

    @abstractmethod
    def start(self, setting: Setting, node: Node, ready: Callable[[], None]) -> Clocks:
        """Prepare the node, call ``ready``, start. Raises Failed."""


def _options(setting: Setting, node: Node, *, keys: bool = True) -> list[str]:
    config = setting.image.config(node.folder, setting.registry.address)
    said = ["--quiet", "--config", str(config)]
    return [*said, "--key", str(setting.image.public_key)] if keys else said


def warm_up(node: Node) -> None:
    """Have the files of our own program in memory, and compiled as pip leaves them: a node's tools have run before. A
    working copy where PYTHONDONTWRITEBYTECODE is set would be compiled again in each start (0.3 s)."""
    command = [sys.executable, "-c", _WARM_UP, "stream", "status", "--json"]
    own = {"XDG_STATE_HOME": str(node.folder / "warm"), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, capture_output=True, check=False, env={**os.environ, **own})


class Lazy(Way):
    """``stream run``, or ``stream mount`` and what touches files there."""

    def __init__(self, key: str, title: str, form: str, carrier: str) -> None:
        super().__init__(key, title, form)
        self._carrier = carrier

    def missing(self, setting: Setting) -> str:
        """See :class:`Way`."""
        return super().missing(setting) or ("" if Path("/dev/fuse").exists() else "there is no /dev/fuse here")

    def start(self, setting: Setting, node: Node, ready: Callable[[], None]) -> Clocks:
        """See :class:`Way`."""
        options = _options(setting, node)
        options += ["--fill" if setting.fill else "--no-fill"]
        if self._carrier != CARRIERS[0]:
            options += ["--carrier", self._carrier]
        target = f"bench/{setting.image.name(self.form)}"
        command = node.enter(setting.workload.lazily(OURS, target, options))
        ready()
        return time_command(command, until=setting.workload.until, timeout_s=setting.timeout_s)


class Pull(Way):
    """``stream pull`` into a folder, then the program there."""

    def disk_bytes(self, setting: Setting) -> int:
        """See :class:`Way`. CUDA images unpack to about twice their size."""
        return 2 * sum(layer.size for layer in setting.image.image.manifest.layers)

    def start(self, setting: Setting, node: Node, ready: Callable[[], None]) -> Clocks:
        """See :class:`Way`."""
        folder = node.folder / "image"
        target = f"bench/{setting.image.name(PLAIN)}"
        pull = [*OURS, "stream", "pull", *_options(setting, node, keys=False), target, "--to", str(folder)]
        local = setting.workload.locally(folder)
        command = node.enter(["sh", "-c", f"{shlex.join(pull)} >&2 && exec {shlex.join(local)}"])
        ready()
        return time_command(command, until=setting.workload.until, timeout_s=setting.timeout_s)


class Local(Way):
    """The image unpacked on the node's disk."""

    def missing(self, setting: Setting) -> str:
        """See :class:`Way`."""
        if os.geteuid() != 0:
            return "starting a program in a folder as its root needs root"
        return "" if setting.image.unpacked.is_dir() else setting.image.why_not.get(UNPACKED, "it was not unpacked")

    def start(self, setting: Setting, node: Node, ready: Callable[[], None]) -> Clocks:
        """See :class:`Way`."""
        command = node.enter(setting.workload.locally(setting.image.unpacked))
        ready()
        return time_command(command, until=setting.workload.until, timeout_s=setting.timeout_s)


class Docker(Way):
    """``docker pull`` and ``docker run`` by a daemon that runs and has nothing, or the first layers."""

    def __init__(self, key: str, title: str, *, part: bool = False, baseline: bool = False) -> None:
        super().__init__(key, title, PLAIN)
        self._part, self._baseline = part, baseline

    def missing(self, setting: Setting) -> str:
        """See :class:`Way`."""
        if self._baseline and setting.baseline is None:
            return "no --baseline was named"
        if self._part and not setting.image.cached_share:
            return "no first layer is small enough to be there already"
        if setting.workload.in_docker("") is None:
            return "a replay runs beside the image, and Docker starts what is inside"
        return missing_for_docker()

    def start(self, setting: Setting, node: Node, ready: Callable[[], None]) -> Clocks:
        """See :class:`Way`."""
        image = setting.baseline if self._baseline and setting.baseline else setting.image
        name = f"{setting.registry.address}/{image.name(PLAIN)}"
        with DockerDaemon(node.folder, node.enter, setting.registry.address) as docker:
            if self._part:
                docker.run("pull", "--quiet", f"{name.rpartition(':')[0]}:{PART}")
            arguments = setting.workload.in_docker(name) or []
            pull = docker.command("pull", "--quiet", name)
            run = docker.command("run", "--rm", "--network", "host", *arguments)
            command = node.enter(["sh", "-c", f"{shlex.join(pull)} >&2 && exec {shlex.join(run)}"])
            ready()
            return time_command(command, until=setting.workload.until, timeout_s=setting.timeout_s)


def _lazy_ways() -> list[Way]:
    titles = {SPANS: "lazy, SOCI spans", ESTARGZ: "lazy, eStargz", PACK: "lazy, hot pack"}
    return [
        Lazy(f"{form}-{carrier}", f"{title}, {carrier}", form, carrier)
        for form, title in titles.items()
        for carrier in CARRIERS
    ]


BASELINE, DOCKER, CACHED, PULL, LOCAL = "docker-baseline", "docker", "docker-cached", "pull", "local"
WAYS: dict[str, Way] = {
    way.key: way
    for way in (
        Docker(BASELINE, "Docker, unoptimised image", baseline=True),
        Docker(DOCKER, "Docker"),
        Docker(CACHED, "Docker, first layers there", part=True),
        Pull(PULL, "stream pull, whole", PLAIN),
        *_lazy_ways(),
        Local(LOCAL, "local files, cold", PLAIN),
    )
}
"""By key, in the order of tables."""


def measure(way: Way, setting: Setting, number: int = 0, *, before: Callable[[], object] | None = None) -> Sample:
    """One start in one way, on a node that has nothing. number: of the node. before: is called when the node is ready,
    in place of forgetting all files: where others start at the same time, and the registry's counts are theirs, too.

    Raises Failed, LocalError.
    """
    with run_folder(setting.image.work / "nodes") as folder:
        return _measure(way, setting, Node(folder, setting.link.nodes[number] if setting.link else None), before)


def _measure(way: Way, setting: Setting, node: Node, before: Callable[[], object] | None) -> Sample:
    begin: list[int] = []
    curve = Curve(node.received if node.space else None)

    def ready() -> None:
        if before is None:
            cool(way, setting, node)
            setting.registry.take()
        else:
            before()
        begin.append(node.received())
        curve.start()

    with curve:
        clocks = way.start(setting, node, ready)
    received = node.received() - begin[0]
    asked = setting.registry.take() if before is None else Served()
    # What came while the node was cleaned up is nobody's start.
    points = tuple(each for each in curve.points if each[0] <= clocks.result_s)
    return Sample(clocks, received, asked.bytes, asked.requests, asked.refused, points)


def cool(way: Way, setting: Setting, node: Node) -> None:
    """Forget all files; then the registry's are read in again, which is another machine's memory, and our program's."""
    drop_caches()
    if way.key != LOCAL:
        image = setting.baseline if way.key == BASELINE and setting.baseline else setting.image
        read_in(image.blobs(way.form))
    warm_up(node)
