"""Questions of many threads to a database: those that come while one is under way are asked together, as the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 500
"""Of one question."""


class Gathered(Generic[K, V]):
    """Sixty-four threads that look at the targets of a fleet ask a database some two questions in place of sixty-four,
    and one thread alone waits for nobody. Safe for threads."""

    def __init__(self, ask_all: Callable[[Sequence[K]], Mapping[K, V]]) -> None:
        """ask_all: the answers of several, without those that there is none to."""
        self._ask_all = ask_all
        self._turn = threading.Condition()
        self._asking = False
        self._waiting: list[_Question[K, V]] = []

    def ask(self, key: K) -> V | None:
        """The answer, no older than the call; None where there is none. Raises what ``ask_all`` raises."""
        mine: _Question[K, V] = _Question(key)
        with self._turn:
            self._waiting.append(mine)
            while self._asking and not mine.answered:
                self._turn.wait()
            if mine.answered:
                return mine.answer
            self._asking = True
            self._waiting.remove(mine)
            together, self._waiting = [mine, *self._waiting[: MOST - 1]], self._waiting[MOST - 1 :]
        answers: Mapping[K, V] | None = None
        try:
            answers = self._ask_all([each.key for each in together])
        finally:
            with self._turn:
                for each in together:
                    if answers is not None:
                        each.answer, each.answered = answers.get(each.key), True
                    elif each is not mine:  # it failed: whoever comes next asks for himself, and is told why
                        self._waiting.append(each)
                self._asking = False
                self._turn.notify_all()
        return mine.answer


class _Question(Generic[K, V]):
    def __init__(self, key: K) -> None:
        self.key = key
        self.answer: V | None = None
        self.answered = False


__all__ = ["Gathered"]
