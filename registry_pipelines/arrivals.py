"""Whether something has come in, asked of one file. With the standard library alone: small processes use it."""

from __future__ import annotations

import select
from typing import Protocol


class _Opened(Protocol):
    def fileno(self) -> int: ...


def is_ready(source: int | _Opened, within_s: float | None = 0.0) -> bool:
    """Whether something can be read there by then, its end included; None: however long it takes. source: a descriptor,
    or what has one. Raises ValueError of one that is closed. (Python's select() takes no number above 1,023, and a
    process that keeps many connections, or the layers of some images, has more files.)"""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(None if within_s is None else within_s * 1000))
