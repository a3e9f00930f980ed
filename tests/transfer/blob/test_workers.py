"""Workers with folders of their own on one shared database: no blob is sent by two at once, a killed one is gone on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.plan import Job
from registry_pipelines.transfer.delivery.shared import SharedRefusals
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.link import Link
from tests.doubles.workers import worker
from tests.needs import needed_module
from tests.patience import patient
from tests.transfer.test_kill import courier_of

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LARGE = 3 * PART_BYTES + 12_345
HEADS = 2_000


@pytest.mark.parametrize("repositories", [("app", "app", "app"), ("one", "two", "three")])
@pytest.mark.parametrize("size", [LARGE, 200_000])
def test_of_three_workers_one_sends_and_the_others_find_or_mount(
    postgres_url: str,
    source: Counted,
    target: Counted,
    graphs: Graphs,
    tmp_path: Path,
    repositories: tuple[str, ...],
    size: int,
) -> None:
    """All have planned before the first sends."""
    graphs.image(source.place("app"), graphs.noise(size), b"small", tag="v1")
    together = Barrier(len(repositories), timeout=patient(30))

    def copy(at: int) -> int:
        there = target.place(repositories[at])
        with Engine(state=tmp_path / str(at), shared=worker(postgres_url)).opened() as state:
            plan = state.plan([Job(discover(source.place("app"), "v1"), (there,), ("v1",))])
            together.wait()
            [result] = state.apply(plan)
        assert result.error is None
        return result.bytes_moved

    with ThreadPoolExecutor(len(repositories)) as pool:
        moved = list(pool.map(copy, range(len(repositories))))
    assert size <= sum(moved) < size + HEADS
    for name in set(repositories):
        assert compare(source.place("app"), target.place(name), "v1", content=True) == []
    assert target.bytes_in() < size + 10 * HEADS


def test_what_one_worker_found_another_does_not_ask_again(
    postgres_url: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """Manifests by digest, and what a target had when it was read back; each with a folder of its own."""
    graphs.image(source.place("app"), b"layer", tag="v1")
    for name, asked in (("a", True), ("b", False)):
        source.forget()
        target.forget()
        shared = worker(postgres_url)
        copy_closure(
            source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path / name, shared=shared)
        )
        shared.close()
        assert bool(source.count("GET", "/manifests/")) == asked
        assert bool(target.count("HEAD", "/blobs/")) == asked
    refusals = [SharedRefusals(worker(postgres_url).database) for _ in range(2)]
    refusals[0].learn("registry.example")
    assert [each.refused_on("registry.example") for each in refusals] == [datetime.now(UTC).date().isoformat()] * 2
    assert refusals[1].refused_on("other.example") == ""


@pytest.mark.peer("docker-registry")
def test_a_killed_worker_is_gone_on_by_one_elsewhere_at_once(
    postgres_url: str,
    source: Counted,
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    """SIGKILL in the middle of a layer while another waits for its turn with the same blob. Its courier ends
    the part, and tells the database where docker-registry goes on: nobody has to wait for the silence."""
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    there = Place(connect(start_docker_registry()), "app")
    with killed_in_a_part(postgres_url, source, there.registry.name, tmp_path, silence_s=600) as (link, end):
        # Nothing is left to send where the courier had all parts in hand: then the other ends the upload alone.
        assert end(lambda sender: sender.send_signal(signal.SIGKILL)) <= LARGE - PART_BYTES
        assert compare(source.place("app"), there, "v1", content=True) == []
        assert link.up < LARGE + PART_BYTES + 20 * HEADS


@pytest.mark.long
def test_where_the_courier_is_killed_too_another_waits_for_the_silence(
    postgres_url: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """As when a container goes, or power is lost: nobody ended the request, so that upload begins again."""
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")

    def kill_both(sender: subprocess.Popen[str]) -> None:
        courier = courier_of(sender)
        os.kill(courier, signal.SIGSTOP)  # or it would end the request when the copy dies
        sender.send_signal(signal.SIGKILL)
        os.kill(courier, signal.SIGKILL)

    with killed_in_a_part(postgres_url, source, target.address, tmp_path, silence_s=2) as (link, end):
        assert end(kill_both) < LARGE + HEADS
        assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
        assert link.up < LARGE + 4 * PART_BYTES


End = Callable[[Callable[["subprocess.Popen[str]"], None]], int]


@contextmanager
def killed_in_a_part(
    url: str, source: Counted, target: str, folder: Path, *, silence_s: int
) -> Iterator[tuple[Link, End]]:
    """Two workers with the same copy to do, of which one stands in the middle of a part. The function given kills it,
    and gives the bytes that the other then sent."""
    with Link(target) as link, ExitStack() as ends:
        link.break_at("up", PART_BYTES + PART_BYTES // 2, "silent")
        two = []
        for name in ("a", "b"):
            words = [sys.executable, "-m", "tests.transfer.blob.shared_copy", source.address, link.address]
            words += ["app", "app", str(folder / name), url, str(silence_s)]
            two.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
            ends.callback(two[-1].communicate)
            ends.callback(two[-1].kill)
        link.wait_until_broken(lambda: any(each.poll() is not None for each in two))

        def end(kill: Callable[[subprocess.Popen[str]], None]) -> int:
            sender = sending(url, two)
            kill(sender)
            link.mend()
            [other] = [each for each in two if each is not sender]
            output, _ = other.communicate(timeout=patient(30))
            assert other.returncode == 0
            return int(output)

        yield link, end


def sending(url: str, workers: Sequence[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """The one whose turn it is."""
    turns = "SELECT process FROM leases JOIN members ON members.name = member WHERE leases.name LIKE 'blob/%'"
    with needed_module("psycopg", "postgres").connect(url) as database:
        [(process,)] = database.execute(turns).fetchall()
    return next(each for each in workers if each.pid == process)
