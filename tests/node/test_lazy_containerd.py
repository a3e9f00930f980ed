"""containerd, as it is, pulls and runs an image of which next to nothing is fetched."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, KIND, mounts
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.needs import needed_module
from tests.node.agent import NAME, node
from tests.node.lives import keepers
from tests.node.test_containerd import end, fresh, in_the_end, left, pull, run
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fanotify, need_fuse
from tests.stream.lazy.starts import file, image, programs
from tests.stream.releases import INDEXED, Layer, Streamer, push

pytestmark = pytest.mark.peer("containerd", "ctr")
PROGRAMS = ("../containerd2/containerd", "../containerd2/ctr")


@pytest.mark.long  # containerd 2.1.9, which is built there; 1.6 asks for no layer by what an image is
@pytest.mark.parametrize("carrier", ["fuse", "fanotify"])
def test_a_pull_fetches_no_layer_and_its_containers_run(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], carrier: str, tmp_path: Path
) -> None:
    needed_module("grpc", "node")
    need_fuse() if carrier == "fuse" else need_fanotify(tmp_path / "test")
    release = image(counted.place, more_mib=8)
    streamer.index(release, INDEXED)
    with (
        FaultRegistry(counted.server.address) as faults,
        node(peer, PROGRAMS, "--key", str(key.public), "--no-fill", "--carrier", carrier) as (ctr, agent),
    ):
        name = f"{Place(DistributionRegistry(faults.address), 'team/app')}:v1"
        pull(ctr, name)
        listed = [line.split() for line in ctr("snapshots", "--snapshotter", NAME, "ls").splitlines()[1:]]
        assert [row[-1] for row in listed] == ["Committed"] * 2
        assert agent.folders() == set() and "is served before it is fetched" in agent.said()
        long = fresh()
        run(ctr, name, long, "echo mine > /motd; sleep 1000", "--detach")
        for _ in range(2):
            assert run(ctr, name, fresh(), "cat /etc/motd; ls /etc/gone; echo more >> /data/0", "--rm") == "hello\n"
        look = ("tasks", "exec", "--exec-id", "look", long, "/bin/sha256sum", "/data/2")
        agent.end(kill=True)
        with pytest.raises(AssertionError):
            run(ctr, name, fresh(), "exit 0", "--rm")
        agent.start()
        assert "/data/2" in ctr(*look)
        in_the_end(lambda: started(lambda: run(ctr, name, fresh(), "cat /etc/motd", "--rm")))
        end(ctr, long)
        ctr("images", "rm", "--sync", name)
        left(ctr, agent)
        assert agent.end() == 0


READ = "while sha256sum -c /sums > /dev/null 2>&1; do :; done; echo wrong > /wrong; sleep 1000"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("carrier", ["fuse", "fanotify"])
def test_agents_are_killed_while_containers_read(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], carrier: str, tmp_path: Path
) -> None:
    """Twenty times, at any moment; the image is removed meanwhile."""
    needed_module("grpc", "node")
    need_fuse() if carrier == "fuse" else need_fanotify(tmp_path / "test")
    kind, program = (KIND, "lazy.keeper") if carrier == "fuse" else (EROFS_KIND, "lazy.holder")
    chance = random.Random(20)
    data = {f"data/{number}": chance.randbytes(300_000) for number in range(40)}
    sums = "".join(f"{hashlib.sha256(raw).hexdigest()}  /{name}\n" for name, raw in data.items())
    tars = [pack(programs()), pack([*(file(name, raw) for name, raw in data.items()), file("sums", sums.encode())])]
    release = push(counted.place, *(Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in tars), tag="v1")
    streamer.index(release, INDEXED)
    name = f"{counted.place}:v1"
    with node(peer, PROGRAMS, "--key", str(key.public), "--no-fill", "--carrier", carrier) as (ctr, agent):
        pull(ctr, name)
        containers = [fresh() for _ in range(2)]
        for each in containers:
            run(ctr, name, each, READ, "--detach")
        [folder] = [each.folder for each in mounts() if each.kind == kind and agent.folder in each.folder.parents]
        for number in range(20):
            time.sleep(chance.uniform(0, 0.3))
            forget(folder)
            if number == 7:
                ctr("images", "rm", "--sync", name)
            if number % 4 < 2:
                for keeper in keepers(agent.folder, program)[number % 4 :][:1]:
                    os.kill(keeper, signal.SIGKILL)
            if number % 4:
                agent.end(kill=number % 4 < 3)
                time.sleep(chance.uniform(0, 0.1))
                agent.start()
        for each in containers:
            forget(folder)
            checked = ctr("tasks", "exec", "--exec-id", "check", each, "/bin/sha256sum", "-c", "/sums")
            assert checked.count(": OK") == len(data)
            with pytest.raises(AssertionError, match="No such file"):
                ctr("tasks", "exec", "--exec-id", "look", each, "/bin/ls", "/wrong")
            end(ctr, each)
        left(ctr, agent)
        in_the_end(lambda: not [each for each in mounts() if agent.folder in each.folder.parents and each.kind == kind])


def forget(folder: Path) -> None:
    """Have the kernel ask for the content of files again."""
    for path in (folder / "data").iterdir():
        with path.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def started(run: Callable[[], str]) -> bool:
    """gRPC waits some seconds before it asks a new process."""
    try:
        return run() == "hello\n"
    except AssertionError:
        return False


@pytest.mark.long
def test_containerd_1_6_fetches_everything_for_ctr_also_of_an_announced_image(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str]
) -> None:
    needed_module("grpc", "node")
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    name = f"{counted.place}:v1"
    options = ("--key", str(key.public), "--no-fill", "--announce", name)
    with node(peer, ("containerd", "ctr"), *options) as (ctr, agent):
        in_the_end(lambda: "is announced" in agent.said())
        pull(ctr, name)
        assert len(agent.folders()) == 2 and "is served before" not in agent.said()
        assert run(ctr, name, fresh(), "cat /etc/motd", "--rm") == "hello\n"
