"""How many large blobs are on their way at once: as many as the largest leaves time for.

The end of a copy waits for its largest blob. While that is on its way there is time for total / largest streams of its
kind; with more of them all share the link and the processors, and the largest, with it the end, comes later.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator

import msgspec


class Load(msgspec.Struct, frozen=True):
    """What a task brings. way: what it shares with others: their source and targets."""

    way: Hashable
    size: int
    """Bytes, at least one."""


class _Way:
    def __init__(self) -> None:
        self.total = self.admitted = 0
        self.sizes: list[int] = []
        self.gone: Counter[int] = Counter()
        self.waiting: list[tuple[tuple[int, int], int]] = []

    def largest(self) -> int:
        while self.gone[-self.sizes[0]]:
            self.gone[-heapq.heappop(self.sizes)] -= 1
        return -self.sizes[0]

    def admit(self) -> Iterator[tuple[tuple[int, int], int]]:
        while self.waiting and self.admitted < -(-self.total // self.largest()):
            self.admitted += 1
            yield heapq.heappop(self.waiting)


class Streams:
    """The loads of a run. Entries are (rank, position of the task); smaller ones go first. Not safe for threads: its
    user holds a lock."""

    def __init__(self, loads: Iterable[Load]) -> None:
        self._ways: dict[Hashable, _Way] = {}
        for load in loads:
            way = self._ways.setdefault(load.way, _Way())
            way.total += load.size
            heapq.heappush(way.sizes, -load.size)

    def ready(self, load: Load, entry: tuple[tuple[int, int], int]) -> list[tuple[tuple[int, int], int]]:
        """A task could run; those that may."""
        way = self._ways[load.way]
        heapq.heappush(way.waiting, entry)
        return list(way.admit())

    def left(self, load: Load) -> list[tuple[tuple[int, int], int]]:
        """A task is over; those that may run now."""
        way = self._ways[load.way]
        way.total -= load.size
        way.gone[load.size] += 1
        return self.step_aside(load)

    def step_aside(self, load: Load) -> list[tuple[tuple[int, int], int]]:
        """A task only waits, until :meth:`come_back`; those that may run meanwhile."""
        way = self._ways[load.way]
        way.admitted -= 1
        return list(way.admit())

    def come_back(self, load: Load) -> None:
        """A task goes on."""
        self._ways[load.way].admitted += 1
