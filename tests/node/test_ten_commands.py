"""From an empty Debian node to a container whose image was not fetched: the commands of docs/nodes.md, as written."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from tests.build.roots import mirror
from tests.evidence.parts import Counted, Key
from tests.installed import ROOT, build_wheel
from tests.node import debian
from tests.node.agent import shell
from tests.node.cri import Cri
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.stacks import entry
from tests.stream.releases import INDEXED, Layer, Streamer, push

RELEASE = "sid"
"""The first with a containerd 2."""
OLD_RELEASE = "bookworm"
"""With containerd 1.6."""


def commands() -> list[str]:
    text = (ROOT / "docs" / "nodes.md").read_text()
    [block] = re.findall(r"^## From an empty Debian node\n.*?```text\n(.*?)```", text, re.S | re.M)
    return str(block).splitlines()


def image(place: Place) -> Descriptor:
    """A program, and above it 64 MiB that it does not read and that do not compress."""
    below = [*shell("cat"), entry("motd", content=b"hello\n")]
    above = [entry(f"data/{number}", content=random.Random(number).randbytes(1 << 20)) for number in range(64)]
    tars = [pack(below), pack([entry("data", tarfile.DIRTYPE, mode=0o755), *above])]
    layers = [Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in tars]
    return push(place, *layers, tag="v1", config={"Cmd": ["/bin/cat", "/motd"]})


def for_containerd_1(seventh: str) -> str:
    """The seventh command, as the lines above the commands say."""
    found, count = re.subn(r"/containerd-2\$\(.*\)/", "/containerd-1/", seventh)
    assert count == 1, seventh
    return found


def test_there_are_ten_and_the_seventh_takes_the_other_file() -> None:
    lines = commands()
    assert len(lines) == 10
    assert for_containerd_1(lines[6]).endswith(" /opt/registry-pipelines/node/containerd-1/registry-pipelines.toml")


@contextmanager
def begun(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], folder: Path, release: str
) -> Iterator[tuple[debian.Node, list[str]]]:
    """An empty node, and the commands for it. The wheel of this checkout is in place of the index's; what it needs
    comes from there."""
    need_fuse()
    streamer.index(image(counted.place), INDEXED)
    root = debian.made(folder / "root", release, peer("debootstrap"), mirror())
    (root / "wheels").mkdir()
    (folder / "build").mkdir()
    shutil.copy(build_wheel(folder / "build"), root / "wheels")
    (root / "etc" / "pip.conf").write_text(
        f"[global]\nfind-links = /wheels\ncert = /{debian.CERTIFICATES}\nprefer-binary = true\n"
    )
    shutil.copy(key.public, root / "root" / "indexer.pem")
    found = []
    for command in commands():
        for name, value in {"IMAGE": f"{counted.place}:v1", "KEY": "/root/indexer.pem"}.items():
            command = re.sub(rf"\b{name}\b", value, command)
        found.append(command)
    with debian.booted(root) as node:
        yield node, found


def content_mib(node: debian.Node) -> int:
    """What containerd fetched: of 64 MiB that do not compress."""
    return int(node.run("du -s --block-size=1M /var/lib/containerd/io.containerd.content.v1.content").split()[0])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.peer("debootstrap")
def test_an_empty_debian_node_starts_an_image_lazily(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    with begun(counted, streamer, key, peer, tmp_path, RELEASE) as (node, lines):
        for command in lines:
            said = node.run(command)
        assert said.endswith("hello\n")
        log = node.run("journalctl --no-pager -u registry-pipelines-node")
        assert "is served before it is fetched" in log, log
        assert content_mib(node) < 8
        assert node.run("systemctl is-active registry-pipelines-node containerd").split() == ["active", "active"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.peer("debootstrap")
def test_a_debian_of_containerd_1_pulls_whole_by_ctr_and_lazily_for_pods(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """As the lines above the commands say: another file in the seventh, and for pods what stands in ``cri.toml``."""
    with begun(counted, streamer, key, peer, tmp_path, OLD_RELEASE) as (node, lines):
        lines[6] = for_containerd_1(lines[6])
        for command in lines:
            said = node.run(command)
        assert said.endswith("hello\n") and "1.6." in node.run("containerd --version")
        assert content_mib(node) >= 64
        node.run(f"ctr images rm --sync {counted.place}:v1")
        assert content_mib(node) < 8

        node.run("cat /opt/registry-pipelines/node/containerd-1/cri.toml >>/etc/containerd/config.toml")
        node.run("systemctl restart containerd")
        said = node.run("/opt/registry-pipelines/bin/registry-pipelines node doctor")
        assert "CRI says which image a layer is of" in said and "FAILED" not in said
        with closing(Cri(node.path("/run/containerd/containerd.sock"), tmp_path)) as cri:
            cri.pull(f"{counted.place}:v1")
        run = f"ctr -n k8s.io run --rm --snapshotter registry-pipelines {counted.place}:v1 second"
        assert node.run(run) == "hello\n"
        assert content_mib(node) < 8
        assert "served before it is fetched" in node.run("journalctl --no-pager -u registry-pipelines-node")
        assert f"{counted.place}:v1@" in node.run("/opt/registry-pipelines/bin/registry-pipelines node status")
