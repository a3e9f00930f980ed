"""How many bytes had come by when: looked at while something starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

EVERY_S = 0.05
MOST_POINTS = 400
"""Of a curve: a start of minutes is told as well by fewer."""


class Curve:
    """``with Curve(received) as curve: curve.start(); ...``; then ``points``: seconds and bytes since the start."""

    def __init__(self, received: Callable[[], int] | None) -> None:
        """received: bytes so far; None where nobody knows."""
        self._received = received
        self._points: list[tuple[float, int]] = []
        self._started, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Curve:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._started.set()
        self._thread.join()

    def start(self) -> None:
        """Begin to count."""
        self._started.set()

    @property
    def points(self) -> tuple[tuple[float, int], ...]:
        """See the class; at most MOST_POINTS, the last one always among them."""
        step = len(self._points) // MOST_POINTS + 1
        return tuple(self._points[::-step][::-1])

    def _look(self) -> None:
        self._started.wait()
        if self._received is None:
            return
        begin, before = time.monotonic(), self._received()
        while not self._ended.wait(EVERY_S):
            self._points.append((round(time.monotonic() - begin, 3), self._received() - before))
        self._points.append((round(time.monotonic() - begin, 3), self._received() - before))
