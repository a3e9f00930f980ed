"""The memory that blob content may take while it is on its way: one budget for all transfers of a process."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import Counter
from collections.abc import Hashable

import msgspec

PART_BYTES = 8 * 1024 * 1024
"""One part: the unit of a ranged read, of a chunked upload and of the journal. At least 5 MiB (ECR's smallest part),
at most 10 MiB (its largest by the quota page, and what may be sent again after a kill)."""

BUDGET_BYTES = 8 * PART_BYTES
"""Parts in memory at once, over all blobs. Six connections keep a link of 20 MB/s each busy and two parts are on
their way out; with the interpreter the process stays well below 150 MB."""

RESERVE_BYTES = PART_BYTES
"""Beyond the budget, for a group that has nothing: one that stands still must not take the last part."""


class _Ticket(msgspec.Struct, eq=False):
    """turn: told when there may be room for it; of many that wait only the one is woken that can go on."""

    group: Hashable
    cost: int
    turn: threading.Condition


class PartMemory:
    """Hands out buffers within a budget; waits when it is used up. First come, first served within a group, so that a
    part which others wait for is never starved. Groups are what may be slow, the receivers: each takes at most its
    share while there are others, and one that has nothing always finds room for a part, because a registry that stands
    still would else stop the copies to all others. No deadlock: whoever holds parts holds the next one of its blob.

    Parts of large blobs lie in one shared memory file where the system has such files (Linux), so that a courier
    process can send them without a copy; used again, because fresh pages cost more than the copy."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget_bytes = max(budget_bytes, PART_BYTES)
        self._total = self.budget_bytes + RESERVE_BYTES
        self._used: Counter[Hashable] = Counter()
        self._queue: list[_Ticket] = []
        self._lock = threading.Lock()
        self.file: int | None = None
        self._slots = self._map(self._total // PART_BYTES)
        self._free = list(range(len(self._slots)))

    def _map(self, slots: int) -> list[memoryview]:
        self.file = _shared_file(slots * PART_BYTES)
        if self.file is None:
            return [memoryview(bytearray(PART_BYTES)) for _ in range(slots)]
        weakref.finalize(self, os.close, self.file)
        whole = memoryview(mmap.mmap(self.file, slots * PART_BYTES))
        return [whole[at * PART_BYTES : (at + 1) * PART_BYTES] for at in range(slots)]

    @property
    def spare_bytes(self) -> int:
        """What nobody has taken of the budget, or waits for."""
        with self._lock:
            return 0 if self._queue else self.budget_bytes - self._used.total()

    def take(self, offset: int, byte_count: int, *, large: bool, group: Hashable = None) -> Part:
        """Memory for ``byte_count`` bytes (at most PART_BYTES) of a blob at ``offset``; its last user gives it back.
        large: part of a blob of several parts; takes a whole slot. group: who will let go of it, sooner or later."""
        ticket = _Ticket(group, PART_BYTES if large else byte_count, threading.Condition(self._lock))
        with self._lock:
            self._queue.append(ticket)
            try:
                ticket.turn.wait_for(lambda: self._fits(ticket))
                self._used[group] += ticket.cost
                slot = self._free.pop() if large else None
            finally:
                self._queue.remove(ticket)
                self._call_next()
        view = memoryview(bytearray(byte_count)) if slot is None else self._slots[slot][:byte_count]
        return Part(self, offset, view, slot, ticket)

    def _call_next(self) -> None:
        """Wake the first of each group that has room now."""
        for ticket in {ticket.group: ticket for ticket in reversed(self._queue)}.values():
            if self._fits(ticket):
                ticket.turn.notify()

    def _fits(self, ticket: _Ticket) -> bool:
        if next(item for item in self._queue if item.group == ticket.group) is not ticket:
            return False
        used, mine = self._used.total() + ticket.cost, self._used[ticket.group]
        if not mine:
            return used <= self._total
        groups = {item.group for item in self._queue} | {group for group, held in self._used.items() if held}
        return used <= self.budget_bytes and mine + ticket.cost <= max(self.budget_bytes // len(groups), PART_BYTES)

    def give(self, part: Part) -> None:
        """Take the memory of a part back."""
        with self._lock:
            self._used[part.ticket.group] -= part.ticket.cost
            if part.slot is not None:
                self._free.append(part.slot)
            self._call_next()


def _shared_file(size: int) -> int | None:
    """A file in memory; None where there are none, or a limit on files (``ulimit -f``) holds for those, too."""
    if not hasattr(os, "memfd_create"):
        return None
    file = os.memfd_create("registry-pipelines-parts")
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        return None
    return file


class Part:
    """A piece of a blob in memory, shared by its receivers; the last one to let go frees it. slot: where it lies in the
    shared memory file, in parts; None when it does not."""

    __slots__ = ("_lock", "_memory", "_users", "offset", "slot", "ticket", "view")

    def __init__(self, memory: PartMemory, offset: int, view: memoryview, slot: int | None, ticket: _Ticket) -> None:
        self.offset = offset
        self.view = view
        self.slot = slot
        self.ticket = ticket
        self._memory = memory
        self._users = 1
        self._lock = threading.Lock()

    @property
    def stop(self) -> int:
        """The offset behind the last byte."""
        return self.offset + len(self.view)

    def shorten(self, byte_count: int) -> None:
        """It holds only so many bytes; before it is given to anybody."""
        self.view = self.view[:byte_count]

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
            self._memory.give(self)
