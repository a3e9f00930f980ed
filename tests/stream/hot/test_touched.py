"""What a mount asks for when a program touches pages, by the real kernel."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile, Recording
from registry_pipelines.stream.hot.touched import Asked, asked_for
from registry_pipelines.stream.hot.touches import Touches
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.toc import FileMetadata
from tests.stream.lazy.mounts import MemoryTree, mounted, need_fuse, one_file

PAGES = 600
TOUCH = """
import json, mmap, os, sys
with open(sys.argv[1], "rb") as file:
    maps = {}
    for how, page in json.loads(sys.argv[2]):
        if how == "read":
            os.pread(file.fileno(), 100, page * 4096)
            continue
        if how not in maps:  # a mapping begins anywhere
            maps[how] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, offset=how * 4096)
        if page >= how:
            maps[how][(page - how) * 4096]
"""


@dataclass
class Listed(MemoryTree):
    """Knows what the kernel asked for."""

    reads: list[tuple[int, int]] = field(default_factory=list)

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        self.reads.append((offset, offset + size))
        return super().view(number, offset, size)


def asked(touches: list[int], size: int, window: int, begin: int = 4096, **more: int) -> Asked:
    tree = merge_layers([[FileMetadata(b"file", b"reg", begin, size, b"", 0o644, 0, 0, b"", b"", b"", 0, 0, ())]])
    told = Touches()
    for page in touches:
        told.add(0, page, 1)
    recording = Recording(image=Digest.of(b""), files=(RecordedFile("file", size),), touches=tuple(told.list))
    return asked_for(recording, tree, window=window, sizes=[begin + size + 1024], **{"max_bytes": 1 << 40, **more})


@pytest.mark.parametrize("window", [8 << 10, 32 << 10])
def test_nothing_is_asked_for_that_is_not_expected(tmp_path: Path, window: int) -> None:
    need_fuse()
    draw = random.Random(window)
    size = PAGES * PAGE_BYTES - 100
    touches: list[tuple[str | int, int]] = [("read", 0), ("read", 1)]
    for _ in range(60):
        page = draw.randrange(PAGES)
        how = draw.choice(["read", 0, 0, draw.randrange(PAGES)])
        touches += [(how, page)] if draw.random() < 0.5 else [(how, min(page + n, PAGES - 1)) for n in range(6)]
    tree = Listed(one_file(bytes(size)).things)
    with mounted(tree, tmp_path / "top", read_ahead_bytes=window):
        run = [sys.executable, "-c", TOUCH, str(tmp_path / "top" / "file"), json.dumps(touches)]
        subprocess.run(run, check=True)
    expected = {
        page
        for extent in asked([page for how, page in touches if how == "read" or page >= int(how)], size, window).layers[
            0
        ]
        for page in range(extent.start // PAGE_BYTES - 1, extent.stop // PAGE_BYTES - 1)
    }
    found = {page for start, stop in tree.reads for page in range(start // PAGE_BYTES, -(-stop // PAGE_BYTES))}
    assert len(found) > 60 and found <= expected


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=40), st.integers(1, 10**5), st.sampled_from([4096, 8192, 32768])
)
def test_what_was_touched_is_there_once_and_lies_in_the_layer(touches: list[int], size: int, window: int) -> None:
    touches = [page for page in touches if page * PAGE_BYTES < size] or [0]
    found = asked(touches, size, window, 512)
    there: list[int] = []
    for extent in found.layers[0]:
        assert 0 <= extent.start < extent.stop <= 512 + size + 1024 and not extent.start % PAGE_BYTES
        assert not extent.stop % PAGE_BYTES or extent.stop == 512 + size + 1024
        there += range(extent.start, extent.stop, 512)
    assert len(there) == len(set(there)) and found.pages == len(set(touches))
    for page in touches:
        assert set(range(512 + page * PAGE_BYTES, 512 + min(size, (page + 1) * PAGE_BYTES), 512)) <= set(there)


def test_what_is_too_much_is_counted() -> None:
    found = asked([0, 50, 99], 100 * PAGE_BYTES, 8192, max_bytes=20_000)
    assert (found.pages, found.left_out) == (2, 1) and not found.dropped
