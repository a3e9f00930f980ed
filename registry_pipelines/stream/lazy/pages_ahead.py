"""What comes ahead of a start is given to the kernel before anybody asks: a page that it has costs a reader nothing.

A start from a hot pack reads its bytes in thousands of small pieces, and each would be a question and an answer. So
when bytes of a pack are here, and the kernel knows a file that has them, it gets them as pages of it (``Store``). It
gets whole pages of verified content alone. What it has not got in time it asks for as ever. (``mount_ahead`` does so
for EROFS.)
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

PAGE_BYTES = 4096

GIVEN_BYTES = 1 << 20
"""At once."""

SMALL_BYTES = 256 << 10
"""Of a file that is given whole when it is opened, before it is read."""

AGAIN_S = 0.002
"""The kernel knows a file a moment after it was told of it; so long after that it is tried again."""
TRIES = 5

Extents = Sequence[tuple[int, int]]
"""Positions and sizes in a layer."""

Came = Callable[[int, Extents], object]
"""Is told which bytes of a layer are in its file from now on."""

Brought = Callable[[int, Extents, memoryview], object]
"""Gets bytes of a layer, verified, one extent behind the other."""


class Store(Protocol):
    """Where pages go."""

    def __call__(self, number: int, offset: int, size: int) -> bool:
        """Have the kernel keep pages of a file, where they are here. False: it does not know the file. Raises OSError:
        it takes no more."""
        ...


class Placed(Protocol):
    """Which bytes of the layers a file is."""

    def place(self, number: int) -> tuple[int, int, int] | None:
        """Layer, position and size of a file with content; None for anything else."""
        ...


class Here:
    """Which bytes are here of which files. For one thread at a time."""

    def __init__(self, placed: Placed) -> None:
        self._placed = placed
        self._files: defaultdict[int, _Files] = defaultdict(_Files)
        """By layer, those that the kernel knows."""
        self._here: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """By layer: from and to of what came, in order; none touches the next."""

    def places(self, files: Iterable[tuple[int, int, int, int]]) -> None:
        """All files that will be known, before anything is here. files: layer, position, size and number, sorted."""
        for layer, position, size, number in files:
            self._files[layer].append(position, position + size, number)

    def file(self, number: int) -> Iterator[tuple[int, int, int]]:
        """A file is known from now on. What is here of it: its number, and two offsets that may lie outside of it."""
        place = self._placed.place(number)
        if place is None:
            return
        layer, position, size = place
        self._files[layer].add(position, position + size, number)
        here = self._here[layer]
        for index in range(max(0, bisect_left(here, (position, 0)) - 1), len(here)):
            start, stop = here[index]
            if start >= position + size:
                break
            if stop > position:
                yield number, start - position, stop - position

    def extents(self, layer: int, extents: Extents) -> Iterator[tuple[int, int, int]]:
        """Bytes of a layer are here from now on. Of which known files they are, likewise."""
        files = self._files[layer]
        for begin, size in extents:
            first, last = _joined(self._here[layer], begin, begin + size)
            # Pages that are whole only now, for the rest of them came before.
            start, end = max(first, begin - PAGE_BYTES), min(last, begin + size + PAGE_BYTES)
            for position, number in files.between(start, end):
                yield number, start - position, end - position


class PagesAhead:
    """Gives pages in a thread of its own, in the order in which bytes and files become known. For many threads; it
    waits for no registry, and nobody waits for it. Close it."""

    def __init__(self, placed: Placed, store: Store) -> None:
        self._placed, self._store = placed, store
        self._news: SimpleQueue[Callable[[], Iterable[tuple[int, int, int]]] | None] = SimpleQueue()
        self._here = Here(placed)
        self._known, self._opened = _Numbers(), _Numbers()
        self._again: list[tuple[float, tuple[int, int, int, int]]] = []
        self._thread = threading.Thread(target=self._work, name="pages_ahead", daemon=True)
        self._thread.start()

    def known(self, number: int) -> None:
        """The kernel is told of a file."""
        if self._known.add(number):
            self._news.put(lambda: self._here.file(number))

    def opened(self, number: int) -> None:
        """A file that the kernel knows is being opened, and will be read: a small one is given at once."""
        place = self._placed.place(number) if self._opened.add(number) else None
        if place is not None and place[2] <= SMALL_BYTES:
            with suppress(OSError):
                self._store(number, 0, place[2])

    def came(self, layer: int, extents: Extents) -> None:
        """These bytes of a layer are here from now on."""
        self._news.put(lambda: self._here.extents(layer, extents))

    def close(self) -> None:
        """Give no more; what is under way ends by itself."""
        self._news.put(None)

    def _work(self) -> None:
        with suppress(OSError):  # unmounted
            while True:
                try:
                    news = self._news.get(timeout=AGAIN_S if self._again else None)
                except Empty:
                    self._try_again()
                    continue
                if news is None:
                    return
                for number, start, stop in news():
                    self._give(number, start, stop)

    def _give(self, number: int, start: int, stop: int, tries: int = 1) -> None:
        """Whole pages of a file between two offsets, which may lie outside of it."""
        place = self._placed.place(number)
        size = place[2] if place else 0
        start = -(-max(start, 0) // PAGE_BYTES) * PAGE_BYTES
        stop = size if stop >= size else stop // PAGE_BYTES * PAGE_BYTES
        for offset in range(start, stop, GIVEN_BYTES):
            if not self._store(number, offset, min(GIVEN_BYTES, stop - offset)):
                if tries < TRIES:
                    self._again.append((time.monotonic() + AGAIN_S * tries, (number, offset, stop, tries + 1)))
                return

    def _try_again(self) -> None:
        again, self._again = self._again, []
        now = time.monotonic()
        for when, what in again:
            if when <= now:
                self._give(*what)
            else:
                self._again.append((when, what))


class _Numbers:
    """Numbers of files, a byte for each that there may be: a set takes sixty, and a kernel knows tens of thousands."""

    def __init__(self) -> None:
        self._flags = bytearray()

    def add(self, number: int) -> bool:
        """False: it was in it."""
        if number >= len(self._flags):
            self._flags.extend(bytes(max(number + 1, 2 * len(self._flags)) - len(self._flags)))
        new = not self._flags[number]
        self._flags[number] = 1
        return new


class _Files:
    """Files of a layer by position; none lies in another."""

    def __init__(self) -> None:
        self._starts, self._stops, self._numbers = array("Q"), array("Q"), array("I")

    def add(self, start: int, stop: int, number: int) -> None:
        at = bisect_left(self._starts, start)
        for column, value in ((self._starts, start), (self._stops, stop), (self._numbers, number)):
            column.insert(at, value)

    def append(self, start: int, stop: int, number: int) -> None:
        """The next by position."""
        self._starts.append(start)
        self._stops.append(stop)
        self._numbers.append(number)

    def between(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Position and number of those that have bytes between two positions."""
        for at in range(max(0, bisect_left(self._starts, start) - 1), len(self._starts)):
            if self._starts[at] >= stop:
                break
            if self._stops[at] > start:
                yield self._starts[at], self._numbers[at]


def _joined(ranges: list[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """Put a range among others that do not touch each other; the one that it is now part of."""
    first = bisect_left(ranges, (start, 0))
    if first and ranges[first - 1][1] >= start:
        first -= 1
    last = first
    while last < len(ranges) and ranges[last][0] <= stop:
        start, stop = min(start, ranges[last][0]), max(stop, ranges[last][1])
        last += 1
    ranges[first:last] = [(start, stop)]
    return start, stop


__all__ = ["Brought", "Came", "Here", "PagesAhead", "Placed", "Store"]
