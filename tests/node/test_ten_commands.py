"""From an empty Debian node to a container whose image was not fetched: the commands of docs/nodes.md, as written."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from tests.build.roots import mirror
from tests.evidence.parts import Counted, Key
from tests.installed import ROOT, build_wheel
from tests.node import debian
from tests.node.agent import shell
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.stacks import entry
from tests.stream.releases import INDEXED, Layer, Streamer, push

RELEASE = "sid"
"""The first with a containerd 2."""


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


def test_there_are_ten() -> None:
    assert len(commands()) == 10


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.peer("debootstrap")
def test_an_empty_debian_node_starts_an_image_lazily(
    counted: Counted, streamer: Streamer, key: Key, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """The wheel of this checkout is in place of the index's; what it needs comes from there."""
    need_fuse()
    streamer.index(image(counted.place), INDEXED)
    root = debian.made(tmp_path / "root", RELEASE, peer("debootstrap"), mirror())
    (root / "wheels").mkdir()
    (tmp_path / "build").mkdir()
    shutil.copy(build_wheel(tmp_path / "build"), root / "wheels")
    (root / "etc" / "pip.conf").write_text(
        f"[global]\nfind-links = /wheels\ncert = /{debian.CERTIFICATES}\nprefer-binary = true\n"
    )
    shutil.copy(key.public, root / "root" / "indexer.pem")
    replaced = {"IMAGE": f"{counted.place}:v1", "KEY": "/root/indexer.pem"}
    with debian.booted(root) as node:
        for command in commands():
            for name, value in replaced.items():
                command = re.sub(rf"\b{name}\b", value, command)
            said = node.run(command)
        assert said.endswith("hello\n")
        log = node.run("journalctl --no-pager -u registry-pipelines-node")
        assert "is served before it is fetched" in log, log
        content = node.run("du -s --block-size=1M /var/lib/containerd/io.containerd.content.v1.content").split()[0]
        assert int(content) < 8  # of 64 MiB that do not compress
        assert node.run("systemctl is-active registry-pipelines-node containerd").split() == ["active", "active"]
