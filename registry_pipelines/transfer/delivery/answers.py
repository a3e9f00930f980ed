"""What is asked once in a run, however many threads want to know it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class Answers(Generic[Question, Answer]):
    """Answers that many threads need. Each question is asked once; who has the same meanwhile waits. None and errors
    are no answer, and not kept. Safe for many threads."""

    def __init__(self) -> None:
        self._known: dict[Question, Answer] = {}
        self._asking: dict[Question, threading.Lock] = defaultdict(threading.Lock)

    def get(self, question: Question, ask: Callable[[], Answer | None]) -> Answer | None:
        """The answer; raises what ``ask`` raises."""
        known = self._known.get(question)
        if known is not None:
            return known
        with self._asking[question]:
            known = self._known.get(question)
            if known is None and (known := ask()) is not None:
                self._known[question] = known
            return known

    def known(self, question: Question) -> Answer | None:
        """The answer if there is one already."""
        return self._known.get(question)

    def tell(self, question: Question, answer: Answer) -> None:
        """It is known from elsewhere."""
        self._known[question] = answer
