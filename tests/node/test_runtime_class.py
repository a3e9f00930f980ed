"""Pods with the RuntimeClass of ``node setup`` beside others, under a containerd 2 with its files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from registry_pipelines.node.setup import NAME
from tests.doubles.containerd import containerd
from tests.evidence.parts import Counted
from tests.needs import needed_module
from tests.node.agent import Agent, pushed
from tests.node.cri import Cri
from tests.node.pods import TWO, push_pause
from tests.node.test_product_image import CRI
from tests.node.test_setup import setup
from tests.patience import patient

pytestmark = [pytest.mark.long, pytest.mark.peer(*TWO)]
KEEPS = "discard_unpacked_layers = false"


@contextmanager
def configured(
    peer: Callable[[str], str], pause: str, changed: Callable[[str], str] = lambda text: text
) -> Iterator[tuple[Cri, Path]]:
    """changed: what somebody made of the file."""
    needed_module("grpc", "node")
    programs, host = [peer(each) for each in TWO], pause.partition("/")[0]
    with tempfile.TemporaryDirectory(prefix="node-") as text:
        folder = Path(text)
        folder.chmod(0o711)
        agent = Agent(folder)
        agent.start()
        try:
            own = ["--socket", f"{folder}/snap.sock", "--root", f"{folder}/node"]
            assert setup("containerd", "--to", f"{folder}/to", *own).exit_code == 0
            written = (folder / "to" / "containerd-2" / f"{NAME}.toml").read_text().replace("version = 3\n", "")
            (folder / "cni").mkdir()
            (folder / "certs.d" / host).mkdir(parents=True)
            (folder / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
            plugins = changed(written) + CRI.format(pause=pause, folder=folder)
            with (
                containerd(programs[0], programs[1], folder, plugins=plugins, cri=True, version=3),
                closing(Cri(folder / "grpc.sock", folder)) as cri,
            ):
                yield cri, folder
        finally:
            agent.end()


def test_an_image_that_a_node_has_for_other_pods_starts_for_ours(counted: Counted, peer: Callable[[str], str]) -> None:
    """kubelet does not pull it again; without its layers containerd could not unpack it."""
    pushed(counted.place)
    pause = push_pause(counted.place)
    with configured(peer, pause) as (cri, _):
        cri.pull(f"{counted.place}:v1")
        with cri.pod(handler=NAME) as pod:
            started = pod.start(f"{counted.place}:v1", "sleep 1000")
            assert cri.exec(started, "cat", "/old") == "new\n"
            pod.remove(started)
    with configured(peer, pause, lambda text: text.replace(KEEPS, KEEPS.replace("false", "true"))) as (cri, _):
        cri.pull(f"{counted.place}:v1")
        with pytest.raises(cri.errors, match="not found"), cri.pod(handler=NAME) as pod:
            pod.start(f"{counted.place}:v1", "sleep 1000")


@pytest.mark.parametrize("default", ["overlayfs", NAME])
def test_kubelet_is_told_of_the_disk_of_the_default_snapshotter(
    counted: Counted, peer: Callable[[str], str], default: str
) -> None:
    """And of no other: see "What bites" in ``docs/nodes.md``."""
    pushed(counted.place)
    own = {"io.containerd.runtime_handler": NAME, "io.containerd.cri.runtime-handler": NAME}

    def changed(text: str) -> str:
        return text.replace(KEEPS, f'{KEEPS}\n  snapshotter = "{default}"\n  stats_collect_period = 1')

    with configured(peer, push_pause(counted.place), changed) as (cri, folder):
        cri.pull(f"{counted.place}:v1")
        cri.pull(f"{counted.place}:v1", pod={"annotations": own})
        deadline = time.monotonic() + patient(60)
        while not (found := cri.call("ImageFsInfo").image_filesystems) or not found[0].used_bytes.value:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        places = {NAME: f"{folder}/node", "overlayfs": f"{folder}/root/io.containerd.snapshotter.v1.overlayfs"}
        assert [each.fs_id.mountpoint for each in found] == [places[default]]
