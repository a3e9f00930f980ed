"""The product's own image as a pod of a real containerd, as the DaemonSet says: it serves images to other pods."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.node.setup import NAME
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.outliving import GROUP
from tests.doubles.containerd import containerd
from tests.evidence.parts import Counted, Key
from tests.installed import ROOT, build_wheel
from tests.node.cri import Cri
from tests.node.pods import TWO, push_pause
from tests.node.test_setup import setup
from tests.patience import patient
from tests.ports import free_ports
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

pytestmark = [pytest.mark.long, pytest.mark.peer(*TWO), pytest.mark.timeout(1800)]
BIDIRECTIONAL = 2
PRODUCT = ROOT / "deploy" / "product" / "registry-pipelines.yaml"
CRI = """
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{folder}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dir = "{folder}/cni"
    conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
"""
"""Beside the file that ``node setup`` writes; the folders of CNI are empty: pods use the machine's network."""


def built(folder: Path, place: Place) -> str:
    """The image of this checkout, by this product, in a registry; its reference."""
    own = folder / "deploy" / "product"
    (own / "wheels").mkdir(parents=True)
    [port] = free_ports(1)
    (own / PRODUCT.name).write_text(PRODUCT.read_text().replace("port: 5510", f"port: {port}"))
    shutil.copy(ROOT / "constraints.txt", folder)
    shutil.copy(build_wheel(folder), own / "wheels")
    goal = f"{place}:product"
    program = str(ROOT / ".venv" / "bin" / "registry-pipelines")
    for words in (["build", "registry-pipelines"], ["copy", "product/registry-pipelines:v0.1.0", goal]):
        done = subprocess.run([program, *words, "--json"], cwd=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
    return goal


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder whose mounts pass between the machine and its containers, as those of a node do."""
    with tempfile.TemporaryDirectory(prefix="node-") as text:
        folder = Path(text)
        folder.chmod(0o711)
        for words in (["--bind", text, text], ["--make-rshared", text]):
            subprocess.run(["mount", *words], check=True)
        try:
            yield folder
        finally:
            for path in reversed(mounted(folder)):
                subprocess.run(["umount", "-l", path])
            subprocess.run(["umount", "-l", text])


def mounted(folder: Path, kind: str = "") -> list[str]:
    """What is mounted in a folder, as the machine sees it. kind: of file system."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [line[1] for line in lines if line[1].startswith(f"{folder}/") and line[2].startswith(kind)]


def container(objects: Path, folder: Path) -> dict[str, Any]:
    """What a kubelet makes of the DaemonSet and the ConfigMap: a container, for CRI."""
    spec = yaml.safe_load((objects / "daemonset.yaml").read_bytes())["spec"]["template"]["spec"]
    for name, text in yaml.safe_load((objects / "configmap.yaml").read_bytes())["data"].items():
        (folder / "config").mkdir(exist_ok=True)
        (folder / "config" / name).write_text(text)
    (folder / "nothing").mkdir()
    [agent] = spec["containers"]
    places = {each["name"]: each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
    for path in places.values():
        Path(path).mkdir(parents=True, exist_ok=True)  # DirectoryOrCreate
    places |= {"config": str(folder / "config"), "login": str(folder / "nothing")}
    assert agent["securityContext"] == {"privileged": True, "runAsUser": 0, "runAsGroup": 0}
    return {
        "image": {"image": agent["image"]},
        "args": agent["args"],
        "envs": [{"key": each["name"], "value": each["value"]} for each in agent["env"]],
        "mounts": [
            {
                "container_path": each["mountPath"],
                "host_path": places[each["name"]],
                "readonly": each.get("readOnly", False),
                "propagation": BIDIRECTIONAL if each.get("mountPropagation") == "Bidirectional" else 0,
            }
            for each in agent["volumeMounts"]
        ],
    }


@pytest.mark.parametrize("carrier", ["fuse", "fanotify"])
def test_a_pod_of_the_image_serves_an_image_to_another_pod_which_outlives_it(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path, carrier: str
) -> None:
    need_fuse()
    programs = [peer(each) for each in TWO]
    product, pause = built(tmp_path, counted.place), push_pause(counted.place)
    streamer.index(image(counted.place, tag="lazy", more_mib=8), INDEXED)
    host = pause.partition("/")[0]
    with shared_folder() as folder:
        own = tmp_path / "own.yaml"
        own.write_text(
            f"version: 1\nstate: {folder}/state\n"
            f"registries:\n  own: {{kind: distribution, host: '{host}', plain_http: true}}\n"
            f"node: {{carrier: {carrier}}}\n"
        )
        where = ["--socket", f"{folder}/run/snap.sock", "--root", f"{folder}/data/node"]
        words = ["--image", product, "--config", str(own), "--key", str(key.public)]
        for form, more in (("kubernetes", words), ("containerd", [])):
            done = setup(form, "--to", str(folder / "to"), *where, *more)
            assert done.exit_code == 0, done.output
        (folder / "cni").mkdir()
        (folder / "certs.d" / host).mkdir(parents=True)
        (folder / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
        written = (folder / "to" / "containerd-2" / f"{NAME}.toml").read_text().replace("version = 3\n", "")
        plugins = written + CRI.format(pause=pause, folder=folder)
        with (
            containerd(programs[0], programs[1], folder, plugins=plugins, cri=True, version=3),
            closing(Cri(folder / "grpc.sock", folder)) as cri,
        ):
            cri.pull(product)
            made = container(folder / "to", folder)
            made["args"].append("--no-fill")
            with ExitStack() as stack:
                with agent(cri, made, folder):
                    # As `node setup` says of pods: without it the image would be pulled for another snapshotter.
                    cri.pull(f"{counted.place}:lazy", pod={"annotations": {"io.containerd.cri.runtime-handler": NAME}})
                    assert "is served before it is fetched" in said(folder)
                    pod = stack.enter_context(cri.pod(handler=NAME))
                    reader = pod.start(f"{counted.place}:lazy", "sleep 1000")
                    assert cri.exec(reader, "cat", "/motd") == "hello\n"
                    # What is mounted in the agent's pod is the machine's.
                    assert mounted(folder, "fuse" if carrier == "fuse" else "erofs")
                noise = random.Random("lazy")
                sums = [hashlib.sha256(noise.randbytes(1 << 20)).hexdigest() for _ in range(8)]
                for number in range(3):  # each time its pod is deleted, and comes again
                    with ThreadPoolExecutor(1) as readers:
                        late = readers.submit(cri.exec, reader, "sha256sum", f"/data/{number}")
                        time.sleep(0.3)
                        assert not late.done()
                        with agent(cri, made, folder):
                            assert late.result().split()[0] == sums[number]
                            assert cri.exec(reader, "sha256sum", f"/data/{number + 3}").split()[0] == sums[number + 3]
                with agent(cri, made, folder):
                    pod.remove(reader)
                    cri.remove_image(f"{counted.place}:lazy")
                    in_time(lambda: not mounted(folder, "fuse") + mounted(folder, "erofs"), lambda: said(folder))
            in_time(lambda: not left(folder), lambda: f"{left(folder)} keep mounts that are gone")
            for group in [*Path("/sys/fs/cgroup").glob(f"*/{GROUP}"), *Path("/sys/fs/cgroup").glob(GROUP)]:
                with suppress(OSError):
                    group.rmdir()


@contextmanager
def agent(cri: Cri, made: dict[str, Any], folder: Path) -> Iterator[None]:
    """A pod of the DaemonSet; it is killed in the end."""
    with cri.pod(privileged=True, sees_all=True) as pod:
        pod.run(made, privileged=True, run_as_user={"value": 0})

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as asked:
                return asked.connect_ex(str(folder / "run" / "snap.sock")) == 0

        in_time(answers, lambda: said(folder))
        yield


def left(folder: Path) -> list[str]:
    """Processes that keep mounts below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if os.fsencode(folder) in line and b"stream.lazy" in line:
                found.append(path.parent.name)
    return found


def said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob("*.log"))


def in_time(true: Callable[[], bool], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + patient(60)
    while not true():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)
