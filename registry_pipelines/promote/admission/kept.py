"""Answers that are kept for a time, and asked for once however many want them at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from registry_pipelines.threads import Pool

MAX_KEPT = 10_000
"""Answers; the oldest go first. One takes some 2 KB, mostly reasons."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Kept(Generic[_K, _V]):
    """ask: what finds an answer; its errors are not kept. keep_s: how long an answer is good, in seconds. Safe to use
    from many threads, but from those of ``pool``, whose threads ask."""

    def __init__(
        self,
        ask: Callable[[_K], _V],
        pool: Pool,
        keep_s: Callable[[_V], float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._pool, self._keep_s, self._clock = ask, pool, keep_s, clock
        self._answers: dict[_K, tuple[float, _V]] = {}
        self._asked: dict[_K, Future[_V]] = {}
        self._lock = threading.Lock()

    def get(self, key: _K, wait_s: float) -> _V:
        """The answer about ``key``, as fresh as it must be. Raises TimeoutError when it takes longer than that: it is
        kept when it comes. Raises what ``ask`` raises."""
        with self._lock:
            kept = self._answers.get(key)
            if kept is not None and self._clock() < kept[0]:
                return kept[1]
            future = self._asked.get(key)
            if future is None:
                future = self._asked[key] = self._pool.submit(self._find, key)
        return future.result(timeout=max(0.0, wait_s))

    def _find(self, key: _K) -> _V:
        began = self._clock()  # what changed while it was asked must not be kept for longer
        try:
            answer = self._ask(key)
        except BaseException:
            with self._lock:
                self._asked.pop(key, None)
            raise
        with self._lock:
            self._asked.pop(key, None)
            self._answers.pop(key, None)
            self._answers[key] = (began + self._keep_s(answer), answer)
            while len(self._answers) > MAX_KEPT:
                self._answers.pop(next(iter(self._answers)))
        return answer


__all__ = ["MAX_KEPT", "Kept"]
