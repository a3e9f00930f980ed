"""How many connections one blob is worth: more while its receiver waits for the source and more of them bring more."""

from __future__ import annotations

import time
from collections.abc import Callable

HUNGER_S = 0.1
"""How long a receiver waits for bytes of the source, at the least, before connections are added."""

HUNGRY_SHARE = 0.5
"""How much of its time it waits, at the least. A receiver that is slower than the source hardly ever waits, so between
fast neighbours a blob stays one plain GET."""

TRIAL_S = 0.5
"""How long new connections have to show what they bring. Enough for TCP and TLS to a far region to be set up."""

GAIN = 1.25
"""What they must bring to stay. Behind a limit per connection three bring three times as much; where a processor or
the network is what is short they bring nothing, and ranges cost docker-registry three times the CPU of one plain GET,
as each allocates a buffer of 4 MiB."""

STEP = 3
"""Connections are multiplied by this: two steps from one to the six that are the most."""

MEASURE_S = 2.0
"""What was longer ago says nothing about now."""

FIRST_REST_S = 5.0
"""How long to be content after connections brought nothing; twice as long each time."""


class Growth:
    """The number of connections that are ``wanted`` now, from what was received and waited. Not thread-safe."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.wanted = 1
        self._most, self._clock = most, clock
        self._kept = 1
        self._before = 0.0
        self._rest_s, self._rest_until = FIRST_REST_S, 0.0
        self._restart()

    def _restart(self) -> None:
        self._since, self._bytes, self._waited_s = self._clock(), 0, 0.0

    def received(self, byte_count: int) -> None:
        """Bytes came, over any connection. The time to the first of them is latency, and says nothing about rates."""
        if not self._bytes and not self._before:
            self._restart()
        self._bytes += byte_count

    def waited(self, seconds: float, *, room: bool) -> None:
        """The receiver waited for so long while all connections were reading. room: whether there is memory and
        content for more of them."""
        self._waited_s += seconds
        elapsed = self._clock() - self._since
        if not elapsed or not self._bytes:
            return
        rate = self._bytes / elapsed
        if self.wanted > self._kept:
            if elapsed >= TRIAL_S:
                self._judge(rate)
        elif room and self._waited_s >= max(HUNGER_S, HUNGRY_SHARE * elapsed):
            self._try_more(rate)
        elif elapsed > MEASURE_S:
            self._restart()

    def stay_alone(self) -> None:
        """One connection from now on, whatever is waited for."""
        self.wanted = self._kept = self._most = 1

    def _judge(self, rate: float) -> None:
        if rate >= GAIN * self._before:
            self._kept = self.wanted
        else:
            self.wanted = self._kept
            self._rest_until = self._clock() + self._rest_s
            self._rest_s *= 2
        self._restart()

    def _try_more(self, rate: float) -> None:
        if self.wanted < self._most and self._clock() >= self._rest_until:
            self._before = rate
            self.wanted = min(self.wanted * STEP, self._most)
        self._restart()
