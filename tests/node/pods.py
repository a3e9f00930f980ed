"""``node serve`` below a containerd with CRI, which pods are asked of, and what such pods start."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.registry.protocol import Place
from tests.doubles.containerd import Containerd, containerd
from tests.node.agent import PLUGINS, Agent
from tests.node.cri import Cri
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import Layer, push, waiting_program

SYSTEM = ("containerd", "ctr")
TWO = ("../docker28/containerd", "../docker28/ctr")
"""Programs: the system's containerd 1.6, and a containerd 2 that has CRI."""
CRI_OF_TWO = """\
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{folder}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dir = "{folder}/cni-bin"
    conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
"""
"""What containerd 2's CRI needs on a machine without a network for pods; below its images' own settings."""
CONFIGS = {
    2: """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  stats_collect_period = 1
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "rp"
    disable_snapshot_annotations = {quiet}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni-bin"
    conf_dir = "{folder}/cni"
""",
    3: """
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "rp"
  disable_snapshot_annotations = {quiet}
  stats_collect_period = 1
"""
    + CRI_OF_TWO,
}
"""containerd 1's, and containerd 2's."""
NETWORK = '{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}'
PLUGIN = """#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.4.0"]}'
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": "/"}],
  "ips": [{"version": "4", "interface": 0, "address": "192.0.2.2/24"}]}'
exit 0
"""
"""Of CNI: an address that nothing has. A pod without the machine's network has none."""


@dataclass
class Kubelet:
    """What a test works with. restart: containerd ends and starts again, its containers stay."""

    cri: Cri
    agent: Agent
    ctr: Containerd
    start: Callable[[], Containerd]
    """containerd."""
    end: Callable[[], None]


@contextmanager
def kubelet(
    peer: Callable[[str], str],
    programs: tuple[str, str],
    pause: str,
    *options: str,
    annotations: bool = False,
    runc: str = "runc",
) -> Iterator[Kubelet]:
    """annotations: whether containerd says which image a layer is of. options: of the agent. runc: that program."""
    found = [peer(each) for each in programs]
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a user namespace passes through
        for each in ("cni", "cni-bin"):
            (folder / each).mkdir()
        (folder / "cni/10-none.conflist").write_text(NETWORK)
        for each in ("none", "loopback"):
            (folder / "cni-bin" / each).write_text(PLUGIN)
            (folder / "cni-bin" / each).chmod(0o755)
        host = pause.partition("/")[0]
        # containerd 2 would wait ten seconds for TLS.
        (folder / "certs.d" / host).mkdir(parents=True)
        (folder / "certs.d" / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
        agent = Agent(folder, *options)
        agent.start()
        quiet = "false" if annotations else "true"
        version = 2 if programs == SYSTEM else 3
        plugins = PLUGINS.format(folder) + CONFIGS[version].format(
            pause=pause, quiet=quiet, folder=folder, runc=peer(runc)
        )
        running: list[object] = []

        def start() -> Containerd:
            context = containerd(found[0], found[1], folder, plugins=plugins, cri=True, version=version)
            running.append(context)
            return context.__enter__()

        def end() -> None:
            running.pop().__exit__(None, None, None)  # type: ignore[attr-defined]

        try:
            ctr = start()
            with closing(Cri(folder / "grpc.sock", folder)) as cri:
                yield Kubelet(cri, agent, ctr, start, end)
        finally:
            if running:
                end()
            agent.close()


def push_pause(place: Place) -> str:
    """What holds a pod's namespaces; its reference."""
    tar = pack([entry("pause", content=waiting_program(), mode=0o755)])
    push(place, Layer(gzip.compress(tar, 1, mtime=0), tar), tag="pause", config={"Entrypoint": ["/pause"]})
    return f"{place}:pause"


__all__ = ["Kubelet", "kubelet", "push_pause"]
