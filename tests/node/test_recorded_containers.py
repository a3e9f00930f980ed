"""From a container's first start under a real containerd to a hot pack, and the start of another node from that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.inbox import of_images, read_message, waiting
from registry_pipelines.stream.hot.packs import find_packs
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.needs import needed_module
from tests.node.agent import SERVE, node
from tests.node.test_containerd import end, fresh, in_the_end, pull, run
from tests.node.test_lazy_containerd import PROGRAMS
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = pytest.mark.peer("containerd", "ctr")


@pytest.mark.long  # containerd 2.1.9, which is built there; and a start is over after 30 seconds
def test_a_container_s_first_start_becomes_the_hot_pack_that_the_next_node_starts_from(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    needed_module("grpc", "node")
    need_fuse()
    release = image(counted.place, more_mib=8)
    streamer.index(release, INDEXED)
    inbox = Place(counted.place.registry, "inbox")
    driver = tmp_path / "driver.so"
    driver.write_bytes(b"the machine's own\n" * 1000)
    script = "cat /etc/motd /usr/driver.so /data/3 >/dev/null; echo x >/mine; cat /mine; sleep 1000"
    injected = ["--mount", f"type=bind,src={driver},dst=/usr/driver.so,options=rbind:ro", "--env", "SECRET=hunter2"]
    with FaultRegistry(counted.server.address) as faults:
        name = f"{Place(DistributionRegistry(faults.address), 'team/app')}:v1"
        options = ("--key", str(key.public), "--no-fill", "--record-to", f"{faults.address}/inbox")
        with node(peer, PROGRAMS, *options) as (ctr, agent):
            pull(ctr, name)
            first = fresh()
            run(ctr, name, first, script, "--detach", *injected)
            in_the_end(lambda: "was recorded: " in agent.said())
            assert run(ctr, name, fresh(), "cat /data/5 >/dev/null; cat /etc/motd", "--rm") == "hello\n"
            end(ctr, first)
        [(_, [one])] = of_images(waiting(inbox))
        told = read_message(inbox, one)
        paths = {file.path for file in told.recording.files}
        assert {"etc/motd", "data/3", "bin/sh"} <= paths, paths
        assert not paths & {"data/5", "mine", "usr/driver.so", "proc", "etc/hosts"}
        assert told.note.carrier == "fuse" and b"hunter2" not in str(told).encode()
        command = [*SERVE[:-3], "stream", "recordings", "collect", name, "--inbox", f"{faults.address}/inbox"]
        made = subprocess.run([*command, "--key", str(key.path)], capture_output=True, text=True, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        [pack] = find_packs(counted.place, release.digest, key.verifier).believed
        assert pack.note.pages == told.recording.pages and waiting(inbox).waiting == ()
        before = len(faults.seen)
        with node(peer, PROGRAMS, *options) as (ctr, agent):
            pull(ctr, name)
            assert run(ctr, name, fresh(), "cat /etc/motd /data/3 >/dev/null; cat /etc/motd", "--rm") == "hello\n"
            assert "recorded" not in agent.said(), "the pack knows enough"
        asked = {each.target.rpartition("/")[2] for each in faults.seen[before:]}
        layers = counted.place.registry.get_manifest("team/app", release.digest).content().layers  # type: ignore[union-attr]
        assert not asked & {str(each.digest) for each in layers}, "all that it read is in the pack"
