"""containerd, as it is, pulls and runs an image of which next to nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.needs import needed_module
from tests.node.agent import NAME, node
from tests.node.test_containerd import end, fresh, in_the_end, pull, run
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = pytest.mark.peer("containerd", "ctr")
PROGRAMS = ("../containerd2/containerd", "../containerd2/ctr")


@pytest.mark.long  # containerd 2.1.9, which is built there; 1.6 asks for no layer by what an image is
def test_a_pull_fetches_no_layer_and_its_containers_run(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str]
) -> None:
    needed_module("grpc", "node")
    need_fuse()
    release = image(counted.place, more_mib=8)
    streamer.index(release, INDEXED)
    with (
        FaultRegistry(counted.server.address) as faults,
        node(peer, PROGRAMS, "--key", str(key.public), "--no-fill") as (ctr, agent),
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
        in_the_end(lambda: not agent.folders())
        assert agent.end() == 0


def started(run: Callable[[], str]) -> bool:
    """gRPC waits some seconds before it asks a new process."""
    try:
        return run() == "hello\n"
    except AssertionError:
        return False
