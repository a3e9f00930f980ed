"""A bandwidth cap that two processes keep together, counted on the wire while real time passes."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.link import Direction, Link
from tests.transfer.conftest import Graphs

BYTES_PER_S = 10_000_000
TOLERANCE = 0.05
EARLY_S = TOLERANCE * 60
"""A cap is kept within five per cent of any minute: at the start, no more than this long's worth may come too early."""

REPOSITORIES = ("one", "other")
PROGRAM = str(Path(__file__).with_name("capped_sync.py"))
WAYS: tuple[Direction, ...] = ("up", "down")
LINK_BUFFER_BYTES = 64 * 1024


@dataclass
class Passed:
    """What went through a capped registry's link from its first bytes until both processes had ended."""

    seconds: float
    byte_count: int


def copy_capped(folders: pytest.TempPathFactory, seconds: float) -> dict[Direction, Passed]:
    """Two processes towards a capped target and, at the same time, two from a capped source; together they have so
    many seconds' worth to copy each way."""
    with ExitStack() as stack:
        source = stack.enter_context(EmbeddedServer(folders.mktemp("source")))
        byte_count = int(BYTES_PER_S * seconds)
        fill(source.address, byte_count // len(REPOSITORIES))
        pool = stack.enter_context(ThreadPoolExecutor())
        watched: dict[Direction, Future[Passed]] = {}
        for way in WAYS:
            target = stack.enter_context(EmbeddedServer(folders.mktemp("target")))
            capped = source if way == "down" else target
            link = stack.enter_context(Link(capped.address, buffer_bytes=LINK_BUFFER_BYTES))
            ends = (link.address, target.address) if way == "down" else (source.address, link.address)
            processes = start(ends, link.address, folders.mktemp("shared"), stack)
            watched[way] = pool.submit(watch, link, way, processes, byte_count)
        return {way: each.result() for way, each in watched.items()}


def fill(address: str, layer_bytes: int) -> None:
    registry, graphs = DistributionRegistry(address), Graphs()
    for at, name in enumerate(REPOSITORIES):
        million = graphs.noise(1_000_000, at)
        graphs.image(Place(registry, name), million * (layer_bytes // len(million)), tag="v1")
    registry.close()


def start(ends: tuple[str, str], capped: str, folder: Path, stack: ExitStack) -> list[subprocess.Popen[bytes]]:
    processes = []
    for name in REPOSITORIES:
        command = [sys.executable, PROGRAM, *ends, name, str(folder), capped, f"{BYTES_PER_S}B/s"]
        processes.append(subprocess.Popen(command))
        stack.callback(processes[-1].wait)
        stack.callback(processes[-1].kill)
    return processes


def watch(link: Link, way: Direction, processes: list[subprocess.Popen[bytes]], byte_count: int) -> Passed:
    link.wait(lambda: link.passed[way] > 50_000, lambda: any(process.poll() is not None for process in processes))
    began_at, before = time.monotonic(), link.passed[way]
    assert [process.wait() for process in processes] == [0] * len(processes)
    assert link.passed[way] >= byte_count
    return Passed(time.monotonic() - began_at, link.passed[way] - before)


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> dict[Direction, Passed]:
    return copy_capped(tmp_path_factory, seconds=10)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_keep_a_cap_together(way: Direction, passed: dict[Direction, Passed]) -> None:
    """True on any machine: a slow one only leaves more of the cap unused."""
    sample = passed[way]
    assert sample.byte_count / BYTES_PER_S <= sample.seconds + EARLY_S


@pytest.mark.long
def test_a_cap_is_used_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A real minute, on a machine that could do more; ``test_limits`` does the sums with a clock of its own."""
    for way, sample in copy_capped(tmp_path_factory, seconds=60).items():
        covered_s = sample.byte_count / BYTES_PER_S
        assert sample.seconds * (1 - TOLERANCE) <= covered_s <= sample.seconds + EARLY_S, way
