"""When to try again, and how long to wait before."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from registry_pipelines.chance import CHANCE
from registry_pipelines.errors import RegistryPipelinesError, Stalled, Unavailable
from registry_pipelines.waits import Wait, host_of

MAX_RETRY_AFTER_S = 365 * 86400.0
"""A longer Retry-After is a broken clock; it is read as this."""


class Retries(msgspec.Struct, frozen=True):
    """How temporary failures are tried again.

    attempts: requests in all, the first included. first_wait_s doubles up to longest_wait_s; each wait is drawn between
    half and all of it, so that many clients do not come back together. longest_retry_after_s: a Retry-After up to this
    is obeyed, a longer one is the caller's to decide (its ``retry_after_s``). repeat_stalls: whether a request that
    stalled is sent again; where the caller repeats by itself, a registry that hangs costs it a minute for each attempt,
    and not five.
    """

    attempts: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 10.0
    longest_retry_after_s: float = 60.0
    repeat_stalls: bool = True
    sleep: Callable[[float], None] = time.sleep

    def wait(self, error: RegistryPipelinesError, attempt: int) -> bool:
        """Sleep before attempt ``attempt + 1`` (the first is 1); False when ``error`` is final."""
        if not error.temporary or attempt >= self.attempts:
            return False
        if isinstance(error, Stalled) and (error.waited_s or not self.repeat_stalls):
            return False
        asked = error.retry_after_s if isinstance(error, Unavailable) else None
        if asked is not None and asked > self.longest_retry_after_s:
            return False
        backoff = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        jittered = backoff * CHANCE.uniform(0.5, 1.0)
        pause_s = jittered if asked is None else asked + jittered * 0.1
        with Wait(host_of(error.where), error.what, left_s=pause_s):
            self.sleep(pause_s)
        return True


NEVER = Retries(attempts=1)
"""Every failure is the caller's."""


def read_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Seconds a Retry-After header asks to wait (RFC 9110, section 10.2.3: seconds or an HTTP date).

    now: Unix time, default the clock's. None when missing or unreadable; never negative.
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    from email.utils import parsedate_to_datetime  # most say seconds

    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    wait = moment - (time.time() if now is None else now)
    return min(max(wait, 0.0), MAX_RETRY_AFTER_S)
