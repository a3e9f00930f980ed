"""How long a test waits before it calls something hung: one factor for every limit.

A limit is there to end a test that would never end. What a test proves never depends on it, so it may be generous: a
machine with ten times more work than cores passes the same tests, only later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = float(os.environ.get("REGISTRY_PIPELINES_TEST_PATIENCE", "4"))
"""Every limit of every test is multiplied by this; 1 is what an idle machine of two cores gets by with."""


def patient(seconds: float) -> float:
    """A limit in seconds, as an idle machine needs it, made long enough for a busy one."""
    return seconds * PATIENCE


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; a limit only ends what hangs. A file or folder that goes away while
    it is looked at is none yet: whoever is waited for renames and removes what it works with."""
    end = time.monotonic() + patient(60)
    while True:
        with suppress(FileNotFoundError):
            if true():
                return
        assert time.monotonic() < end
        time.sleep(0.005)
