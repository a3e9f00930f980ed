"""What is below a container in a user namespace: seen with the owners that it has outside, and gone with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry_pipelines.node.lazy_images import REF_LABEL
from registry_pipelines.node.mapped import Mapped
from registry_pipelines.node.snapshots import GIDS_LABEL, UIDS_LABEL, Mount, Snapshots
from registry_pipelines.node.store import Refused
from registry_pipelines.stream.lazy.mounting import end_mount, mount, unmount
from registry_pipelines.stream.lazy.probing import probe
from tests.evidence.parts import Counted, Key
from tests.needs import missing
from tests.node.test_images import chain, labels, node
from tests.patience import until
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

MAPPING = {UIDS_LABEL: "0:100000:1000,2000:300000:5", GIDS_LABEL: "0:200000:65536"}


def option(mounted: Mount, name: str) -> str:
    [found] = [each.partition("=")[2] for each in mounted.options if each.startswith(f"{name}=")]
    return found


def test_a_served_image_is_below_a_container_with_its_owners(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    if os.geteuid() != 0 or not probe(tmp_path / "probe").works("idmapped fuse"):
        missing("this kernel shows no FUSE tree with other owners, or we are not root")
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    _, top = chain(counted.place, release)
    with (
        node(counted.place, tmp_path / "state", key) as images,
        Snapshots(tmp_path / "node", images) as snapshots,
    ):
        with pytest.raises(Refused, match="serves the layer"):
            snapshots.prepare(f"pull {top}", "", {**labels(release), REF_LABEL: top})
        [layer] = snapshots.everything()
        with_layer = snapshots.prepare("layer", layer.name, {})  # a layer of files above it, as of a build
        (Path(option(with_layer[0], "upperdir")) / "more").write_text("more")
        snapshots.commit("built", "layer", {})
        [mounted] = snapshots.prepare("container", "built", MAPPING)
        assert not [each for each in mounted.options if "idmap" in each], "containerd would show an empty folder"
        seen = tmp_path / "seen"
        seen.mkdir()
        mount("overlay", seen, "overlay", data=",".join(mounted.options))
        try:
            assert (seen / "more").read_text() == "more" and (seen / "etc/motd").read_text() == "hello\n"
            for path in (seen, seen / "more", seen / "etc/motd", seen / "data/0"):
                assert (path.stat().st_uid, path.stat().st_gid) == (100000, 200000)
        finally:
            unmount(seen)
        assert snapshots.mounts("container") == [mounted]
        lowers = [Path(each) for each in option(mounted, "lowerdir").split(":")]
        for lower in lowers:
            with pytest.raises(OSError, match="Read-only"):
                (lower / "new").write_text("")
        # An image that was mounted anew meanwhile is what the next start sees.
        served = images.find(labels(release), top)
        assert served is not None
        end_mount(served.mount(top))
        unmount(lowers[1], detach=True)
        until(lambda: (served.mount(top) / "etc/motd").exists())
        assert snapshots.mounts("container") == [mounted] and (lowers[1] / "etc/motd").read_text() == "hello\n"
        snapshots.remove("container")
        assert not list((tmp_path / "node/mapped").iterdir())
        # What a killed process left goes, too, and nothing of what it shows.
        Mapped(tmp_path / "node/mapped").lowers(99, [tmp_path / "node/snapshots"], "0:1:1", "0:1:1")
        snapshots.cleanup()
        assert not list((tmp_path / "node/mapped").iterdir()) and list((tmp_path / "node/snapshots").iterdir())
