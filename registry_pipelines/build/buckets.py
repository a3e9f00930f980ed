"""Which wheels share a layer: large ones stand alone, small ones go to a bucket that depends on their name only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from registry_pipelines.build.builder import LockedWheel

LARGE_WHEEL_BYTES = 10 * 1024 * 1024
"""From here a wheel gets its own layer: a request costs as much as some MiB, so smaller layers gain nothing."""

BUCKETS = 16
"""Layers that small wheels share. One changed wheel touches one bucket."""

MAX_LAYERS = 64
"""Layers of one image, base included. overlay2 stops at 128, containerd at one page of mount options (about 70)."""

RESERVED_LAYERS = 3
"""For the application and what a user may put on top."""


def group(wheels: Sequence[LockedWheel], *, base_layers: int = 0) -> list[tuple[LockedWheel, ...]]:
    """Groups of wheels, one layer each: the large ones by name, then the buckets. Stable: a wheel moves only when it
    crosses the size limit, or when there are more large wheels than layers (then the smallest of them share)."""
    room = max(0, MAX_LAYERS - RESERVED_LAYERS - BUCKETS - base_layers)
    large = sorted((w for w in wheels if w.size >= LARGE_WHEEL_BYTES), key=lambda w: (-w.size, w.name))[:room]
    alone = {wheel.name for wheel in large}
    buckets: dict[int, list[LockedWheel]] = {}
    for wheel in sorted(wheels, key=lambda w: w.name):
        if wheel.name not in alone:
            buckets.setdefault(bucket_of(wheel.name), []).append(wheel)
    singles = [(wheel,) for wheel in sorted(large, key=lambda w: w.name)]
    return [*singles, *(tuple(buckets[number]) for number in sorted(buckets))]


def bucket_of(name: str) -> int:
    """The bucket of a normalised project name."""
    return hashlib.sha256(name.encode()).digest()[0] % BUCKETS
