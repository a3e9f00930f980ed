"""SIGKILL of the real command line at random bytes of a large layer, against docker-registry, every byte counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.doubles.link import Link

if TYPE_CHECKING:
    from tests.transfer.conftest import Graphs

BOTH_KILLED_AT = 20_000_000
"""In the middle of a part, and of the upload's first request."""
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "copy", "--quiet"]


@dataclass
class Route:
    """An image with one large layer, and the way to its target: the real command line through a proxy that counts."""

    here: Place
    there: Place
    proxy: Link
    layer_bytes: int
    state: Path

    def start(self) -> subprocess.Popen[bytes]:
        """A copy, in a process of its own."""
        return subprocess.Popen(
            [*COMMAND, f"{self.here}:v1", f"{self.proxy.address}/big"],
            stdout=subprocess.PIPE,
            cwd=self.state,
            env={**os.environ, "XDG_STATE_HOME": str(self.state)},
        )

    def end(self) -> None:
        """A copy that nobody kills; after it all is there."""
        process = self.start()
        assert process.communicate()[0]
        assert process.returncode == 0
        assert compare(self.here, self.there, "v1", content=True) == []


@pytest.fixture
def route(
    request: pytest.FixtureRequest,
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
    graphs: Graphs,
    tmp_path: Path,
) -> Iterator[Route]:
    """Parameter: the layer's size, in bytes."""
    here, there = (Place(connect(start_docker_registry()), "big") for _ in range(2))
    block = graphs.noise(4_000_000)
    graphs.image(here, block * (request.param // len(block)), tag="v1")
    with Link(there.registry.name) as proxy:
        yield Route(here, there, proxy, request.param, tmp_path)


def courier_of(process: subprocess.Popen[bytes]) -> int:
    """The courier of a copy that is under way."""
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    [courier] = [pid for pid in pids if b"courier_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return courier


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("route", [200_000_000], indirect=True, ids=["200MB"])
def test_when_the_courier_is_killed_too_the_upload_begins_again(route: Route) -> None:
    """As when power is lost: nobody ends the request. The courier is stopped first, or it would when the copy dies."""
    proxy, size = route.proxy, route.layer_bytes
    proxy.break_at("up", BOTH_KILLED_AT, "silent")
    process = route.start()
    proxy.wait_until_broken(lambda: process.poll() is not None)
    courier = courier_of(process)
    os.kill(courier, signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    os.kill(courier, signal.SIGKILL)
    before = proxy.up
    assert process.returncode == -signal.SIGKILL and before == BOTH_KILLED_AT
    proxy.mend()
    route.end()
    assert proxy.up - before >= size, "a torn upload was gone on with: docker-registry had become able to, or lied"
    assert proxy.up - before <= size + 2 * PART_BYTES  # and what was on its way


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("route", "wanted"),
    [(500_000_000, 20), pytest.param(800_000_000, 200, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
    indirect=["route"],
    ids=["20", "200"],
)
def test_kills_send_at_most_one_part_again_each(route: Route, wanted: int) -> None:
    picks, step = random.Random(20), route.layer_bytes // wanted
    kills = 0
    for kill in range(wanted):
        # Nothing more passes until it is dead: it is killed at this byte, however late we look.
        route.proxy.break_at("up", kill * step + picks.randrange(step), "silent")
        process = route.start()
        route.proxy.wait_until_broken(lambda process=process: process.poll() is not None)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        route.proxy.mend()
        process.communicate()
    route.end()
    assert kills == wanted
    assert route.proxy.up - route.layer_bytes <= wanted * PART_BYTES
