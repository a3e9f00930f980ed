"""What came ahead of a start is read through the mount before a program asks; who reads ahead waits for nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.backing import BackingFile, BackingStore
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.fanotify import WatchedMount
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.mount_ahead import LARGE_BYTES, MountAhead
from registry_pipelines.stream.lazy.tree import Tree
from tests.patience import until
from tests.stream.lazy import watched
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.test_pages_ahead import kept_pages

PAGE = 4096


@pytest.fixture(autouse=True)
def _can_watch(tmp_path: Path) -> None:
    need_fanotify(tmp_path / "test")


class Served:
    """A file that is its whole layer, mounted by this process; what is asked of it is noted, and comes."""

    def __init__(self, tree: Tree, content: bytes, layer: LazyLayer, file: BackingFile, top: Path) -> None:
        self.tree, self.content, self.layer, self.file, self.top = tree, content, layer, file, top
        self.asked: list[tuple[int, int]] = []
        layer.fill = self._fill
        self.ahead = MountAhead(top, tree, self, file)

    def place(self, number: int) -> tuple[int, int, int]:
        return 0, 0, self.tree.node(number).size

    def came(self, *extents: tuple[int, int]) -> None:
        for start, size in extents:
            self.layer.put(start, self.content[start : start + size])
            self.layer.mark(start, start + size)
        self.file.copy_extents(0, extents)
        self.ahead.came(0, extents)

    def _fill(self, start: int, stop: int) -> None:
        self.asked.append((start, stop))
        self.layer.put(start, self.content[start:stop])
        self.layer.mark(start, stop)


@contextmanager
def served(folder: Path, size: int) -> Iterator[Served]:
    content, top = os.urandom(size), folder / "top"
    top.mkdir()
    tree = watched.one_file(size)
    with (
        BlockStore(folder / "blocks").open(Digest.of(content), size) as layer,
        BackingStore(folder / "backing").open(tree, [layer]) as file,
    ):
        mount = WatchedMount(file, top, log=print)
        thread = threading.Thread(target=mount.run, daemon=True)
        thread.start()
        here = Served(tree, content, layer, file, top)
        mount.ahead = here.ahead.threads
        try:
            yield here
        finally:
            here.ahead.close()
            mount.end()
            thread.join()
            mount.close()


def test_pages_of_a_large_file_are_there_before_it_is_read(tmp_path: Path) -> None:
    with served(tmp_path, LARGE_BYTES + 1000) as here:
        path, end = here.top / "file", len(here.content)
        here.came((0, 8 * PAGE), (64 * PAGE, 10 * PAGE))
        assert kept_pages(path) == 18
        here.came((8 * PAGE, 2 * PAGE), (end - end % PAGE - PAGE, end % PAGE + PAGE))
        assert kept_pages(path) == 22 and not here.asked
        assert path.read_bytes() == here.content and here.asked


def test_pages_that_are_here_in_part_are_left_until_the_rest_comes(tmp_path: Path) -> None:
    with served(tmp_path, LARGE_BYTES) as here:
        here.came((512, 3 * PAGE))
        assert kept_pages(here.top / "file") == 2
        here.came((3 * PAGE + 512, 512))
        assert kept_pages(here.top / "file") == 2
        here.came((0, 512), (3 * PAGE + 1024, PAGE - 1024))
        assert kept_pages(here.top / "file") == 4 and not here.asked


def test_a_small_file_is_read_by_another_thread(tmp_path: Path) -> None:
    """Who brings large ones does not wait for it."""
    with served(tmp_path, 10 * PAGE) as here:
        here.came((0, 8 * PAGE))
        until(lambda: kept_pages(here.top / "file") == 8)
        assert not here.asked


def test_a_thread_that_reads_ahead_is_refused_what_is_not_here_and_others_get_it(tmp_path: Path) -> None:
    """It would wait for itself."""
    with served(tmp_path, LARGE_BYTES) as here, (here.top / "file").open("rb", buffering=0) as file:
        here.ahead.threads.add(threading.get_native_id())
        with pytest.raises(OSError, match="Input/output"):
            file.read(PAGE)
        assert not here.asked
        here.came((0, PAGE))
        assert file.read(PAGE) == here.content[:PAGE] and not here.asked
        here.ahead.threads.clear()
        assert file.read(PAGE) == here.content[PAGE : 2 * PAGE] and here.asked
