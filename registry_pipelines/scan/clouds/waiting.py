"""How long a scan is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
"""A scan takes from some seconds to minutes; AWS and Google both limit how often one may ask."""


@dataclass
class Waiting:
    """Until when to ask again. limit_s: seconds in all."""

    limit_s: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _pause_s: float = FIRST_PAUSE_S
    _ends: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends = self.clock() + self.limit_s

    def again(self) -> bool:
        """Sleep, and whether there is time for another question."""
        left = self._ends - self.clock()
        if left <= 0:
            return False
        self.sleep(min(self._pause_s, left))
        self._pause_s = min(self._pause_s * 1.5, LONGEST_PAUSE_S)
        return True
