"""What a hot pack brings is read through a mount of EROFS before a program asks, in large pieces.

A start reads its libraries in windows of the mount's read-ahead, and at each the kernel asks and the program waits: of
18,000 questions of a CUDA start 16,000 were for 37 files. So when more of a large file is here the kernel is told to
read it (``posix_fadvise``), which takes it 128 KiB at once, and asks a question for each that no program waits for.
Opening a small file takes as long as the question, so a thread of its own does that, behind what is large.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from registry_pipelines.stream.lazy.backing import BackingFile
from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, Extents, Here, Placed
from registry_pipelines.stream.lazy.tree import ROOT, Tree

LEAST_BYTES = 1
"""Of a file that is read ahead."""

LARGE_BYTES = 1 << 20
"""Of a file that is read by who brings it; others wait for a thread of their own."""

REST_S = 10.0
"""So long after the last small file its neighbours' names are forgotten."""


class MountAhead:
    """Has one mount read; for many threads, but never that which answers the kernel's questions."""

    def __init__(self, folder: Path, tree: Tree, placed: Placed, file: BackingFile) -> None:
        self._folder, self._tree, self._placed, self._file = os.fsencode(folder), tree, placed, file
        self._lock, self._here = threading.Lock(), Here(placed)
        self.threads: set[int] = set()
        """Those that read now. What is not in the file must be refused to them: it may be them that bring it."""
        self._names: dict[int, dict[int, bytes]] = {}
        """Of what was looked for, by directory."""
        self._is_begun, self._small = False, SimpleQueue[tuple[int, int, int] | None]()

    def came(self, layer: int, extents: Extents) -> None:
        """These bytes of a layer are in the mounted file from now on, where that could be. It returns when the kernel
        has read them."""
        with self._lock:
            if not self._is_begun:
                self._is_begun = True
                self._here.places(self._tree.files_by_place(LEAST_BYTES))
                threading.Thread(target=self._work, name="small_ahead", daemon=True).start()
            wanted = list(self._here.extents(layer, extents))
        with self._reading():
            for number, start, stop in wanted:
                if self._tree.node(number).size < LARGE_BYTES:
                    self._small.put((number, start, stop))
                    continue
                with suppress(OSError):  # unmounted
                    self._read(number, start, stop)

    def close(self) -> None:
        """Read no more."""
        self._small.put(None)

    def _work(self) -> None:
        with self._reading(), suppress(ValueError):  # closed
            while True:
                try:
                    what = self._small.get(timeout=REST_S if self._names else None)
                except Empty:  # all came
                    self._names.clear()
                    continue
                if what is None:
                    return
                with suppress(OSError):  # unmounted
                    self._read(*what)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        thread = threading.get_native_id()
        self.threads.add(thread)
        try:
            yield
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
        # Not kept: nobody could unmount it.
        descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)

    def _path(self, number: int) -> bytes:
        above = self._tree.parent(number)
        if (names := self._names.get(above)) is None:
            names = self._names[above] = {child: name for name, child in self._tree.children(above)}
        return b"/".join((self._folder if above == ROOT else self._path(above), names[number]))


__all__ = ["MountAhead"]
