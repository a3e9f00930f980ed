"""One line of a cloud's price list, as plain values: what both lists have in common."""

from __future__ import annotations

import math
from typing import NamedTuple


class Listed(NamedTuple):
    """A product with its price. service: as the list calls it. kind: its own word for the use (AWS: usage type without
    the region's prefix; Google: resource group). text: all that it says. regions: where it holds; empty for everywhere.
    to: the other region of a transfer. tiers: from which amount on a unit costs what, the first at 0. since: day of the
    price, ``2026-03-01``."""

    sku: str
    service: str
    kind: str
    text: str
    unit: str
    regions: tuple[str, ...]
    currency: str
    tiers: tuple[tuple[float, float], ...]
    since: str
    to: str = ""


def checked_tiers(tiers: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """In order of amounts; nothing where they are no prices: negative, not finite, none at 0."""
    found = sorted(tiers)
    fine = all(math.isfinite(value) and value >= 0 for tier in found for value in tier)
    return tuple(found) if found and fine and found[0][0] == 0 else ()


__all__ = ["Listed", "checked_tiers"]
