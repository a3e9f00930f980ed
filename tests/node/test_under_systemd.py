"""The unit that ``node setup systemd`` writes, under a systemd of its own: mounts outlive whatever is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL, REF_LABEL
from tests.evidence.parts import Counted, Key
from tests.installed import ROOT
from tests.needs import missing, needed_module
from tests.node import debian
from tests.node.test_images import chain
from tests.patience import until
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

PREPARE = f"""
import sys
from pathlib import Path
from tests.node.test_service import Client
reference, digest, *ids = sys.argv[1:]
client, parent = Client(Path("/run/rp/s.sock")), ""
for chain_id in ids:
    labels = {{"{IMAGE_LABEL}": reference, "{MANIFEST_LABEL}": digest, "{REF_LABEL}": chain_id}}
    try:
        client.prepare("extract " + chain_id, parent, **labels)
    except client.errors as error:
        assert error.code().name == "ALREADY_EXISTS", error
    [parent] = client.names(f'labels."{REF_LABEL}"==' + chain_id)
[mount] = client.prepare("container", parent)
print(next(each.removeprefix("lowerdir=") for each in mount.options if each.startswith("lowerdir=")))
"""
"""As a pull and a start."""

UNIT = "registry-pipelines-node"


@contextmanager
def same_system() -> Iterator[Path]:
    """A root folder with this machine's programs, where nothing of the machine's starts."""
    with tempfile.TemporaryDirectory(prefix="systemd-", dir="/var/tmp") as name:
        for each in ("upper", "work", "root"):
            (Path(name) / each).mkdir()
        options = f"lowerdir=/,upperdir={name}/upper,workdir={name}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{name}/root"], check=True)
        root = Path(name, "root")
        try:
            for folder in ("etc/systemd/system", "lib/systemd/system/multi-user.target.wants"):
                shutil.rmtree(root / folder, ignore_errors=True)
                (root / folder).mkdir(parents=True)
            for unit in ("getty.target", "console-getty.service", "systemd-logind.service"):
                (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
            (root / "etc/fstab").write_text("")
            yield root
        finally:
            subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_mounted_outlives_whatever_is_killed(counted: Counted, streamer: Streamer, key: Key) -> None:
    needed_module("grpc", "node")
    need_fuse()
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        missing("this needs root and systemd")
    release = image(counted.place, more_mib=4)
    streamer.index(release, INDEXED)
    ids = chain(counted.place, release)
    with same_system() as root:
        (root / "root/prepare.py").write_text(PREPARE)
        shutil.copy(key.public, root / "root" / "indexer.pem")
        with debian.booted(root) as node:
            node.run("mkdir -p /var/lib/registry-pipelines && mount -t tmpfs tmpfs /var/lib/registry-pipelines")
            ours = f"cd {ROOT} && {sys.executable} -c 'from registry_pipelines.cli import main; main()'"
            node.run(
                f"{ours} node setup systemd --to /etc/systemd/system --socket /run/rp/s.sock --key /root/indexer.pem"
            )
            program = Path(sys.executable).with_name("registry-pipelines")
            node.run(f"sed -i -E 's#^ExecStart=[^ ]+#ExecStart={program}#' /etc/systemd/system/{UNIT}.service")
            node.run(f"systemctl daemon-reload && systemctl start {UNIT}")
            words = " ".join([f"{counted.place}:v1", release.digest, *ids])
            script = 'exec(open("/root/prepare.py").read())'
            folder = node.run(f"cd {ROOT} && {sys.executable} -c '{script}' {words}").strip()
            assert node.run(f"cat {folder}/etc/motd") == "hello\n"
            for number, how in enumerate(("systemctl restart", "kill", "kill with keepers")):
                if how == "systemctl restart":
                    node.run(f"systemctl restart {UNIT}")
                else:
                    whom = "--kill-whom=main" if how == "kill" else "--kill-whom=all"
                    node.run(f"systemctl kill {whom} --signal=KILL {UNIT}")
                size = node.run(f"cat {folder}/data/{number} | wc -c").strip()
                assert size == str(1 << 20), node.run(f"journalctl --no-pager -u {UNIT}")
            assert node.run(f"systemctl show -P NFileDescriptorStore {UNIT}").strip() == "2"
            until(lambda: "is served on" in node.run(f"journalctl --no-pager -u {UNIT}"))
            node.run(f"umount {folder}")
            until(lambda: node.run(f"systemctl show -P NFileDescriptorStore {UNIT}").strip() == "0")
