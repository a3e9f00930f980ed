"""A pod with a volume of kind image, as a kubelet asks containerd 2 for it: weights as an artifact, and as an image."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.mounting import guard_command
from registry_pipelines.weights.opening import open_weights
from tests.doubles.containerd import containerd
from tests.needs import missing, needed_module
from tests.node.cri import Cri
from tests.node.pods import CRI_OF_TWO, TWO, push_pause
from tests.scan.images import make_tar, push_image
from tests.weights.conftest import done, shard
from tests.weights.test_mounting import wanted

pytestmark = [pytest.mark.long, pytest.mark.peer(*TWO)]


@contextmanager
def kubelet(peer: Callable[[str], str], pause: str) -> Iterator[Cri]:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("containerd needs root")
    program, client = (peer(each) for each in TWO)
    host = pause.partition("/")[0]
    with tempfile.TemporaryDirectory(prefix="v-") as text:
        folder = Path(text)
        (folder / "cni").mkdir()
        (folder / "certs.d" / host).mkdir(parents=True)
        (folder / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
        plugins = CRI_OF_TWO.format(pause=pause, folder=folder, runc=peer("runc"))
        with (
            containerd(program, client, folder, plugins=plugins, cri=True, version=3),
            closing(Cri(folder / "grpc.sock", folder)) as cri,
        ):
            yield cri


def test_a_volume_of_an_image_has_the_files_and_one_of_the_artifact_is_empty(
    peer: Callable[[str], str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard runs in the container, with the volume where the program has it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "m"
    shard(folder / "sub" / "model.safetensors", 1, 1 << 20)
    (folder / "config.json").write_text("{}")
    done("push", folder, f"{address}/models/m:artifact")
    done("push", folder, f"{address}/models/m:image", "--form", "image")
    files = open_weights(Place(DistributionRegistry(address), "models/m"), "image").weights.files
    app = Place(DistributionRegistry(address), "app")
    links = {f"bin/{name}": "->busybox" for name in ("sh", "sha256sum", "ls", "sleep")}
    content = {"bin/busybox": Path(peer("busybox")).read_bytes(), **links}
    push_image(app, [make_tar(content, executable=["bin/busybox"])], tag="1")
    guard = guard_command(wanted("image-volume", "/models/m", files=files))
    with kubelet(peer, push_pause(app)) as cri:
        cri.pull(f"{app}:1")
        seen = {}
        for form in ("artifact", "image"):
            reference = f"{address}/models/m:{form}"
            cri.pull(reference)
            with cri.pod() as pod:
                mount = {"container_path": "/models/m", "readonly": True, "image": {"image": reference}}
                command = ["/bin/sh", "-c", "sleep 1000"]
                container = pod.run({"image": {"image": f"{app}:1"}, "command": command, "mounts": [mount]})
                ran = cri.call("ExecSync", container_id=container, cmd=["/bin/sh", *guard[1:]], timeout=30)
                listed = cri.exec(container, "/bin/ls", "/models/m").split()
                seen[form] = (ran.exit_code, listed)
                pod.remove(container)
    assert seen == {"artifact": (1, []), "image": (0, ["config.json", "sub"])}
