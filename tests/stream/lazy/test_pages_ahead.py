"""Pages that the kernel has before anybody reads them; `fincore` of util-linux says which it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, PagesAhead
from tests.needs import missing
from tests.patience import patient, until
from tests.stream.lazy import mounts

_PAGES = 40


def kept_pages(path: Path) -> int:
    """Of a file, pages in the kernel's memory."""
    if shutil.which("fincore") is None:
        missing("this needs fincore of util-linux")
    found = subprocess.run(
        ["fincore", "--noheadings", "--output", "PAGES", path], check=True, capture_output=True, text=True
    )
    return int(found.stdout)


class _Placed:
    """Files of one layer, by number."""

    def __init__(self, files: dict[int, tuple[int, int]]) -> None:
        self._files = files

    def place(self, number: int) -> tuple[int, int, int] | None:
        return (0, *self._files[number]) if number in self._files else None


def test_what_came_is_read_without_a_question(tmp_path: Path) -> None:
    mounts.need_fuse()
    content = os.urandom(_PAGES * PAGE_BYTES + 100)
    tree = mounts.one_file(content)
    with mounts.mounted(tree, tmp_path / "top", ahead=_Placed({2: (512, len(content))})) as server:
        ahead = server.ahead
        assert ahead is not None
        ahead.came(0, [(512, 10 * PAGE_BYTES)])  # before the kernel knows the file
        path = tmp_path / "top" / "file"
        path.stat()
        until(lambda: kept_pages(path) == 10)
        ahead.came(0, [(512 + 20 * PAGE_BYTES, len(content))])
        until(lambda: kept_pages(path) == 10 + 21)
        tree.asked.clear()
        with path.open("rb", buffering=0) as file:
            # Without what is read ahead behind it, of which nothing came.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            assert os.pread(file.fileno(), 10 * PAGE_BYTES, 0) == content[: 10 * PAGE_BYTES]
            behind = 20 * PAGE_BYTES
            assert os.pread(file.fileno(), len(content), behind) == content[behind:]
        assert tree.asked == []
        assert path.read_bytes() == content


def test_a_small_file_is_given_when_it_is_opened(tmp_path: Path) -> None:
    mounts.need_fuse()
    content = os.urandom(3 * PAGE_BYTES + 1)
    tree = mounts.one_file(content)
    placed = _Placed({2: (0, len(content))})
    with mounts.mounted(tree, tmp_path / "top", copies=True, ahead=placed):
        path = tmp_path / "top" / "file"
        assert kept_pages(path) == 4  # it opens it
        assert path.read_bytes() == content
        assert tree.asked == [2]  # to give it


def test_where_nothing_came_all_is_asked_for(tmp_path: Path) -> None:
    mounts.need_fuse()
    content = os.urandom(_PAGES * PAGE_BYTES)
    tree = mounts.one_file(content)
    with mounts.mounted(tree, tmp_path / "top", ahead=_Placed({})):
        assert (tmp_path / "top" / "file").read_bytes() == content
        assert tree.asked


_extent = st.tuples(st.integers(0, 40), st.integers(1, 12))


@given(
    files=st.lists(st.integers(1, 5 * PAGE_BYTES), min_size=1, max_size=6),
    extents=st.lists(_extent, max_size=8),
    later=st.sets(st.integers(0, 5)),
)
def test_whole_pages_of_all_files_that_came_are_given(
    files: list[int], extents: list[tuple[int, int]], later: set[int]
) -> None:
    """Whatever comes in whatever order: all pages that are here whole, and no others."""
    placed, position = {}, 0
    for number, size in enumerate(files):
        placed[number] = position, size
        position += size + -size % 512 + 512
    given_pages: set[tuple[int, int]] = set()
    done = threading.Event()

    def store(number: int, offset: int, size: int) -> bool:
        if number == len(files):
            done.set()
            return True
        assert offset % PAGE_BYTES == 0
        assert offset + size == files[number] or size % PAGE_BYTES == 0
        given_pages.update((number, page) for page in range(offset, offset + size, PAGE_BYTES))
        return True

    last = {len(files): (position + 10**6, 1)}
    ahead = PagesAhead(_Placed({**placed, **last}), store)
    pieces = [(start * 1024, size * 1024) for start, size in extents]
    for number in placed:
        if number not in later:
            ahead.known(number)
    ahead.came(0, pieces)
    for number in (*later, len(files)):
        ahead.known(number)
    ahead.came(0, [(position + 10**6, 512)])
    assert done.wait(patient(60))
    ahead.close()
    here = {byte for start, size in pieces for byte in range(start, start + size)}
    wanted = {
        (number, page)
        for number, (start, size) in placed.items()
        for page in range(0, size, PAGE_BYTES)
        if here.issuperset(range(start + page, start + min(page + PAGE_BYTES, size)))
    }
    assert given_pages == wanted
