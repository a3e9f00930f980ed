"""What `node serve` takes of a node and adds to it: memory, threads, its own start, and time of pulls that it cannot
serve; for ``benchmarks/node.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.node_images import make_images, make_small
from benchmarks.node_rig import OURS_NAME, STOCK, NodeRig
from benchmarks.node_starts import PROGRAM, Bench, cool, missing
from registry_pipelines.stream.bench.clocks import time_command
from registry_pipelines.stream.bench.preparing import PACK

IMAGES = 5
CROWD_IMAGES, CROWD_CONTAINERS = 8, 16
IMPORT = ("/usr/local/bin/python3", "-c", "import torch")
QUIET_S = 2.0
"""After which nothing of a start is under way."""


def measure_memory(bench: Bench, carrier: str, say: Callable[[str], object], *, packed: bool) -> dict[str, Any]:
    """Megabytes of the agent's own memory, and threads, with so many images mounted as the position says."""
    names = make_images(bench.image, IMAGES, packed=packed)
    with bench.rig(carrier) as node:
        rows = [_taken(node)]
        for name in names:
            reference = f"{bench.registry.address}/{name}"
            _pull(node, OURS_NAME, reference)
            node.ctr("run", "--rm", "--snapshotter", OURS_NAME, reference, "one", *IMPORT)
            time.sleep(QUIET_S)
            rows.append(_taken(node))
            say(f"{carrier}, {name}: {rows[-1]['anonymous_mb']:.0f} MB, {rows[-1]['threads']} threads")
    return {"packed": packed, "carrier": carrier, "rows": rows}


def measure_own_start(bench: Bench, rounds: int) -> list[float]:
    """Seconds from the start of the agent until its socket is there."""
    found = []
    for _ in range(rounds):
        begin = time.monotonic()
        with bench.rig("fuse") as node:
            found.append(round(node.agent_s - begin, 3))
    return found


def measure_plain(bench: Bench, rounds: int, say: Callable[[str], object]) -> dict[str, Any]:
    """Seconds of pulls of small images that have no index, by both snapshotters in turn, each image once by each."""
    names = make_small(bench.image, rounds)
    found: dict[str, list[float]] = {STOCK: [], OURS_NAME: []}
    with bench.rig("fuse") as node:
        for number, name in enumerate(("", *names)):  # first one of them that does not count
            reference = f"{bench.registry.address}/{name or names[0]}"
            for snapshotter in (STOCK, OURS_NAME) if number % 2 else (OURS_NAME, STOCK):
                seconds = _pull(node, snapshotter, reference)
                if name:
                    found[snapshotter].append(round(seconds, 4))
                node.ctr("images", "rm", "--sync", reference)
        said = node.said()
    say(" ".join(f"{name}: {sorted(seconds)[len(seconds) // 2] * 1000:.0f} ms" for name, seconds in found.items()))
    return {"seconds": found, "fell_back": said.count("pulled as usual")}


def measure_crowd(bench: Bench, carrier: str, say: Callable[[str], object]) -> dict[str, Any]:
    """So many containers of so many images at once on one cold node; every second one is its image's second."""
    names = make_images(bench.image, CROWD_IMAGES, packed=True)
    references = [f"{bench.registry.address}/{name}" for name in names]
    with bench.rig(carrier) as node:
        cool(bench, node, PACK)
        bench.registry.take()
        begin = time.monotonic()

        def pull(reference: str) -> None:
            _pull(node, OURS_NAME, reference)

        def run(number: int) -> float:
            reference = references[number % len(references)]
            command = node.client("run", "--rm", "--snapshotter", OURS_NAME, reference, f"c{number}", *PROGRAM)
            return time_command(node.enter(command), since=begin).result_s

        with ThreadPoolExecutor(CROWD_CONTAINERS) as pool:
            list(pool.map(pull, references))
            pulled_s = time.monotonic() - begin
            answers = sorted(pool.map(run, range(CROWD_CONTAINERS)))
        found = {"carrier": carrier, "pulled_s": round(pulled_s, 3), "results_s": [round(each, 3) for each in answers]}
        found |= {"requests": bench.registry.take().requests, **_taken(node)}
    say(f"{carrier}: {CROWD_CONTAINERS} containers, the last answer after {answers[-1]:.1f} s")
    return found


def carriers(bench: Bench) -> Sequence[str]:
    """Those that can be measured."""
    return [carrier for carrier in ("fuse", "fanotify") if not missing(carrier, bench)]


def _pull(node: NodeRig, snapshotter: str, reference: str) -> float:
    begin = time.monotonic()
    node.ctr("images", "pull", "--plain-http", "--snapshotter", snapshotter, reference)
    return time.monotonic() - begin


def _taken(node: NodeRig) -> dict[str, Any]:
    """Of the agent and of what it started: memory that is no file's, each page once (a twin shares most of its pages
    with the process it is the twin of), and threads."""
    anonymous = threads = 0
    for process in node.processes():
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                anonymous += int(line.split()[1])
        threads += len(list(Path(f"/proc/{process}/task").iterdir()))
    return {"anonymous_mb": round(anonymous * 1024 / 1e6, 1), "threads": threads, "processes": len(node.processes())}


__all__ = ["carriers", "measure_crowd", "measure_memory", "measure_own_start", "measure_plain"]
