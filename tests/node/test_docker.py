"""Docker with its containerd store, as it is, on images that next to nothing is fetched of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from tests.doubles.docker_daemon import Docker
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.needs import missing, needed_module
from tests.node.agent import Agent, node
from tests.node.dockers import above
from tests.node.pods import TWO
from tests.node.test_containerd import in_the_end
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = [pytest.mark.peer("dockerd"), pytest.mark.long]
FILE = 1 << 20


@dataclass
class Ready:
    """Docker above an agent, and an indexed image that nothing was fetched of."""

    docker: Docker
    agent: Agent
    host: str
    """Its registry."""
    faults: FaultRegistry

    @property
    def image(self) -> str:
        return f"{self.host}/team/app:v1"

    def fetched_bytes(self) -> int:
        return sum(seen.bytes_down for seen in self.faults.seen if seen.range)

    def run(self, image: str, *command: str) -> str:
        return self.docker("run", "--rm", "--network", "host", image, *command)


@contextmanager
def ready(counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str]) -> Iterator[Ready]:
    needed_module("grpc", "node")
    need_fuse()
    if os.geteuid() != 0:
        missing("Docker needs root")
    release = image(counted.place, more_mib=8)
    streamer.index(release, INDEXED)
    with (
        FaultRegistry(counted.server.address) as faults,
        node(peer, TWO, "--key", str(key.public), "--no-fill") as (_, agent),
        above(agent, peer) as docker,
    ):
        found = Ready(docker, agent, faults.address.removeprefix("http://"), faults)
        docker("pull", found.image)
        assert agent.folders() == set() and found.fetched_bytes() < FILE
        yield found


def test_containers_run_are_committed_and_built_upon(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    with ready(counted, streamer, key, peer) as node:
        docker = node.docker
        assert node.run(node.image, "cat", "/etc/motd") == "hello\n"
        docker("run", "--detach", "--name", "long", "--network", "host", node.image, "sleep", "1000")
        assert docker("exec", "long", "sha256sum", "/data/0")
        assert node.fetched_bytes() < 4 * FILE
        docker("exec", "long", "sh", "-c", "echo mine > /etc/new; cat /etc/new > /data/1")
        docker("commit", "long", "mine:1")  # compares all files of the image with the container's
        assert node.run("mine:1", "cat", "/etc/new", "/data/1", "/etc/motd") == "mine\nmine\nhello\n"
        (tmp_path / "file").write_text("built\n")
        (tmp_path / "Dockerfile").write_text(f'FROM {node.image}\nCOPY file /file\nRUN ["cat", "/etc/motd"]\n')
        docker("build", "--network", "host", "--tag", "built:1", str(tmp_path))
        assert node.run("built:1", "cat", "/file", "/etc/motd") == "built\nhello\n"
        for name in ("mine:1", "built:1"):  # what Docker has not of the layers it fetches, or has mounted
            docker("tag", name, f"{node.host}/team/app:pushed")
            docker("push", f"{node.host}/team/app:pushed")
            pushed = image_for(counted.place, "pushed")
            assert pushed.layers[:2] == image_for(counted.place, "v1").layers
        docker("rm", "--force", "long")
        docker("image", "rm", "--force", "mine:1", "built:1", node.image, f"{node.host}/team/app:pushed")
        docker("builder", "prune", "--all", "--force")
        in_the_end(lambda: not node.agent.folders())


def test_a_push_of_what_was_not_fetched_mounts_it_within_its_registry_and_fails_elsewhere(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    with ready(counted, streamer, key, peer) as node, EmbeddedServer(tmp_path / "far") as far:
        docker = node.docker
        docker("tag", node.image, f"{node.host}/other/app:1")
        docker("push", f"{node.host}/other/app:1")
        assert node.fetched_bytes() < FILE
        there = Place(counted.place.registry, "other/app")
        assert image_for(there, "1").descriptor == image_for(counted.place, "v1").descriptor
        elsewhere = f"{far.address.removeprefix('http://')}/app:1"
        docker("tag", node.image, elsewhere)
        with pytest.raises(AssertionError, match=r"content digest sha256:[0-9a-f]{64}: not found"):
            docker("push", elsewhere)
        assert node.run(node.image, "cat", "/etc/motd") == "hello\n"
        # Fetched whole it is still not Docker's content: what is to go elsewhere is copied by the registry's clients.
        with pytest.raises(AssertionError, match="not found"):
            docker("push", elsewhere)
