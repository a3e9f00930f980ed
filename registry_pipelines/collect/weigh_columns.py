"""As ``weigh``, over columns: ten million needs of blobs take seconds, and no Python value each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from registry_pipelines.collect.weigh import KEPT

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class ColumnWeights:
    """freed: by entry, of all that go. held, gone: by repository; see ``weigh.Weights``."""

    freed: Ints
    held: Ints
    gone: Ints


class Needs:
    """Who needs which blob, repository by repository in the plan's order. Entries have one number over all of them."""

    def __init__(self) -> None:
        self._blob: list[Ints] = []
        self._size: list[Ints] = []
        self._last: list[Ints] = []
        self._count: list[int] = []

    def add(self, blob: Ints, size: Ints, entry: Ints) -> None:
        """One repository: an element for each manifest's need of a blob. entry: what goes with it, or KEPT. What a
        repository needs several times is kept once, with the last that needs it."""
        order = np.lexsort((-entry, blob))
        blob = blob[order]
        first = np.ones(len(blob), dtype=bool)
        first[1:] = blob[1:] != blob[:-1]
        chosen = order[first]
        self._blob.append(blob[first])
        self._size.append(size[chosen])
        self._last.append(entry[chosen])
        self._count.append(len(chosen))

    def weigh(self, entries: int) -> ColumnWeights:
        """Count each blob once. entries: how many go. What was added is let go."""
        repositories = len(self._count)
        freed, held, gone = (np.zeros(size, dtype=np.int64) for size in (entries, repositories, repositories))
        if not sum(self._count):
            return ColumnWeights(freed, held, gone)
        place = np.repeat(np.arange(repositories, dtype=np.int32), self._count)
        blob = _joined(self._blob)
        order = np.argsort(blob, kind="stable")
        sorted_ = blob[order]
        starts = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]])
        del blob, sorted_
        counts = np.diff(np.append(starts, len(order)))
        last = _joined(self._last)[order]
        ends = starts + counts - 1
        size = _joined(self._size)[order[ends]]
        goes = np.maximum.reduceat(last, starts) != KEPT
        np.add.at(freed, last[ends][goes], size[goes])
        del last
        part, over = size // counts, size % counts
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        parts = np.repeat(part, counts) + (rank < np.repeat(over, counts))
        np.add.at(held, place[order], parts)
        np.add.at(gone, place[order], np.where(np.repeat(goes, counts), parts, 0))
        return ColumnWeights(freed, held, gone)


def _joined(pieces: list[Ints]) -> Ints:
    whole = np.concatenate(pieces)
    pieces.clear()
    return whole
