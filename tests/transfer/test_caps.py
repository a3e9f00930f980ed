"""A bandwidth cap that two processes keep together, counted on the wire while real time passes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.interface import Place
from tests.doubles.link import Direction, Link
from tests.transfer.conftest import Graphs

BYTES_PER_S = 10_000_000
WATCHED_S = 20.0
TOLERANCE = 0.05
EARLY_S = TOLERANCE * 60
"""A cap is kept within five per cent of any minute: at the start, no more than this long's worth may come too early."""

LAYER_BYTES = int(BYTES_PER_S * WATCHED_S)
"""Two of them take twice as long as anybody watches."""

REPOSITORIES = ("one", "other")
PROGRAM = str(Path(__file__).with_name("capped_sync.py"))
LINK_BUFFER_BYTES = 64 * 1024


@dataclass
class Passed:
    """What went through a capped registry's link after so many seconds; processes: how many were still at it."""

    seconds: float
    byte_count: int
    processes: int


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("source")) as server:
        registry, graphs = DistributionRegistry(server.address), Graphs()
        for at, name in enumerate(REPOSITORIES):
            million = graphs.noise(1_000_000, at)
            graphs.image(Place(registry, name), million * (LAYER_BYTES // len(million)), tag="v1")
        yield server
        registry.close()


@pytest.fixture(scope="module")
def passed(source: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Direction, Passed]]:
    """Two processes towards a capped target and, at the same time, two from a capped source."""
    with ExitStack() as stack:
        links: dict[Direction, Link] = {}
        processes: dict[Direction, list[subprocess.Popen[bytes]]] = {}
        began: dict[Direction, tuple[float, int]] = {}
        for way in ("up", "down"):
            target = stack.enter_context(EmbeddedServer(tmp_path_factory.mktemp("target")))
            capped = source if way == "down" else target
            link = links[way] = stack.enter_context(Link(capped.address, buffer_bytes=LINK_BUFFER_BYTES))
            ends = (link.address, target.address) if way == "down" else (source.address, link.address)
            processes[way] = start(ends, link.address, tmp_path_factory.mktemp("shared"), stack)
        for way, link in links.items():
            link.wait(lambda link=link, way=way: link.passed[way] > 50_000, lambda: gone(processes))
            began[way] = time.monotonic(), link.passed[way]
        time.sleep(WATCHED_S)
        found = {}
        for way, link in links.items():
            at, before = began[way]
            alive = sum(process.poll() is None for process in processes[way])
            found[way] = Passed(time.monotonic() - at, link.passed[way] - before, alive)
        yield found


def start(ends: tuple[str, str], capped: str, folder: Path, stack: ExitStack) -> list[subprocess.Popen[bytes]]:
    found = []
    for name in REPOSITORIES:
        command = [sys.executable, PROGRAM, *ends, name, str(folder), capped, f"{BYTES_PER_S}B/s"]
        found.append(subprocess.Popen(command))
        stack.callback(found[-1].wait)
        stack.callback(found[-1].kill)
    return found


def gone(processes: dict[Direction, list[subprocess.Popen[bytes]]]) -> bool:
    return any(process.poll() is not None for pair in processes.values() for process in pair)


@pytest.mark.parametrize("way", ["up", "down"])
def test_two_processes_keep_a_cap_together(way: Direction, passed: dict[Direction, Passed]) -> None:
    found = passed[way]
    assert found.processes == len(REPOSITORIES)
    covered_s = found.byte_count / BYTES_PER_S
    assert found.seconds * (1 - TOLERANCE) <= covered_s <= found.seconds + EARLY_S
