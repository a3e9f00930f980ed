"""Starts of one image under containerd, each on a node that has nothing of it, or all: for ``benchmarks/node.py``."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.node_rig import OURS_NAME, STOCK, NodeRig
from registry_pipelines.errors import LocalError
from registry_pipelines.stream.bench.clocks import Clocks, time_command
from registry_pipelines.stream.bench.docker import missing_for_docker
from registry_pipelines.stream.bench.link import Link
from registry_pipelines.stream.bench.machine import drop_caches, read_in
from registry_pipelines.stream.bench.preparing import PACK, PLAIN, Prepared
from registry_pipelines.stream.bench.serving import CountingRegistry
from registry_pipelines.stream.bench.ways import WAYS, Node, Program, Setting, warm_up
from registry_pipelines.stream.bench.ways import measure as measure_way
from registry_pipelines.stream.lazy.notes import read_notes
from registry_pipelines.stream.lazy.watch_proof import self_test

PROGRAM = ("/usr/local/bin/python3", "/app/matmul.py")
TITLES = {
    "docker": "Docker, pull and run",
    "pull": "containerd, pull and run",
    "fuse": "node serve, FUSE, pull and run",
    "fanotify": "node serve, fanotify, pull and run",
    "local": "containerd, pulled before, cold",
}
NOTED_S = 1.5
"""After which the agent has written what it counted."""


@dataclass(frozen=True)
class Bench:
    """What all starts have in common. programs: the folder of containerd's. fill: as of `node serve`."""

    image: Prepared
    registry: CountingRegistry
    link: Link
    programs: Path
    fill: bool = False

    @property
    def kept(self) -> Path:
        """containerd's folder with the image pulled, of ``pull`` and ``local``."""
        return self.image.work / "node-local"

    def rig(self, carrier: str = "", *, root: Path | None = None) -> NodeRig:
        """A node. carrier: of `node serve`; empty: it is not there."""
        options = ["--fill" if self.fill else "--no-fill", "--carrier", carrier]
        return NodeRig(
            self.programs,
            self.link.nodes[0].enter,
            registry=self.registry.address,
            key=self.image.public_key,
            root=root,
            agent=options if carrier else None,
            disk=self.image.work / "nodes",
        )

    def name(self, form: str) -> str:
        """The image as containerd is told."""
        return f"{self.registry.address}/{self.image.name(form)}"


def missing(way: str, bench: Bench) -> str:
    """Why it cannot be measured; empty where it can."""
    if way == "docker":
        return missing_for_docker()
    if way == "local" and not bench.kept.is_dir():
        return "the image is not there: measure the way `pull` first"
    if way == "fanotify":
        try:
            self_test(bench.image.work / "watched")
        except LocalError as error:
            return error.what
    return ""


def measure(way: str, bench: Bench) -> dict[str, Any]:
    """One start; seconds and counts as plain values. Raises Failed."""
    if way == "docker":
        setting = Setting(bench.image, Program(bench.image, PROGRAM), bench.registry, bench.link)
        sample = measure_way(WAYS["docker"], setting)
        return _clocks(sample.clocks) | {"wire_bytes": sample.wire_bytes, "requests": sample.requests}
    if way in ("pull", "local"):
        if way == "pull":
            clear(bench.kept)
        with bench.rig(root=bench.kept) as node:
            return _start(bench, node, STOCK, PLAIN, pull=way == "pull")
    with bench.rig(way) as node:
        found = _start(bench, node, OURS_NAME, PACK)
        found |= _told(node)
        found["second"] = _second(bench, node, PACK)
        found["said"] = node.said()[-2000:]
        return found


def clear(folder: Path) -> None:
    """Delete a folder with an image's files."""
    subprocess.run(["rm", "-rf", "--", str(folder)], check=True)


def cool(bench: Bench, node: NodeRig, form: str, *, local: bool = False) -> None:
    """As ``stream bench start`` does: all files are forgotten; then the registry's are in memory, which is another
    machine's, and those of the programs that start containers."""
    drop_caches()
    if not local:
        read_in(bench.image.blobs(form))
    read_in(node.binaries)
    warm_up(Node(node.folder, None))


def _start(bench: Bench, node: NodeRig, snapshotter: str, form: str, *, pull: bool = True) -> dict[str, Any]:
    name, pulled = bench.name(form), node.folder / "pulled"
    run = shlex.join(node.client("run", "--rm", "--snapshotter", snapshotter, name, "first", *PROGRAM))
    script = f"exec {run}"
    if pull:
        asked = node.client("images", "pull", "--plain-http", "--snapshotter", snapshotter, name)
        script = f"{shlex.join(asked)} >&2 && date +%s.%N > {pulled} && exec {run}"
    cool(bench, node, form, local=not pull)
    bench.registry.take()
    before, begin = bench.link.nodes[0].received_bytes(), time.time()
    clocks = time_command(node.enter(["sh", "-c", script]))
    asked_for = bench.registry.take()
    found = _clocks(clocks) | {
        "wire_bytes": bench.link.nodes[0].received_bytes() - before,
        "requests": asked_for.requests,
    }
    return found | ({"pull_s": round(float(pulled.read_text()) - begin, 3)} if pull else {})


def _second(bench: Bench, node: NodeRig, form: str) -> dict[str, Any]:
    """Another container of the image: what it asked whom for."""
    time.sleep(NOTED_S)
    bench.registry.take()
    before, reads = _told(node), _reads(node)
    run = node.client("run", "--rm", "--snapshotter", OURS_NAME, bench.name(form), "second", *PROGRAM)
    clocks = time_command(node.enter(run))
    reads = _reads(node) - reads
    time.sleep(NOTED_S)
    after = _told(node)
    counts = {name: after[name] - before[name] for name in ("fetched_bytes", "asked", "stalls")}
    return _clocks(clocks) | counts | {"reads_of_agent": reads, "requests": bench.registry.take().requests}


def _told(node: NodeRig) -> dict[str, Any]:
    """What the agent counted of its mounts."""
    found = {"fetched_bytes": 0, "asked": 0, "stalls": 0, "stalled_s": 0.0, "pack_bytes": 0, "carrier": ""}
    for folder in (node.folder / "agent").rglob("mounts"):
        for each in read_notes(folder):
            note = each.note
            found["fetched_bytes"] += note.fetched_bytes  # type: ignore[operator]
            found["pack_bytes"] += note.pack_bytes  # type: ignore[operator]
            found["asked"] += note.requests  # type: ignore[operator]
            found["stalls"] += note.stalls  # type: ignore[operator]
            found["stalled_s"] += note.stalled_s  # type: ignore[operator]
            found["carrier"] = note.carrier
    return found


def _reads(node: NodeRig) -> int:
    """Calls of read(2) and its like by the agent so far: a question of the kernel takes one or two."""
    total = 0
    for process in node.processes():
        rows = dict(line.split(": ") for line in Path(f"/proc/{process}/io").read_text().splitlines())
        total += int(rows["syscr"])
    return total


def _clocks(clocks: Clocks) -> dict[str, Any]:
    return {"started_s": round(clocks.started_s, 3), "result_s": round(clocks.result_s, 3), "answer": clocks.said}


def take_turns(
    ways: Sequence[str], bench: Bench, rounds: int, say: Callable[[str], object]
) -> dict[str, list[dict[str, Any]]]:
    """A B C, B C A, ...; a way that cannot be measured has no samples."""
    samples: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(rounds):
        at = number % len(ways)
        for way in (*ways[at:], *ways[:at]):
            if why := missing(way, bench):
                say(f"{TITLES[way]}: not measured: {why}")
                continue
            found = measure(way, bench)
            samples[way].append(found)
            pull = f"pull {found['pull_s']:.3f} s  " if "pull_s" in found else ""
            say(f"{TITLES[way]}: {pull}STARTED {found['started_s']:.2f} s  RESULT {found['result_s']:.2f} s")
    return samples


__all__ = ["PROGRAM", "TITLES", "Bench", "clear", "cool", "measure", "missing", "take_turns"]
