"""Buffers whose content is worked on (hashed) by the thread that fills them, or by one beside it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

DEPTH = 4
"""Buffers that may wait for the thread beside; more do not help a thread that is too slow."""


class Buffers:
    """Buffers of one size, used in turn; each comes up again when the work on it is done."""

    def __init__(self, size: int, beside: Executor | None, *, ahead: bool = False) -> None:
        """beside: a pool of one thread, so that work is done in its order; None: work is done at once. ahead: one more
        buffer is filled while one is used."""
        self._beside = beside
        self._views = [memoryview(bytearray(size)) for _ in range((DEPTH if beside else 1) + ahead)]
        self._work: list[Future[Any] | None] = [None] * len(self._views)
        self._index = 0

    def next(self) -> memoryview:
        """The next buffer. Raises what the work on its last content raised."""
        self._index = (self._index + 1) % len(self._views)
        self._wait(self._index)
        return self._views[self._index]

    @property
    def index(self) -> int:
        """Which buffer :meth:`next` gave last."""
        return self._index

    def work(self, act: Callable[..., object], *arguments: object, index: int | None = None) -> None:
        """Do something with the buffer that :meth:`next` gave last, or with the one of ``index``; once for each."""
        if self._beside is None:
            act(*arguments)
        else:
            self._work[self._index if index is None else index] = self._beside.submit(act, *arguments)

    def finish(self) -> None:
        """Wait for all work. Raises what it raised."""
        for index in range(len(self._views)):
            self._wait(index)

    def _wait(self, index: int) -> None:
        work, self._work[index] = self._work[index], None
        if work is not None:
            work.result()
