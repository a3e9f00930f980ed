"""Random numbers that spread load and guard nothing: pauses that differ, work in another order than a neighbour's.

Of a generator of its own: who draws from Python's own, and sets its seed, finds its state as it was, whatever our
threads do meanwhile.
"""

from __future__ import annotations

import random

CHANCE = random.Random()  # noqa: S311 - see the module

__all__ = ["CHANCE"]
