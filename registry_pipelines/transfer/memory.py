"""The memory that blob content may take while it is on its way: one budget for all transfers of a process."""

from __future__ import annotations

import threading
from collections import deque

PART_BYTES = 8 * 1024 * 1024
"""One part: the unit of a ranged read, of a chunked upload and of the journal. At least 5 MiB (ECR's smallest part),
at most 10 MiB (its largest by the quota page, and what may be sent again after a kill)."""

BUDGET_BYTES = 8 * PART_BYTES
"""Parts in memory at once, over all blobs. Six connections keep a link of 20 MB/s each busy and two parts are on
their way out; with the interpreter the process stays well below 150 MB."""


class PartMemory:
    """Hands out buffers within a budget; waits when it is used up. First come, first served, so that a part which
    others wait for is never starved. Full-size buffers are used again, because fresh pages cost more than the copy."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget_bytes = max(budget_bytes, PART_BYTES)
        self._used = 0
        self._free: list[bytearray] = []
        self._queue: deque[object] = deque()
        self._turn = threading.Condition()

    def take(self, byte_count: int) -> memoryview:
        """A buffer of exactly ``byte_count`` bytes (at most PART_BYTES); give it back with :meth:`give`."""
        ticket = object()
        with self._turn:
            self._queue.append(ticket)
            self._turn.wait_for(lambda: self._queue[0] is ticket and self._used + byte_count <= self.budget_bytes)
            self._queue.popleft()
            self._used += byte_count
            buffer = self._free.pop() if byte_count == PART_BYTES and self._free else None
            self._turn.notify_all()
        return memoryview(bytearray(byte_count) if buffer is None else buffer)

    def give(self, view: memoryview) -> None:
        """Take a buffer back."""
        with self._turn:
            self._used -= len(view)
            if len(view) == PART_BYTES and isinstance(view.obj, bytearray):
                self._free.append(view.obj)
            self._turn.notify_all()


class Part:
    """A piece of a blob in memory, shared by its receivers; the last one to let go frees it."""

    __slots__ = ("_lock", "_memory", "_users", "offset", "view")

    def __init__(self, memory: PartMemory, offset: int, view: memoryview) -> None:
        self.offset = offset
        self.view = view
        self._memory = memory
        self._users = 1
        self._lock = threading.Lock()

    @property
    def stop(self) -> int:
        """The offset behind the last byte."""
        return self.offset + len(self.view)

    def share(self, users: int) -> None:
        """So many more receivers will let go of it."""
        with self._lock:
            self._users += users

    def release(self) -> None:
        """One receiver is done."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._memory.give(self.view)
