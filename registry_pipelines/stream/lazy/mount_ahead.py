"""What a hot pack brings is read through a mount of EROFS before a program asks, in large pieces.

A start reads its libraries in windows of the mount's read-ahead, and at each the kernel asks and the program waits: of
18,000 questions of a CUDA start 16,000 were for 37 files. So when more of a large file is here the kernel is told to
read it (``posix_fadvise``), which takes it 128 KiB at once, and asks a question for each that no program waits for.
Small files are left: opening them takes as long as the question.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from registry_pipelines.stream.lazy.backing import BackingFile
from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, Extents, Here, Placed
from registry_pipelines.stream.lazy.tree import Tree

LEAST_BYTES = 1 << 20
"""Of a file that is read ahead."""


class MountAhead:
    """Has one mount read; for many threads, but never that which answers the kernel's questions."""

    def __init__(self, folder: Path, tree: Tree, placed: Placed, file: BackingFile) -> None:
        self._folder, self._tree, self._placed, self._file = os.fsencode(folder), tree, placed, file
        self._lock, self._here = threading.Lock(), Here(placed)
        self.threads: set[int] = set()
        """Those that read now. What is not in the file must be refused to them: it may be them that bring it."""
        self._paths: dict[int, bytes] = {}
        for number in tree.large_files(LEAST_BYTES):
            list(self._here.file(number))

    def came(self, layer: int, extents: Extents) -> None:
        """These bytes of a layer are in the mounted file from now on, where that could be. It returns when the kernel
        has read them."""
        with self._lock:
            wanted = list(self._here.extents(layer, extents))
        thread = threading.get_native_id()
        self.threads.add(thread)
        try:
            for number, start, stop in wanted:
                with suppress(OSError):  # unmounted
                    self._read(number, start, stop)
        finally:
            self.threads.discard(thread)

    def _read(self, number: int, start: int, stop: int) -> None:
        """Whole pages of a file between two offsets, which may lie outside of it. Nobody waits for a layer: what is not
        in the mounted file is left."""
        place = self._placed.place(number)
        if place is None:
            return
        layer, position, size = place
        begin, start = self._file.layout.regions[layer].offset + position, -(-max(start, 0) // PAGE_BYTES) * PAGE_BYTES
        stop = size if stop >= size else stop // PAGE_BYTES * PAGE_BYTES
        while start < stop and not self._holds(begin + start, begin + min(start + PAGE_BYTES, stop)):
            start += PAGE_BYTES
        while start < stop and not self._holds(begin + stop - 1 - (stop - 1) % PAGE_BYTES, begin + stop):
            stop -= 1 + (stop - 1) % PAGE_BYTES
        if start < stop and self._holds(begin + start, begin + stop):
            self._advise(number, start, stop - start)

    def _holds(self, start: int, stop: int) -> bool:
        """Whether all is there that the kernel asks for: pages of the file in which a file's do not begin."""
        end = min(stop + -stop % PAGE_BYTES, self._file.layout.size)
        return self._file.holds(start - start % PAGE_BYTES, end)

    def _advise(self, number: int, offset: int, size: int) -> None:
        if (path := self._paths.get(number)) is None:
            path = self._paths[number] = self._folder + b"/" + self._tree.path(number)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # not kept: nobody could unmount it
        try:
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


__all__ = ["MountAhead"]
