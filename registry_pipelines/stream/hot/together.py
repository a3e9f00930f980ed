"""What several nodes recorded of one image, as one recording that an indexer can sign.

No word of a node is believed but that it read pages: of files that the image has, in the size that they have there.
Nothing else can come of a forged recording than that nodes fetch too much of the image, or in a bad order. Against that
the order is the median of all, a page that one node alone read does not count once there are ``MANY``, and what is
beyond a limit is left out at the end.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.stream.hot.recording import (
    PAGE_BYTES,
    RecordedFile,
    Recording,
    without_unread,
)
from registry_pipelines.stream.hot.touches import Touches
from registry_pipelines.stream.lazy.tree import Tree

MANY = 3
"""So many nodes' recordings, from which on one node alone counts for nothing."""

_FILE_SHIFT = 40
"""A page's key: number of the file and of the page."""
_PAGE_MASK = (1 << _FILE_SHIFT) - 1


@dataclass(frozen=True)
class Fitted:
    """A node's recording, held against its image."""

    recording: Recording
    files_dropped: int
    """Of files that the image has not, or in another size, or that are no files there."""
    pages_dropped: int


@dataclass(frozen=True)
class Together:
    """Several as one."""

    recording: Recording
    lone_pages: int
    """That one node alone read, and were left out."""
    pages_left_out: int
    """At the end, too many."""


def fitted(recording: Recording, tree: Tree) -> Fitted:
    """What of a stranger's recording is about files of its image. tree: the image's. What it says of contents, of the
    command and of who made it is left out."""
    files: list[RecordedFile] = []
    numbers: dict[int, int] = {}
    for old, file in enumerate(recording.files):
        if _has(tree, file):
            numbers[old] = len(files)
            files.append(RecordedFile(file.path, file.size))
    touches = tuple((numbers[old], first, count) for old, first, count in recording.touches if old in numbers)
    kept = msgspec.structs.replace(recording, files=tuple(files), touches=touches, command=(), tool="", until="quiet")
    return Fitted(kept, len(recording.files) - len(files), recording.pages - kept.pages)


def _has(tree: Tree, file: RecordedFile) -> bool:
    number = tree.find(os.fsencode(file.path))
    if number is None:
        return False
    inode = tree.node(number)
    return stat.S_ISREG(inode.mode) and inode.size == file.size


def together(nodes: Sequence[Recording], *, believed: Recording | None = None, max_pages: int) -> Together:
    """All pages of nodes' recordings of one image, in the order of the median.

    nodes: one for each node, :func:`fitted`. believed: what was signed before, one vote in the order; it loses no page
    to the others. max_pages: of all; those that are needed last are left out.

    A page's place in a recording is its number there, in parts of all of it: recordings differ in length. Raises
    InputError: of different images, or none.
    """
    lists = [*([believed] if believed else []), *nodes]
    if not lists or any(each.image != lists[0].image for each in lists):
        raise InputError("the recordings are of different images, or there is none")
    names: dict[tuple[str, int], int] = {}
    contents: dict[tuple[str, int], str] = {}
    places: defaultdict[int, array[float]] = defaultdict(lambda: array("f"))
    for each in lists:
        numbers = []
        for file in each.files:
            key = file.path, file.size
            numbers.append(names.setdefault(key, len(names)))
            if file.sha256:
                contents[key] = file.sha256
        total = each.pages
        for position, page in enumerate(_pages(each, numbers)):
            places[page].append(position / total)
    lone = _lone(nodes, believed, names) if len(nodes) >= MANY else set[int]()
    for page in lone:
        del places[page]
    order = sorted(places, key=lambda page: (median(places[page]), page))
    touches = Touches()
    for page in order[:max_pages]:
        touches.add(page >> _FILE_SHIFT, page & _PAGE_MASK, 1)
    files = tuple(RecordedFile(path, size, contents.get((path, size), "")) for path, size in names)
    recording = msgspec.structs.replace(
        lists[0],
        files=files,
        touches=tuple(touches.list),
        gpu=any(each.gpu for each in lists),
        seconds=median([each.seconds for each in nodes] or [lists[0].seconds]),
    )
    return Together(without_unread(recording), len(lone), max(0, len(order) - max_pages))


def _pages(recording: Recording, numbers: Sequence[int]) -> Iterable[int]:
    """Keys of its pages, in order."""
    for old, first, count in recording.touches:
        start = (numbers[old] << _FILE_SHIFT) + first
        yield from range(start, start + count)


def _lone(nodes: Sequence[Recording], believed: Recording | None, names: dict[tuple[str, int], int]) -> set[int]:
    """Pages that one node alone read, and that nobody signed."""

    def pages(each: Recording) -> set[int]:
        return set(_pages(each, [names[file.path, file.size] for file in each.files]))

    once: set[int] = set()
    often: set[int] = pages(believed) if believed else set()
    for each in nodes:
        found = pages(each)
        often |= once & found
        once |= found
    return once - often


def pages_in(max_bytes: int) -> int:
    """How many pages are so many bytes."""
    return max(1, max_bytes // PAGE_BYTES)


__all__ = ["MANY", "Fitted", "Together", "fitted", "pages_in", "together"]
