"""How long something that may pass is tried again: as long as bytes move, and a while after the last one."""

from __future__ import annotations

import time
from collections.abc import Callable

from registry_pipelines.chance import CHANCE
from registry_pipelines.errors import RegistryPipelinesError, Stalled, Unavailable
from registry_pipelines.waits import Wait, host_of

NO_PROGRESS_S = 120.0
"""Seconds without any progress after which an action is given up. A link that is down for 30 s is survived with room;
a registry that stays silent is not waited for all night."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0


class Elsewhere(Unavailable):
    """The registry answered, and it must be done in another way: tried again, and no sign of trouble."""


class Patience:
    """Pauses between attempts: doubling, with jitter, or a little longer than the registry asks, for many are told the
    same and ``Retry-After: 0`` may come for ever. Progress starts it afresh."""

    def __init__(
        self,
        no_progress_s: float = NO_PROGRESS_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.no_progress_s, self._clock, self._sleep = no_progress_s, clock, sleep
        self._begin()

    def progress(self) -> None:
        """Something was achieved."""
        self._begin()

    def _begin(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        self.since = 0.0
        """When the first attempt after the last progress failed, in seconds of the clock; 0 when none did."""

    def pause_s(self, error: RegistryPipelinesError) -> float | None:
        """Seconds to wait before the next attempt; None when the error will not pass or there was no progress for too
        long."""
        if not error.temporary:
            return None
        now = self._clock()
        self.since = self.since or now
        if isinstance(error, Stalled) and error.waited_s:  # for as long as its registry had a right to
            return None
        asked = error.retry_after_s if isinstance(error, Unavailable) else None
        jittered = self._pause_s * CHANCE.uniform(0.5, 1.0)
        pause_s = jittered if asked is None else asked + jittered * 0.1
        if now + pause_s - self.since > self.no_progress_s:
            return None
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s

    def wait(self, error: RegistryPipelinesError) -> bool:
        """Pause before the next attempt; False when there is to be none."""
        pause_s = self.pause_s(error)
        if pause_s is None:
            return False
        with self.told(error):
            self._sleep(pause_s)
        return True

    def told(self, error: RegistryPipelinesError) -> Wait:
        """What people are told while it waits."""
        return Wait(host_of(error.where), error.what, self.since, self.no_progress_s)
