"""``node serve`` as a process of its own, containerd beside it, and an image with a shell."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, KIND, end_mount, mounts
from tests.doubles.containerd import Containerd, containerd
from tests.patience import patient
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import Layer, push

NAME = "rp"
KINDS = (KIND, EROFS_KIND)
PLUGINS = """
[proxy_plugins.rp]
  type = "snapshot"
  address = "{0}/snap.sock"
  capabilities = ["remap-ids"]
  [proxy_plugins.rp.exports]
    enable_remote_snapshot_annotations = "true"
    root = "{0}/node"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "rp"
  differ = "walking"
"""
SERVE = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "node", "serve", "--json"]
_LIBRARY = re.compile(r"(/\S+) \(0x")


class Agent:
    """The process, in a folder with a short name."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.root, self._options = folder, folder / "node", options

    def start(self) -> None:
        words = ["--socket", str(self.folder / "snap.sock"), "--root", str(self.root), "--keep-free", "0"]
        command = [*SERVE, *words, *self._options]  # how full the disk of the tests is changes nothing
        own = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state")}
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=own)
        assert self.process.stdout is not None
        said = b""
        while piece := self.process.stdout.readline():
            said += piece
            if piece == b"}\n":
                break
        assert json.loads(said)["result"]["url"] == f"unix://{self.folder}/snap.sock", self.said()

    def end(self, *, kill: bool = False) -> int:
        (self.process.kill if kill else self.process.terminate)()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(patient(30))

    def close(self) -> None:
        """End it, and take away what it leaves mounted for the next one: what keeps that ends then."""
        if self.process.poll() is None:
            self.end()
        while left := [each.folder for each in mounts() if each.kind in KINDS and self.folder in each.folder.parents]:
            for each in left:
                end_mount(each)

    def said(self) -> str:
        return (self.folder / "node.log").read_text()

    def folders(self) -> set[str]:
        return {path.name for path in (self.root / "snapshots").iterdir()}


@contextmanager
def node(peer: Callable[[str], str], programs: tuple[str, str], *options: str) -> Iterator[tuple[Containerd, Agent]]:
    found = [peer(each) for each in programs]
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a user namespace passes through
        agent = Agent(folder, *options)
        agent.start()
        try:
            with containerd(found[0], found[1], folder, plugins=PLUGINS.format(folder)) as client:
                yield client, agent
        finally:
            agent.close()


def shell(*programs: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """This machine's programs with their libraries, as entries of a layer."""
    wanted = {f"/bin/{name}" for name in programs}
    for path in sorted(wanted):
        wanted |= set(_LIBRARY.findall(subprocess.run(["ldd", path], capture_output=True, text=True).stdout))
    folders = sorted({str(above) for path in wanted for above in Path(path).parents if str(above) != "/"})
    return [
        *(entry(path[1:], tarfile.DIRTYPE, mode=0o755) for path in folders),
        *(entry(path[1:], content=Path(path).read_bytes(), mode=0o755) for path in sorted(wanted)),
    ]


def pushed(place: Place, tag: str = "v1") -> Descriptor:
    """An image of three layers: a shell, files, and one that hides and replaces some of them."""
    stack = [
        shell("sh", "cat", "rm", "sleep", "ls"),
        [
            entry("old", content=b"old\n"),
            entry("gone", content=b"gone\n"),
            entry("d/one", content=b"one\n", uid=7, gid=8),
            entry("tmp", tarfile.DIRTYPE, mode=0o1777),
        ],
        [entry(".wh.gone"), entry("d/.wh..wh..opq"), entry("d/two", content=b"two\n"), entry("old", content=b"new\n")],
    ]
    tars = [pack(entries) for entries in stack]
    return push(
        place, *(Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in tars), tag=tag, config={"Cmd": ["/bin/sh"]}
    )
