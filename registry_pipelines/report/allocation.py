"""Whose bytes are whose: layers that several share are split between them, and counted only where they are stored once.

A *place* is where a blob is stored once and billed once (``place_of``): a repository at ECR, a repository of Artifact
Registry with all its images, a whole registry elsewhere. In a place the bytes of a blob are split in equal parts among
the teams that need it, a team's part among its repositories, a repository's among its images: so the parts of images
add up to those of their repository, these to the team's, and these to what is billed (the Owen value of this cost game,
G. Owen 1977; for one level the Shapley value). What would be *freed* is another figure: the bytes that nobody else
needs. Pure, and columns throughout: a million needs take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

Level = Literal["registry", "team", "repository", "image", "class"]
LEVELS: tuple[Level, ...] = ("registry", "team", "repository", "image", "class")

NO_TEAM = "(no team)"
"""Whose repositories match no team's patterns."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one holder has of what is stored. name: of the team, ``REGISTRY/REPOSITORY``, or an image of one.
    needed_bytes: all it needs, each blob once in a place. fair_bytes: its part of what is billed. freed_bytes: what
    would go if it went. shared_bytes: of ``needed_bytes``, what others need, too."""

    name: str
    needed_bytes: int
    fair_bytes: float
    freed_bytes: int

    @property
    def shared_bytes(self) -> int:
        """Of what it needs, what others need, too."""
        return self.needed_bytes - self.freed_bytes


@dataclass(frozen=True)
class Holdings:
    """Who needs which blob: columns of equal length, one row for each need. place: number of the place; blob: number
    of the blob (equal numbers in one place are one blob); size: its bytes; registry, team, repository, image: numbers
    of names in ``names[LEVEL]``; price: number of the price in ``prices``, -1 for none."""

    place: Ints
    blob: Ints
    size: Ints
    registry: Ints
    team: Ints
    repository: Ints
    image: Ints
    names: dict[str, list[str]]
