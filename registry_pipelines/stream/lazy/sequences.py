"""Which files are read from one end to the other, so that the disk is asked for their next part in time."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

AHEAD_BYTES = 2 << 20
"""Of a file that is read from one end to the other the disk is asked for so much before the kernel asks: it asks in
pieces of its read-ahead, and would wait for the disk at each."""

SLACK_BYTES = 512 << 10
"""So far from where a read ended the next one may begin and still be one of the same sequence."""

SEQUENCES = 64
"""Files of which it is remembered where they were read last."""


class Sequences:
    """Where files are read from one end to the other. Threads share it without a lock: what they spoil costs a hint."""

    def __init__(self) -> None:
        self._files: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def next_wanted(self, number: int, offset: int, stop: int, size: int) -> tuple[int, int] | None:
        """A read from ``offset`` to ``stop`` of a file of ``size`` bytes: what should come next, from and to; None for
        nothing, or nothing new."""
        known = self._files.pop(number, None)
        if known is None or abs(offset - known[0]) > SLACK_BYTES:  # the kernel asks for two windows at once
            self._remember(number, stop, 0)
            return None
        read_to, told_to = max(stop, known[0]), known[1]
        if read_to + AHEAD_BYTES // 2 <= told_to:
            self._remember(number, read_to, told_to)
            return None
        start, told_to = max(read_to, told_to), min(read_to + AHEAD_BYTES, size)
        self._remember(number, read_to, told_to)
        return (start, told_to) if start < told_to else None

    def _remember(self, number: int, read_to: int, told_to: int) -> None:
        self._files[number] = (read_to, told_to)
        if len(self._files) > SEQUENCES:
            with suppress(KeyError):
                self._files.popitem(last=False)


__all__ = ["Sequences"]
