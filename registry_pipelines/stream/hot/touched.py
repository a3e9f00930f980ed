"""From the pages that a start touched to the bytes of layers that a mount asks for in that start.

A mount reads ahead: at a fault the kernel reads a window around the page, or from it on where a mapping begins there,
marks a page of it, and reads the next window when that one is touched (Linux 6.18, ``mm/filemap.c`` and
``mm/readahead.c``). What a pack lacks of that makes the start wait for the layers. So half a window before a page and
two behind it are taken. Measured on a start that imports 970 files, through mounts with windows of 8, 16 and 32 KiB:
nothing was asked for beyond, and that is 9 to 12 % more than was. Windows at multiples of their size, or one alone
around the page, lack some 60 to 100 reads of that start. All of it is rounded out to pages of the layer, where files
begin anywhere: a kernel that reads the image from one file (``lazy.erofs``) asks for pages of that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.stream.hot.recording import PAGE_BYTES, Recording
from registry_pipelines.stream.lazy.tree import Inode, Tree

WINDOW_BYTES = 8 << 10
"""Unless told, of the mounts that use a pack. What comes ahead is given to the kernel before it asks, so it reads ahead
seldom, and a larger window costs a start more bytes than it saves questions (``docs/streaming.md``)."""


class Extent(NamedTuple):
    """Bytes of a layer, from and to, and when they are needed: lower is earlier."""

    start: int
    stop: int
    rank: int


@dataclass
class Asked:
    """What a mount asks for in a start."""

    layers: dict[int, list[Extent]] = field(default_factory=dict)
    """By number of the layer, in the order of need; whole pages of the layer, none twice."""
    pages: int = 0
    """Of the recording, those of files that the tree has."""
    dropped: int = 0
    """Files of the recording that the tree has not, or in another size."""
    left_out: int = 0
    """Pages of the recording that were too much."""


def asked_for(recording: Recording, tree: Tree, *, window: int, max_bytes: int, sizes: list[int]) -> Asked:
    """What a mount with this read-ahead asks for when a start touches what was recorded.

    recording: of the image whose tree it is. window: bytes that the kernel reads at once, a multiple of pages.
    max_bytes: of all that is asked for; what comes later in the recording is left out. sizes: of the layers, in bytes
    as positions go.
    """
    found, files = Asked(), [_file(tree, each.path, each.size) for each in recording.files]
    reads: dict[int, _Reads] = {}
    layer_pages: dict[int, bytearray] = {}
    found.dropped = sum(each is None for each in files)
    total, rank = 0, 0
    for number, first, count in recording.touches:
        file = files[number]
        if file is None:
            continue
        if total >= max_bytes:
            found.left_out += count
            continue
        found.pages += count
        inode_number, inode = file
        state = reads.get(inode_number)
        if state is None:
            state = reads[inode_number] = _Reads(-(-inode.size // PAGE_BYTES), max(1, window // PAGE_BYTES))
        pages = layer_pages.setdefault(inode.layer, bytearray(-(-sizes[inode.layer] // PAGE_BYTES)))
        for start, stop in state.touched(first, count):
            begin = inode.position + start * PAGE_BYTES
            end = inode.position + min(stop * PAGE_BYTES, inode.size)
            for low, high in _unmarked(pages, begin // PAGE_BYTES, -(-end // PAGE_BYTES)):
                extent = Extent(low * PAGE_BYTES, min(high * PAGE_BYTES, sizes[inode.layer]), rank)
                found.layers.setdefault(inode.layer, []).append(extent)
                total += extent.stop - extent.start
                rank += 1
    return found


def _file(tree: Tree, path: str, size: int) -> tuple[int, Inode] | None:
    number = tree.find(os.fsencode(path))
    if number is None:
        return None
    inode = tree.node(number)
    return (number, inode) if stat.S_ISREG(inode.mode) and inode.size == size else None


class _Reads:
    """What a mount may ask for of one file."""

    def __init__(self, pages: int, window: int) -> None:
        self._pages, self._window = pages, window
        self._asked = bytearray(pages)
        self._read = bytearray(pages)
        """Pages that are in the kernel's cache whatever its window was."""

    def touched(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Pages are touched, one after the other; gives what may be read for them and was not before, from and to."""
        window, stop = self._window, min(first + count, self._pages)
        if first >= stop:  # an empty file has no pages
            return
        before = 0 if self._read[first] else window // 2
        for page in range(first, stop):
            if not self._read[page]:
                self._read[page : page + window // 2] = b"\1" * len(self._read[page : page + window // 2])
        yield from _unmarked(self._asked, max(0, first - before), min(stop - 1 + 2 * window, self._pages))


def _unmarked(marks: bytearray, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """What is not marked from ``start`` to ``stop``; it is from now on."""
    while (start := marks.find(0, start, stop)) >= 0:
        end = marks.find(1, start, stop)
        end = stop if end < 0 else end
        marks[start:end] = b"\1" * (end - start)
        yield start, end
        start = end


__all__ = ["Asked", "Extent", "asked_for"]
