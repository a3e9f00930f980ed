"""Pages of files in the order in which they were read, each once: as they come, and of several recordings in one."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

Touch = tuple[int, int, int]
"""Number of the file in a recording's ``files``, first page, pages."""


class Touches:
    """Puts touches together as they happen: each page once, neighbours that come one after the other as one."""

    def __init__(self) -> None:
        self._seen: defaultdict[int, Pages] = defaultdict(Pages)
        self.list: list[Touch] = []
        """Each page once, in order."""
        self.pages = 0

    def add(self, number: int, first: int, count: int) -> int:
        """A file's pages were read; how many of them are new."""
        new = 0
        for start, end in self._seen[number].add(first, first + count):
            new += end - start
            if self.list and self.list[-1][0] == number and sum(self.list[-1][1:]) == start:
                self.list[-1] = (number, self.list[-1][1], end - self.list[-1][1])
            else:
                self.list.append((number, start, end - start))
        self.pages += new
        return new


class Pages:
    """Pages of a file: sorted ranges that do not touch each other."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Put a range in; the parts of it that were not there."""
        low = bisect_right(self.ends, start - 1)  # the first range that ends at start or behind it
        high = bisect_right(self.starts, end)  # behind the last that starts at end or before it
        new, position = [], start
        for index in range(low, high):
            if self.starts[index] > position:
                new.append((position, self.starts[index]))
            position = max(position, self.ends[index])
        if position < end:
            new.append((position, end))
        if low < high:
            start, end = min(start, self.starts[low]), max(end, self.ends[high - 1])
        self.starts[low:high], self.ends[low:high] = [start], [end]
        return new

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any of a range is there."""
        index = bisect_right(self.ends, start)
        return index < len(self.starts) and self.starts[index] < end


class Woven:
    """Touches of several recordings in one order."""

    def __init__(self) -> None:
        self._seen: defaultdict[int, Pages] = defaultdict(Pages)
        self._where: dict[tuple[int, int], int] = {}
        self._touches: list[Touch] = []
        self._next = array("q")
        """For each touch the one behind it; -1 for none. Number 0 is no touch: it stands before the first."""
        self._touches.append((0, 0, 0))
        self._next.append(-1)

    def weave(self, touches: Iterable[Touch]) -> None:
        """Put in what is new of one recording, each touch behind what this recording read before it."""
        behind = 0
        for number, first, count in touches:
            new = self._seen[number].add(first, first + count)
            position = first
            for start, end in new:
                if position < start:
                    behind = self._where[number, start - 1]
                behind = self._put(behind, (number, start, end - start))
                position = end
            if position < first + count:
                behind = self._where[number, first + count - 1]

    def _put(self, behind: int, touch: Touch) -> int:
        made = len(self._touches)
        self._touches.append(touch)
        self._next.append(self._next[behind])
        self._next[behind] = made
        number, first, count = touch
        for page in range(first, first + count):
            self._where[number, page] = made
        return made

    def touches(self) -> tuple[Touch, ...]:
        """All, in order; neighbours that come one after the other as one."""
        joined = Touches()
        at = self._next[0]
        while at >= 0:
            joined.add(*self._touches[at])
            at = self._next[at]
        return tuple(joined.list)
