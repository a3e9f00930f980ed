"""Files that the kernel mounts: what is in them, who has them, and what goes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LayerInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.backing import BackingFile, BackingStore
from registry_pipelines.stream.lazy.blocks import BlockStore, disk_bytes
from registry_pipelines.stream.lazy.erofs import write_erofs
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.tree import Tree
from tests.needs import missing
from tests.stream.lazy import watched
from tests.stream.lazy.mounts import need_erofs
from tests.stream.lazy.test_erofs import FILE, LINK, mounted, node, tree_of

SIZES = (150_000, 0, 7 * 4096, 65_537)


class Node:
    """Layers with noise, and trees with files of it."""

    def __init__(self, folder: Path, sizes: tuple[int, ...] = SIZES) -> None:
        self.folder, self.sizes = folder, sizes
        self.tars = [os.urandom(size) for size in sizes]
        self._blocks = BlockStore(folder / "blocks")
        self.backing = BackingStore(folder / "backing")

    def tree(self, word: str = "x") -> Tree:
        files = {
            b"%d-%d" % (layer, position): node(FILE, min(3000, size - position), position, layer=layer)
            for layer, size in enumerate(self.sizes)
            for position in range(0, size, 4096)
        }
        return tree_of({**files, b"link": node(LINK, len(word), target=word.encode())}, layers=len(self.sizes))

    @contextmanager
    def layers(self, *, filled: bool = True) -> Iterator[list[LazyLayer]]:
        """Those that have nothing fetch what is asked for."""
        with ExitStack() as stack:
            found = []
            for tar in self.tars:
                layer = stack.enter_context(self._blocks.open(Digest.of(tar), len(tar)))
                layer.fill = _filling(layer, tar)
                if filled and tar:
                    layer.fill(0, len(tar))
                found.append(layer)
            yield found

    def image(self, tree: Tree) -> bytes:
        """All that a complete file has."""
        out = io.BytesIO()
        layout = write_erofs(tree, self.sizes, out)
        for region, tar in zip(layout.regions, self.tars, strict=True):
            out.seek(region.offset)
            out.write(tar)
        return out.getvalue().ljust(layout.size, b"\0")


def _filling(layer: LazyLayer, tar: bytes) -> Callable[[int, int], None]:
    def fill(start: int, stop: int) -> None:
        layer.put(start, tar[start:stop])
        layer.mark(start, stop)

    return fill


def content(file: BackingFile) -> bytes:
    return file.path.read_bytes()


@settings(max_examples=8, deadline=None)
@given(ranges=st.lists(st.tuples(*[st.integers(0, 300_000)] * 2).map(sorted), min_size=1, max_size=6))
def test_what_was_asked_for_is_there_and_nothing_else_is_fetched(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[list[int]]
) -> None:
    here = Node(tmp_path_factory.mktemp("node"))
    tree = here.tree()
    whole = here.image(tree)
    with here.layers(filled=False) as layers, here.backing.open(tree, layers) as file:
        assert file.holds(0, file.layout.metadata_bytes) and not file.complete
        for start, stop in ranges:
            file.fill(start, stop)
            assert file.holds(start, min(stop, len(whole)))
            assert content(file)[start:stop] == whole[start:stop]
        asked = sum(stop - start + 1024 for start, stop in ranges)
        assert sum(layer.filled_bytes for layer in layers) <= asked


def test_what_layers_have_is_copied_until_nothing_is_missing(tmp_path: Path) -> None:
    here = Node(tmp_path)
    tree = here.tree()
    with here.layers(filled=False) as layers, here.backing.open(tree, layers) as file:
        layers[0].view(1000, 90_000)
        layers[3].view(65_000, 537)
        file.fill(file.layout.regions[0].offset + 40_000, file.layout.regions[0].offset + 50_000)
        counts = []
        while count := file.copy_held(20_000):
            counts.append(count)
        # 90 kB and a last block, in whole blocks, less what was there.
        assert len(counts) > 2 and sum(counts) == 89_600 - 10_240 + 513 and not file.complete
        for layer in layers:
            layer.view(0, layer.size)
        while file.copy_held(1 << 20):
            pass
        assert file.complete and content(file) == here.image(tree) and file.twice_bytes >= sum(SIZES)


@contextmanager
def sharing_disk(folder: Path) -> Iterator[Path]:
    """A file system whose files may share blocks."""
    image, program = folder / "btrfs.image", shutil.which("mkfs.btrfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        missing("this needs root and mkfs.btrfs (.ci/install-peers installs it on Debian)")
    with image.open("wb") as file:
        file.truncate(120 << 20)
    subprocess.run([program, "-q", str(image)], check=True, capture_output=True)
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(folder / "disk")], check=True)
    try:
        yield folder / "disk"
    finally:
        subprocess.run(["umount", str(folder / "disk")], check=True)


def test_blocks_are_shared_where_the_disk_can(tmp_path: Path) -> None:
    with sharing_disk(tmp_path) as disk:
        here = Node(disk, (5_000_000, 3 * 4096 + 512, 100))
        tree = here.tree()
        with here.layers() as layers, here.backing.open(tree, layers) as file:
            start = file.layout.regions[0].offset + 1_000_000
            file.fill(start, start + 100_000)
            while file.copy_held(1 << 20):
                pass
            file.sync()
            # What was waited for, the blocks at its ends, and the ends of layers.
            assert file.complete and content(file) == here.image(tree) and 100_000 < file.twice_bytes < 130_000
        with here.layers(filled=False) as layers, here.backing.open(tree, layers) as again:
            assert again.complete and again.twice_bytes < 130_000


def test_a_file_is_kept_and_one_process_fills_it(tmp_path: Path) -> None:
    here = Node(tmp_path)
    tree = here.tree()
    with here.layers() as layers:
        with here.backing.open(tree, layers) as file, here.backing.open(tree, layers) as other:
            assert file.path != other.path
            file.fill(0, 1 << 30)
            assert not other.complete
        with here.backing.open(tree, layers) as again, here.backing.open(here.tree("y"), layers) as changed:
            assert again.path == file.path and again.complete and not changed.complete
            assert again.layout == file.layout and content(again) == here.image(tree)


def test_nothing_is_believed_after_a_crash_but_what_was_synced(tmp_path: Path) -> None:
    here = Node(tmp_path)
    tree = here.tree()
    with here.layers() as layers:
        with here.backing.open(tree, layers) as file:
            file.fill(0, 1 << 30)
            (file.path.parent / "boot").write_text("another")
        assert not (file.path.parent / "synced").exists()  # it is a copy, for which nobody waits at the end
        with file.path.open("r+b") as raw:
            raw.write(bytes(8192))
        with here.backing.open(tree, layers) as again:
            assert again.path == file.path and again.ready and not again.complete
            again.fill(0, 1 << 30)
            assert content(again) == here.image(tree)


def test_a_writer_that_dies_leaves_what_cannot_be_mounted(tmp_path: Path) -> None:
    need_erofs()
    script = (
        "import os, sys; from pathlib import Path; from tests.stream.lazy.test_backing import *\n"
        "here = Node(Path(sys.argv[1]))\n"
        "class Dying(BackingFile):\n"
        "    def _put(self, offset, content):\n"
        "        if not offset: os.kill(os.getpid(), 9)\n"
        "        super()._put(offset, content)\n"
        "import registry_pipelines.stream.lazy.backing as module; module.BackingFile = Dying\n"
        "with here.layers() as layers: here.backing.open(here.tree(), layers)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert ran.returncode == -9, ran.stderr
    [left] = tmp_path.glob("backing/v*/*/*/data")
    assert left.stat().st_blocks
    with pytest.raises(OSError), mounted(left, tmp_path / "top"):
        pass


def test_what_is_mounted_stays_and_the_rest_goes(tmp_path: Path) -> None:
    need_erofs()
    here = Node(tmp_path)
    here.backing = BackingStore(tmp_path / "backing", max_bytes=400_000)
    with here.layers() as layers:
        paths = []
        with ExitStack() as stack:
            for word in ("old", "open", "mounted"):
                file = here.backing.open(here.tree(word), layers)
                file.fill(0, 1 << 30)
                paths.append(file.path)
                if word == "mounted":
                    stack.enter_context(mounted(file.path, tmp_path / "top"))
                if word != "open":
                    file.close()
                else:
                    stack.callback(file.close)
            freed = here.backing.make_room()
            assert freed > 200_000 and [path.exists() for path in paths] == [False, True, True]
            assert (tmp_path / "top" / "3-0").read_bytes() == here.tars[3][:3000]
        assert here.backing.make_room(1) and sum(path.exists() for path in paths) == 1
        assert disk_bytes(tmp_path / "backing") < 400_000


def test_a_layer_that_cannot_be_had_and_a_tree_that_cannot_be_held(tmp_path: Path) -> None:
    here = Node(tmp_path)
    with here.layers(filled=False) as layers:
        with here.backing.open(here.tree(), layers) as file:
            layers[0].fill = None
            with pytest.raises(LocalError):
                file.fill(0, file.layout.size)
            assert not file.holds(file.layout.metadata_bytes, file.layout.metadata_bytes + 1)
        with pytest.raises(LayerInvalid):
            here.backing.open(tree_of({b"x": node(LINK, 4096, target=b"x" * 4096)}, layers=4), layers)


def test_what_came_ahead_is_copied_and_nobody_waits_for_what_did_not(tmp_path: Path) -> None:
    content = os.urandom(40 * 4096)
    with (
        BlockStore(tmp_path / "blocks").open(Digest.of(content), len(content)) as layer,
        BackingStore(tmp_path / "backing").open(watched.one_file(len(content)), [layer]) as file,
    ):
        layer.put(0, content[: 30 * 4096])
        layer.mark(0, 30 * 4096)
        offset = file.layout.regions[0].offset
        file.copy_extents(0, [(0, 8192), (20 * 4096, 10 * 4096), (35 * 4096, 4096)])
        there = [file.holds(offset + page * 4096, offset + (page + 1) * 4096) for page in range(40)]
        assert [page for page in range(40) if there[page]] == [0, 1, *range(20, 30)]
        with file.path.open("rb") as raw:
            raw.seek(offset + 20 * 4096)
            assert raw.read(10 * 4096) == content[20 * 4096 : 30 * 4096]


def test_of_what_came_ahead_blocks_that_are_here_in_part_alone_are_left(tmp_path: Path) -> None:
    content = os.urandom(8 * 4096)
    with (
        BlockStore(tmp_path / "blocks").open(Digest.of(content), len(content)) as layer,
        BackingStore(tmp_path / "backing").open(watched.one_file(len(content)), [layer]) as file,
    ):
        offset = file.layout.regions[0].offset

        def came(start: int, stop: int) -> list[int]:
            layer.put(start, content[start:stop])
            layer.mark(start, stop)
            file.copy_extents(0, [(start, stop - start)])
            return [block for block in range(64) if file.holds(offset + block * 512, offset + (block + 1) * 512)]

        assert came(100, 5 * 512 + 100) == [1, 2, 3, 4]
        assert came(5 * 512 + 100, 5 * 512 + 200) == [1, 2, 3, 4]
        assert came(5 * 512 + 200, 6 * 512) == [1, 2, 3, 4, 5]
        assert came(0, 100) == [0, 1, 2, 3, 4, 5]


def test_what_is_brought_is_there_and_a_block_once_all_of_it_came(tmp_path: Path) -> None:
    """It is in no layer's file yet."""
    content = os.urandom(8 * 4096 + 700)
    with (
        BlockStore(tmp_path / "blocks").open(Digest.of(content), len(content)) as layer,
        BackingStore(tmp_path / "backing").open(watched.one_file(len(content)), [layer]) as file,
    ):
        offset, end = file.layout.regions[0].offset, len(content)

        def brought(*extents: tuple[int, int]) -> list[int]:
            pieces = b"".join(content[start : start + size] for start, size in extents)
            file.put_extents(0, extents, memoryview(pieces))
            file.copy_extents(0, extents)
            return [block for block in range(66) if file.holds(offset + block * 512, offset + (block + 1) * 512)]

        assert brought((100, 924), (4096, 512)) == [1, 8]
        assert brought((0, 100)) == [0, 1, 8]
        assert brought((end - 700, 700)) == [0, 1, 8, 64, 65]
        assert not layer.filled_bytes
        with file.path.open("rb") as raw:
            raw.seek(offset)
            assert raw.read(1024) == content[:1024]
