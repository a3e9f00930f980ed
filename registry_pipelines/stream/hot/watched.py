"""An image whose reads are written down while real containers start from it, on whatever carrier brings it to them.

Like ``recorder``'s runs, but nothing is run here, and the mount goes on afterwards as any other. Meanwhile the kernel
asks for single pages, gets none that it did not ask for, and no file has a copy that it reads by itself: so each page
that a program reads for the first time is a question here. What a container has mounted over the image (a driver's
files, volumes, what it wrote itself) the image's mount never sees.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from registry_pipelines.stream.hot.recorder import RecordedTree
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile
from registry_pipelines.stream.hot.touches import Touch
from registry_pipelines.stream.lazy.erofs import ReadyMetadata
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.opened import OpenImage
from registry_pipelines.stream.lazy.pages_ahead import Brought, Came
from registry_pipelines.stream.lazy.tree import ROOT, Tree


class WatchedImage(RecordedTree):
    """See the module, and ``carriers.Lazy``. For many threads."""

    def __init__(self, image: OpenImage) -> None:
        super().__init__(image)
        self.opened = image
        self.place = image.place
        self._asked: dict[tuple[int, int, int], None] = {}
        """Layer, position and size, where the kernel asks for pages of the layers; in order, each once."""
        self._watching = True

    @property
    def tree(self) -> Tree:
        """See ``carriers.Lazy``."""
        return self.opened.tree

    @property
    def layers(self) -> Sequence[LazyLayer]:
        """See ``carriers.Lazy``."""
        return self.opened.layers

    @property
    def watched(self) -> Callable[[int, int, int], object] | None:
        """See ``carriers.Lazy``."""
        return self._was_asked if self._watching else None

    def metadata(self) -> ReadyMetadata | None:
        """See ``carriers.Lazy``."""
        return self.opened.metadata()

    def fill_rest(self) -> None:
        """See ``carriers.Lazy``."""
        self.opened.fill_rest()

    @property
    def read_ahead_bytes(self) -> int:
        """See ``carriers.Lazy``."""
        return self.opened.read_ahead_bytes

    @property
    def comes_ahead(self) -> bool:
        """Never: what the kernel has it does not ask for."""
        return False

    def tell_ahead(self, came: Came, brought: Brought | None = None) -> None:
        """Nothing comes ahead."""

    def unpacked(self, number: int) -> int | None:
        """None yet: see the module."""
        return None if self._watching else self.opened.unpacked(number)

    def unpack(self, number: int) -> bool:
        """See ``passthrough.Copies``."""
        return not self._watching and self.opened.unpack(number)

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        """See ``fuse.Served``."""
        if self._watching:
            return super().view(number, offset, size)
        return self.opened.view(number, offset, size)

    def _was_asked(self, layer: int, position: int, size: int) -> None:
        """The kernel reads pages of a layer."""
        asked = layer, position, size
        if self._on and asked not in self._asked:
            self._asked[asked] = None
            self.newest_s = time.monotonic()

    @property
    def touched(self) -> int:
        """Pages that were read until now."""
        return self._touches.pages or len(self._asked)

    def finish(self) -> None:
        """No more is written down, and the image is as any other."""
        self._watching = False
        self.end()

    def found(self) -> tuple[tuple[RecordedFile, ...], tuple[Touch, ...]]:
        """See ``RecordedTree``. Behind :meth:`finish`."""
        if self._asked:
            places = _Places(self.opened)
            for layer, position, size in list(self._asked):  # somebody may still be asking
                for number, first, count in places.of(layer, position, size):
                    self._touches.add(number, first, count)
            self._asked = {}
        return super().found()


class _Places:
    """Which pages of files the bytes of layers are, that the kernel asks for.

    It asks for whole pages of the file that has the layers, around the page of the image's file that it wants; and that
    begins anywhere in a layer, at a block of the tar. So of a question of two pages one page is wanted as a rule. Where
    small files share a page nobody knows which of them is: all are taken, for a pack has the layer's page in any case.
    """

    def __init__(self, image: OpenImage) -> None:
        self._files: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for number in range(ROOT, image.nodes + 1):
            place = image.place(number)
            if place is not None:
                layer, position, size = place
                self._files[layer].append((position, position + size, number))
        for files in self._files.values():
            files.sort()

    def of(self, layer: int, start: int, size: int) -> Iterator[Touch]:
        """Of one question: number of the file, first page, pages."""
        start, stop = _around(start, start + size)  # a layer's end is no page's
        files = self._files[layer]
        for at in range(max(0, bisect_right(files, (start, 1 << 62, 0)) - 1), len(files)):
            position, end, number = files[at]
            if position >= stop:
                break
            first = max(0, -(-(start - position) // PAGE_BYTES))
            last = -(-(end - position) // PAGE_BYTES) if end <= stop else (stop - position) // PAGE_BYTES
            if first < last and _around(position + first * PAGE_BYTES, min(end, position + last * PAGE_BYTES)) == (
                start,
                stop,
            ):
                yield number, first, last - first


def _around(start: int, stop: int) -> tuple[int, int]:
    """From and to of the whole pages around it."""
    return start - start % PAGE_BYTES, stop + -stop % PAGE_BYTES


__all__ = ["WatchedImage"]
