"""Pods, as a kubelet asks for them: their images start before they are fetched, and what they take is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.needs import missing, needed_module
from tests.node.agent import NAME
from tests.node.cri import Pod
from tests.node.pods import SYSTEM, TWO, Kubelet, kubelet, push_pause
from tests.node.test_containerd import in_the_end, left
from tests.stream.lazy.mounts import need_fanotify, need_fuse
from tests.stream.lazy.parts import nothing_left
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = pytest.mark.peer("containerd", "ctr")
FILE = 1 << 20


@dataclass
class Node:
    """A kubelet's runtime with an indexed image that nothing was fetched of."""

    kubelet: Kubelet
    image: str
    faults: FaultRegistry

    def fetched_bytes(self) -> int:
        return sum(seen.bytes_down for seen in self.faults.seen if seen.range)


@contextmanager
def ready(
    counted: Counted,
    streamer: Streamer,
    key: Key,
    peer: Callable[[str], str],
    programs: tuple[str, str],
    *,
    annotations: bool,
    runc: str = "runc",
    carrier: str = "fuse",
) -> Iterator[Node]:
    needed_module("grpc", "node")
    need_fuse()
    if os.geteuid() != 0:
        missing("containerd needs root")
    release = image(counted.place, more_mib=8)
    streamer.index(release, INDEXED)
    push_pause(counted.place)
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), counted.place.repository)
        name = f"{place}:v1"
        options = (
            "--key",
            str(key.public),
            "--no-fill",
            "--carrier",
            carrier,
            *(() if annotations else ("--announce", name)),
        )
        with kubelet(peer, programs, f"{place}:pause", *options, annotations=annotations, runc=runc) as found:
            if not annotations:
                in_the_end(lambda: "is announced" in found.agent.said())
            yield Node(found, name, faults)


def test_pods_start_lazily_where_containerd_names_a_layer_by_its_chain_id_alone(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str]
) -> None:
    with ready(counted, streamer, key, peer, SYSTEM, annotations=False) as node:
        cri, agent = node.kubelet.cri, node.kubelet.agent
        cri.pull(node.image)
        assert agent.folders() == set() and node.fetched_bytes() < FILE
        with cri.pod() as pod, ThreadPoolExecutor(2) as pool:
            script = "sha256sum /data/0 /data/1; echo mine > /motd; sleep 1000"
            first, second = pool.map(lambda _: pod.start(node.image, script), range(2))
            read = [cri.exec(each, "/bin/sha256sum", "/data/0", "/data/7") for each in (first, second)]
            assert read[0] == read[1]
            for each in (first, second):
                in_the_end(lambda each=each: cri.exec(each, "/bin/cat", "/etc/motd") == "mine\n")  # type: ignore[misc]
            # What was fetched is what the image takes of the disk, and what was written what the container does.
            assert usage(node) > 3 * FILE
            in_the_end(lambda: 0 < cri.written_bytes(first) < FILE)
            assert cri.image_disk()[0].endswith("/root/io.containerd.snapshotter.v1.rp")  # which nobody makes
            cri.remove_image(node.image)  # as a kubelet's clean-up never does, and a person may
            assert cri.exec(second, "/bin/cat", "/motd") == "mine\n"
            assert cri.exec(second, "/bin/sha256sum", "/data/3")
            for each in (first, second):
                pod.remove(each)
        left(node.kubelet.ctr, agent, 1)  # of the pause image
        assert len(cri.images()) == 1
        blocks = agent.folder / "state/registry-pipelines/lazy/blocks"
        in_the_end(lambda: nothing_left(blocks, "v*/*/*"))  # the disk has room again
        cri.pull(node.image)
        with cri.pod() as pod:
            third = pod.start(node.image, "sleep 1000")
            assert cri.exec(third, "/bin/cat", "/etc/motd") == "hello\n"
        assert "is pulled as usual" not in agent.said()


def usage(node: Node) -> int:
    """Bytes of all snapshots. CRI's own sum has those of a layer as they were when it first saw it."""
    words = ("--namespace", "k8s.io", "snapshots", "--snapshotter", NAME, "usage", "-b")
    return sum(int(line.split()[1]) for line in node.kubelet.ctr(*words).splitlines()[1:])


@pytest.mark.long
@pytest.mark.parametrize(
    ("programs", "annotations"),
    [(SYSTEM, False), (SYSTEM, True), (TWO, False), (TWO, True)],
    ids=["1.6 by chain ID", "1.6", "2 by transfer", "2 by local pull"],
)
def test_containerd_and_the_agent_are_restarted_below_pods(
    counted: Counted,
    streamer: Streamer,
    key: Key,
    peer: Callable[[str], str],
    programs: tuple[str, str],
    annotations: bool,
) -> None:
    with ready(counted, streamer, key, peer, programs, annotations=annotations) as node:
        cri, agent = node.kubelet.cri, node.kubelet.agent
        cri.pull(node.image)
        assert agent.folders() == set() and node.fetched_bytes() < FILE
        with cri.pod() as pod:
            first = pod.start(node.image, "echo mine > /motd; sleep 1000")
            node.kubelet.end()
            node.kubelet.start()
            in_the_end(lambda: answers(node, first))
            second = pod.start(node.image, "sleep 1000")
            agent.end(kill=True)
            agent.start()
            third: list[str] = []
            in_the_end(lambda: begun(node, pod, third))
            assert cri.exec(second, "/bin/cat", "/etc/motd") == "hello\n"
            read = {cri.exec(each, "/bin/sha256sum", "/data/0", "/data/7") for each in (first, second, third[-1])}
            assert len(read) == 1
            in_the_end(lambda: cri.image_disk()[1] > 0)
            assert (cri.image_disk()[0] == str(agent.root)) is (programs == TWO)
        cri.remove_image(node.image)
        left(node.kubelet.ctr, agent, 1)  # of the pause image


def begun(node: Node, pod: Pod, found: list[str]) -> bool:
    """gRPC waits some seconds before it asks a new process."""
    try:
        found.append(pod.start(node.image, "sleep 1000"))
    except node.kubelet.cri.errors:
        return False
    return True


def answers(node: Node, container: str) -> bool:
    try:
        return node.kubelet.cri.exec(container, "/bin/cat", "/etc/motd") == "mine\n"
    except (node.kubelet.cri.errors, AssertionError):
        return False


@pytest.mark.long
@pytest.mark.parametrize("carrier", ["fuse", "fanotify"])
def test_a_pod_with_users_of_its_own_copies_nothing(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], carrier: str, tmp_path: Path
) -> None:
    if carrier == "fanotify":
        need_fanotify(tmp_path / "test")
    runc = "../runc1.3/runc"
    with ready(counted, streamer, key, peer, TWO, annotations=True, runc=runc, carrier=carrier) as node:
        cri, agent = node.kubelet.cri, node.kubelet.agent
        cri.pull(node.image)
        with cri.pod(mapped=100000) as pod:
            mapped = pod.start(node.image, "echo mine > /motd; sleep 1000")
            assert cri.exec(mapped, "/bin/ls", "-ln", "/etc/motd", "/data/0").split()[2:4] == ["0", "0"]
            assert cri.exec(mapped, "/bin/cat", "/proc/self/uid_map").split() == ["0", "100000", "65536"]
            assert cri.exec(mapped, "/bin/sha256sum", "/data/0")
            [upper] = (agent.root / "snapshots").glob("*/fs/etc/motd")
            assert upper.stat().st_uid == 100000
            assert sum(1 for _ in upper.parents[1].rglob("*")) < 12, "files were copied up"
        in_the_end(lambda: not list((agent.root / "mapped").iterdir()))
