"""SIGKILL of the real command line at random bytes of a large layer, against docker-registry, every byte counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.doubles.link import Link

if TYPE_CHECKING:
    from tests.transfer.conftest import Graphs

LAYER_BYTES = 500_000_000
KILLS = 20
BOTH_KILLED_AT = 20_000_000
"""In the middle of a part, and of the upload's first request."""
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "copy", "--quiet"]


@pytest.fixture
def proxied(start_docker_registry: Callable[[], str]) -> Iterator[tuple[Link, str]]:
    address = start_docker_registry()
    with Link(address) as proxy:
        yield proxy, address


def start_copy(source: str, target: str, state: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, f"{source}/big:v1", f"{target}/big"],
        stdout=subprocess.PIPE,
        cwd=state,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )


def courier_of(process: subprocess.Popen[bytes]) -> int:
    """The courier of a copy that is under way."""
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    [found] = [pid for pid in pids if b"courier_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(120)
def test_when_the_courier_is_killed_too_the_upload_begins_again(
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
    proxied: tuple[Link, str],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    """As when power is lost: nobody ends the request. The courier is stopped first, or it would when the copy dies."""
    proxy, target = proxied
    source = start_docker_registry()
    here, size = Place(connect(source), "big"), 200_000_000
    graphs.image(here, graphs.noise(8_000_000) * (size // 8_000_000), tag="v1")
    process = start_copy(source, proxy.address, tmp_path)
    proxy.wait_for(BOTH_KILLED_AT, lambda: process.poll() is not None)
    courier = courier_of(process)
    os.kill(courier, signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    os.kill(courier, signal.SIGKILL)
    before = proxy.up
    assert process.returncode == -signal.SIGKILL and BOTH_KILLED_AT <= before < size
    again = start_copy(source, proxy.address, tmp_path)
    assert again.communicate()[0]
    assert again.returncode == 0
    assert proxy.up - before >= size, "a torn upload was gone on with: docker-registry had become able to, or lied"
    assert proxy.up - before <= size + 2 * PART_BYTES  # and what was on its way
    assert compare(here, Place(connect(target), "big"), "v1", content=True) == []


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(240)
def test_twenty_kills_send_at_most_one_part_again_each(
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
    proxied: tuple[Link, str],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    proxy, target = proxied
    source = start_docker_registry()
    here = Place(connect(source), "big")
    graphs.image(here, graphs.noise(8_000_000) * (LAYER_BYTES // 8_000_000), tag="v1")
    size = LAYER_BYTES // 8_000_000 * 8_000_000
    picks = random.Random(20)
    kills = 0
    for kill in range(KILLS):
        process = start_copy(source, proxy.address, tmp_path)
        step = size // KILLS
        proxy.wait_for(kill * step + picks.randrange(step), lambda process=process: process.poll() is not None)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start_copy(source, proxy.address, tmp_path)
    assert last.communicate()[0]
    assert last.returncode == 0
    assert kills == KILLS
    assert proxy.up - size <= KILLS * PART_BYTES
    assert compare(here, Place(connect(target), "big"), "v1", content=True) == []
