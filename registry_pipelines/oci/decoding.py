"""Types that several threads decode."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")

_lock = threading.Lock()
_ready: set[Any] = set()


def ready(kind: type[_T]) -> type[_T]:
    """The type itself, for a decoder of msgspec; use it wherever one decodes into a class of ours.

    msgspec (0.22) learns what a class holds when it is first used, and that is not safe between threads: a process was
    lost so. Here each class is learnt by one thread at a time.
    """
    if kind not in _ready:
        with _lock:
            msgspec.json.Decoder(kind)
            _ready.add(kind)
    return kind
