"""A drain under containerd, as it is: what runs needs no registry any more, and in the end nothing needs the agent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.mounting import KIND, mounts
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.needs import needed_module
from tests.node.agent import Agent, node
from tests.node.test_agent import told, told_json
from tests.node.test_containerd import end, fresh, in_the_end, pull, run
from tests.node.test_doctor import doctor
from tests.node.test_lazy_containerd import PROGRAMS
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = pytest.mark.peer("containerd", "ctr")


def counted_of(agent: Agent, name: str, label: str) -> float:
    counters = told_json(agent.root, "status")["counters"]
    return sum(each["value"] for each in counters if each["name"] == name and label in each["labels"].values())


@pytest.mark.long  # containerd 2.1.9, as in test_lazy_containerd
def test_a_node_is_drained_while_a_container_runs(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str]
) -> None:
    needed_module("grpc", "node")
    need_fuse()
    for tag in ("v1", "v2"):
        streamer.index(image(counted.place, tag=tag, more_mib=8), INDEXED)
    with (
        FaultRegistry(counted.server.address) as faults,
        node(peer, PROGRAMS, "--key", str(key.public), "--no-fill") as (ctr, agent),
        ExitStack() as undo,
    ):
        name, other = (f"{Place(DistributionRegistry(faults.address), 'team/app')}:{tag}" for tag in ("v1", "v2"))
        pull(ctr, name)
        long = fresh()
        run(ctr, name, long, "sleep 1000", "--detach")
        undo.callback(lambda: end(ctr, long) if long in ctr("tasks", "ls") else None)
        in_the_end(lambda: any(each["mounts"] for each in told_json(agent.root, "status")["images"]))
        [served] = told_json(agent.root, "status")["images"]
        assert served["image"].startswith(f"{name}@") and served["containers"] == [f"default/{long}"]
        [mounted] = served["mounts"]
        assert mounted["filled_bytes"] < mounted["size_bytes"] // 2 and mounted["failed_reads"] == 0
        assert f"default/{long}" in told(agent.root, "status")
        seen = doctor(agent, "--image", name, code=0)
        assert "2.1.9" in seen["containerd"]["what"], seen

        told(agent.root, "drain", "--until", "filled", "--timeout", "120")
        pull(ctr, other)
        in_the_end(lambda: counted_of(agent, "fallbacks", "draining") == 1)  # the base is there already
        assert counted_of(agent, "layers", "normal") == 1
        for method in ("GET", "HEAD"):
            faults.play(method, r"/v2/.*", Status(503))
        asked = len(faults.seen)
        assert run(ctr, name, fresh(), "cat /data/* | sha256sum > /sum; cat /etc/motd", "--rm") == "hello\n"
        look = ("tasks", "exec", "--exec-id", "look", long, "/bin/sha256sum", "/data/7")
        assert "/data/7" in ctr(*look)
        assert len(faults.seen) == asked

        assert "of images that are served" in told(agent.root, "drain", "--timeout", "0", code=1)
        end(ctr, long)
        told(agent.root, "drain", "--timeout", "120")
        assert agent.end() == 0
        assert not [each for each in mounts() if each.kind == KIND and agent.folder in each.folder.parents]
