"""How far the kernel reads ahead in a mount, as it says itself."""

from __future__ import annotations

import os
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.backing import BackingStore
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.fanotify import mount_file
from registry_pipelines.stream.lazy.mounting import set_read_ahead, unmount
from tests.stream.lazy.mounts import erofs_read_aheads, need_erofs, need_fuse
from tests.stream.lazy.mounts import mounted as fuse_mounted
from tests.stream.lazy.mounts import one_file as fuse_file
from tests.stream.lazy.watched import one_file


def test_the_read_ahead_of_an_erofs_mount_is_what_was_said(tmp_path: Path) -> None:
    need_erofs()
    content, top = os.urandom(1 << 20), tmp_path / "top"
    top.mkdir()
    with BlockStore(tmp_path / "blocks").open(Digest.of(content), len(content)) as layer:
        layer.put(0, content)
        layer.mark(0, len(content))
        with BackingStore(tmp_path / "backing").open(one_file(len(content)), [layer]) as file:
            file.fill(0, file.layout.size)
            mount_file(file, top)
            try:
                told = [12, 28]
                for size in told:
                    set_read_ahead(top, size << 10)
                    assert str(size) in erofs_read_aheads()
                assert (top / "file").read_bytes() == content
            finally:
                unmount(top, detach=True)


def test_a_mount_that_got_the_number_of_one_that_is_gone_has_its_own_read_ahead(tmp_path: Path) -> None:
    """The kernel gives numbers again: FUSE after EROFS in one process."""
    need_fuse()
    test_the_read_ahead_of_an_erofs_mount_is_what_was_said(tmp_path)
    top = tmp_path / "fuse"
    with fuse_mounted(fuse_file(b"content"), top):
        device = top.stat().st_dev
        set_read_ahead(top, 64 << 10)
        bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        assert bdi.read_text().strip() == "64"
