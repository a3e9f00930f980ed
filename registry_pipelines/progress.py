"""How long work tells what it is doing: one small protocol, a silent one, and one that counts."""

from __future__ import annotations

import threading
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of named tasks from any thread. Byte counts only grow."""

    def begin(self, task: str, *, total_bytes: int | None = None) -> None:
        """A task starts, or its total becomes known (called again with the total)."""
        ...

    def advance(self, task: str, byte_count: int) -> None:
        """So many more bytes of the task are done."""
        ...

    def end(self, task: str, *, note: str = "") -> None:
        """The task is done; ``note`` says in a few words how (``unchanged``, ``mounted``)."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, task: str, *, total_bytes: int | None = None) -> None:
        """See Progress."""

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""


class Counter(Silent):
    """Adds the bytes of all tasks up."""

    def __init__(self) -> None:
        self.bytes_moved = 0
        self._lock = threading.Lock()

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        with self._lock:
            self.bytes_moved += byte_count
