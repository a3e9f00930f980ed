"""A link that is down for half a minute, for real, in the middle of a large layer; the command line gets over it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.courier import SEGMENT_BYTES
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.cli.test_bad_input import PROGRAM
from tests.conftest import find_peer
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.link import Direction, How, Link
from tests.patience import patient
from tests.transfer.conftest import Graphs

DOWN_S = 30.0
LAYER_BYTES = SEGMENT_BYTES + 4 * PART_BYTES
BROKEN_AT = SEGMENT_BYTES + 2 * PART_BYTES + 54_321
"""In the third part of an upload's second request."""

SLACK = PART_BYTES
"""What is on its way inside a link and in the buffers at its ends."""


@dataclass(frozen=True)
class Case:
    """direction: up when the target's link breaks, down when the source's does. again: bytes that may pass twice."""

    direction: Direction
    how: How
    again: int
    docker: bool = False


CASES = {
    "target cut": Case("up", "cut", BROKEN_AT - SEGMENT_BYTES + SLACK),
    "target silent": Case("up", "silent", 100_000),
    "source cut": Case("down", "cut", 2 * SLACK),
    "source silent": Case("down", "silent", 2 * SLACK),
    # A torn request makes an upload to distribution 2.8 unusable (see courier_process): it begins at its first byte.
    "docker-registry cut": Case("up", "cut", BROKEN_AT + SLACK, docker=True),
}


@dataclass
class Run:
    """A copy whose link breaks."""

    case: Case
    link: Link
    there: Place
    process: subprocess.Popen[str]
    was_waiting: bool = False
    errors: str = ""

    @property
    def again(self) -> int:
        """Bytes that passed the link beyond the layer's own."""
        return self.link.passed[self.case.direction] - LAYER_BYTES


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with EmbeddedServer(tmp_path_factory.mktemp("source")) as server:
        registry, graphs = DistributionRegistry(server.address), Graphs()
        place = Place(registry, "big")
        graphs.image(place, graphs.noise(PART_BYTES) * (LAYER_BYTES // PART_BYTES), tag="v1")
        yield place
        registry.close()


@pytest.fixture(scope="module")
def runs(here: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All cases at once: half a minute for all of them."""
    docker = find_peer("docker-registry")
    with ExitStack() as stack:
        links = {
            name: start(case, here, tmp_path_factory.mktemp("run"), docker or "", stack)
            for name, case in CASES.items()
            if docker or not case.docker
        }
        with ThreadPoolExecutor(len(links)) as pool:
            list(pool.map(outlast, links.values()))
        yield links


def outlast(run: Run) -> None:
    """Mend the link half a minute after it broke, whenever that is, and see the copy to its end."""
    run.link.wait_until_broken(lambda: run.process.poll() is not None)
    threading.Event().wait(DOWN_S)
    run.was_waiting = run.link.broken and run.process.poll() is None
    run.link.mend()
    run.errors = run.process.communicate(timeout=patient(100))[1]


def start(case: Case, here: Place, folder: Path, docker: str, stack: ExitStack) -> Run:
    server = DockerRegistry(docker, folder / "target") if case.docker else EmbeddedServer(folder / "target")
    target, source = stack.enter_context(server).address, here.registry.name
    link = stack.enter_context(Link(source if case.direction == "down" else target))
    link.break_at(case.direction, BROKEN_AT, case.how)
    ends = (link.address, target) if case.direction == "down" else (source, link.address)
    process = subprocess.Popen(
        [*PROGRAM, "copy", "--quiet", f"{ends[0]}/big:v1", f"{ends[1]}/big"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.kill)
    registry = DistributionRegistry(target)
    stack.callback(registry.close)
    return Run(case, link, Place(registry, "big"), process)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", CASES)
def test_a_copy_gets_over_half_a_minute_without_its_link(
    name: str, here: Place, runs: dict[str, Run], peer: Callable[[str], str]
) -> None:
    if CASES[name].docker:
        peer("docker-registry")
    run = runs[name]
    assert run.was_waiting
    assert run.process.returncode == 0, run.errors
    assert compare(here, run.there, "v1", content=True) == []
    assert run.again <= run.case.again
