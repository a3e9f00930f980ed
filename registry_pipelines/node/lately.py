"""What was a moment ago, and need not be done again yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class Lately:
    """Each thing with the time until which it counts as just done. For many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds that only grow."""
        self._clock, self._lock = clock, threading.Lock()
        self._until: dict[Hashable, float] = {}

    def has(self, what: Hashable) -> bool:
        """Whether it was done a moment ago."""
        with self._lock:
            return self._has(what)

    def first(self, what: Hashable, for_s: float) -> bool:
        """Whether it was not; then it is so from now on, for some seconds."""
        with self._lock:
            if self._has(what):
                return False
            self._until[what] = self._clock() + for_s
            return True

    def _has(self, what: Hashable) -> bool:
        now = self._clock()
        for over in [each for each, end in self._until.items() if end <= now]:
            del self._until[over]
        return what in self._until


__all__ = ["Lately"]
