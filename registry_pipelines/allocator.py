"""Memory that the C library keeps for this process, and need not.

By itself it takes memory from eight places (arenas) for each processor: what many threads let go of stays in each of
them, for that thread's next use. Another C library than glibc has no such calls; there nothing happens.
"""

import ctypes
from contextlib import suppress

_M_ARENA_MAX = -8
"""In glibc's malloc.h."""
_ARENAS = 2


def keep_arenas_few() -> None:
    """Take memory from two places and no more, for who reads in many threads. Call it before there are any."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def return_memory() -> None:
    """Give what was let go of back to the system. It takes some milliseconds, in which other threads go on."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


__all__ = ["keep_arenas_few", "return_memory"]
