"""What is away and can be done without: asked again after a while, and said meanwhile."""

from __future__ import annotations

import threading
import time

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.waits import BOARD, Wait

AWAY_S = 60.0
"""It is left alone for so long."""


class Outage:
    """One thing that may be away. what: as people are told. Safe for threads."""

    def __init__(self, what: str, *, away_s: float = AWAY_S) -> None:
        self._what, self._away_s = what, away_s
        self._lock = threading.Lock()
        self._until = 0.0
        self._wait: Wait | None = None
        self.times = 0
        """How often it began."""

    def asks(self) -> bool:
        """Whether to ask it now."""
        return time.monotonic() >= self._until

    def begins(self, error: RegistryPipelinesError) -> None:
        """It does not answer."""
        now = time.monotonic()
        with self._lock:
            self._until = now + self._away_s
            if self._wait is None:
                self.times += 1
                reason = f"{error.what[:200]}; until then what it has is found anew here, which takes longer"
                self._wait = Wait(self._what, reason, now, self._away_s)
                BOARD.open[id(self._wait)] = self._wait

    def over(self) -> None:
        """It answered."""
        if self._wait is None:
            return
        with self._lock:
            self._until = 0.0
            if self._wait is not None:
                BOARD.open.pop(id(self._wait), None)
                self._wait = None


__all__ = ["Outage"]
