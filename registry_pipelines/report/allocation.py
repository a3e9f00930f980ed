"""Whose bytes are whose: layers that several share are split between them, and counted only where they are stored once.

A *place* is where a blob is stored once and billed once: a repository at ECR, a repository of Artifact Registry with
all its images, a whole registry elsewhere (``report.holdings`` says which). In a place the bytes of a blob are split in
equal parts among the teams that need it, a team's part among its repositories, a repository's among its images: so the
parts of images add up to those of their repository, these to the team's, and these to what is billed. For one level
that is the Shapley value of the cost game in which a blob costs whoever needs it the same, however many do; over the
levels it is the Owen value (G. Owen, Values of games with a priori unions, 1977). What would be *freed* is another
figure: the bytes that nobody else needs.

Pure, and columns throughout: a million needs take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

Level = Literal["registry", "team", "repository", "image"]
LEVELS: tuple[Level, ...] = get_args(Level)

NO_TEAM = "(no team)"
"""Whose repositories match no team's patterns."""
NOT_KNOWN = "not known"
"""The class of a layer that nobody looked into."""


@dataclass(frozen=True)
class Holding:
    """Who needs which blob: columns of equal length, one row for each need.

    place, blob: numbers; equal numbers in one place are one blob. size: its bytes. team, repository, image: numbers of
    holders; an image is of one repository, which is of one team and one registry. tariff: what kind of storage it is
    billed as, a number of the caller's; a blob that is needed as several is billed as the lowest."""

    place: Ints
    blob: Ints
    size: Ints
    registry: Ints
    team: Ints
    repository: Ints
    image: Ints
    tariff: Ints


@dataclass(frozen=True)
class Shares:
    """What each holder of a level has, by its number (as long as the highest number that was asked for).

    needed: bytes, each blob once in a place. fair: its part of what is billed. freed: bytes that would go if it went.
    by_tariff: fair and freed bytes by the number of a tariff."""

    needed: Ints
    fair: Floats
    freed: Ints
    by_tariff: Mapping[int, tuple[Floats, Ints]]


class Split:
    """The split of what is held. Raises nothing; with no rows everything is 0."""

    def __init__(self, held: Holding) -> None:
        order = np.lexsort((held.image, held.repository, held.team, held.blob, held.place))
        blob_starts = _starts(held.place[order], held.blob[order])
        number = np.cumsum(blob_starts) - 1
        same = ~_starts(number, held.image[order])
        keep = order[~same]
        self._blob: Ints = number[~same]
        self.count = int(number[-1]) + 1 if len(number) else 0
        """Blobs, each once in a place."""
        self._columns: dict[Level, Ints] = {
            "registry": held.registry[keep],
            "team": held.team[keep],
            "repository": held.repository[keep],
            "image": held.image[keep],
        }
        self._size: Ints = _highest(self._blob, held.size[keep], self.count)[self._blob]
        lowest = np.full(self.count, np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(lowest, self._blob, held.tariff[keep])
        self._tariff: Ints = lowest[self._blob]
        self._fair = self._size / self._divisors()
        first = _starts(self._blob)
        self.blob_sizes: Ints = self._size[first]
        """Bytes of each blob, once in a place."""
        self.blob_keys: Ints = held.blob[keep][first]
        """Its number, as it was given."""
        self.blob_tariffs: Ints = self._tariff[first]

    def _divisors(self) -> Floats:
        """Into how many parts the bytes of a row's blob go: teams, times repositories of the team, times images of the
        repository."""
        found = np.ones(len(self._blob))
        group = self._blob
        for level in ("team", "repository", "image"):
            starts = _starts(group, self._columns[level])
            inner = np.cumsum(starts) - 1
            members = np.bincount(group[starts], minlength=int(group[-1]) + 1) if len(group) else group
            found *= members[group] if len(group) else 1
            group = inner
        return found

    def shares(self, level: Level, count: int) -> Shares:
        """What each holder of a level has. count: of its holders."""
        holder = self._columns[level]
        starts = _starts(self._blob, holder) if len(holder) else np.zeros(0, dtype=np.bool_)
        blob, who, size, tariff = self._blob[starts], holder[starts], self._size[starts], self._tariff[starts]
        alone = np.bincount(blob, minlength=self.count)[blob] == 1
        found = {}
        for each in np.unique(tariff).tolist():
            found[each] = (
                _sum(holder, self._fair * (self._tariff == each), count),
                _whole(who, size * (alone & (tariff == each)), count),
            )
        return Shares(
            _whole(who, size, count), _sum(holder, self._fair, count), _whole(who, size * alone, count), found
        )


def _starts(*keys: Ints) -> Bools:
    """Where a run of equal keys begins, in rows that are sorted by them."""
    found = np.zeros(len(keys[0]), dtype=np.bool_)
    if len(found):
        found[0] = True
        for key in keys:
            found[1:] |= key[1:] != key[:-1]
    return found


def _highest(group: Ints, values: Ints, count: int) -> Ints:
    """Of each group the highest value: manifests may disagree about a blob's size."""
    found = np.zeros(count, dtype=np.int64)
    np.maximum.at(found, group, values)
    return found


def _sum(group: Ints, values: Floats, count: int) -> Floats:
    return np.bincount(group, weights=values, minlength=count).astype(np.float64)


def _whole(group: Ints, values: Ints, count: int) -> Ints:
    """Exact to the byte: weights of ``bincount`` are floats, which are exact up to 9 PB."""
    return np.rint(np.bincount(group, weights=values, minlength=count)).astype(np.int64)


__all__ = ["LEVELS", "NOT_KNOWN", "NO_TEAM", "Bools", "Floats", "Holding", "Ints", "Level", "Shares", "Split"]
