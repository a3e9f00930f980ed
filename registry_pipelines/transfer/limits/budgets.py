"""What is left of a quota that a registry announced, and until when: kept for all processes, told in plans.

Docker Hub says how many are left and how long its window is, not when it ends. It ends at the latest one window after
it was first seen with fewer requests used; some may come back sooner where it slides.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.progress import count_text, duration_text
from registry_pipelines.registry.protocol import Quota

MAX_FILE_BYTES = 4096
KEEP_EVERY_S = 1.0
"""Between two times that it is written down: what is lost is told again by the next answer."""


class Budget(msgspec.Struct, frozen=True):
    """What a registry gives. until, seen: seconds since 1970."""

    registry: str
    limit: int
    remaining: int
    window_s: float
    until: float
    """When all of it is there again, at the latest."""
    seen: float
    source: str = ""
    """Who is counted: an address, or the id of an account; empty where it is not said."""

    @property
    def until_text(self) -> str:
        """``14:10 UTC``; with the day where it is not today's."""
        moment, today = datetime.fromtimestamp(self.until, UTC), datetime.fromtimestamp(self.seen, UTC)
        return moment.strftime("%H:%M UTC" if moment.date() == today.date() else "%H:%M UTC on %d %B")

    @property
    def whose(self) -> str:
        """``100 in 6 h for 203.0.113.7``."""
        limit = f"{self.limit} in {duration_text(self.window_s).removesuffix(' 0 min')}" if self.limit else ""
        return f"{limit} for {self.source}" if limit and self.source else limit or self.source

    def row(self) -> dict[str, str | int]:
        """For tables and JSON."""
        until = datetime.fromtimestamp(self.until, UTC).isoformat(timespec="seconds")
        return {
            "registry": self.registry,
            "limit": self.limit,
            "remaining": self.remaining,
            "window_seconds": int(self.window_s),
            "until": until,
            "source": self.source,
        }


class Need(msgspec.Struct, frozen=True):
    """How many pulls of a registry something takes. exact: False where it takes at least so many."""

    registry: str
    pulls: int
    exact: bool = True


class BudgetBook:
    """Remembers the last quota of a registry. path: where processes share it; None keeps it here alone."""

    def __init__(self, path: Path | None, registry: str, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._registry, self._clock = path, registry, clock
        self._lock = threading.Lock()
        self._budget: Budget | None = None
        self._written = 0.0

    def note(self, quota: Quota) -> None:
        """Learn from an answer."""
        with self._lock:
            now = self._clock()
            before = self._current(now)
            if quota.resets_after_s is not None:
                until = now + quota.resets_after_s
            elif before is None or quota.remaining > before.remaining or quota.source != before.source:
                until = now + quota.window_s
            else:
                until = before.until
            self._budget = Budget(
                self._registry, quota.limit, quota.remaining, quota.window_s, until, now, quota.source
            )
            if self._path is not None and (now - self._written >= KEEP_EVERY_S or not quota.remaining):
                self._written = now
                _write(self._path, self._budget)

    def current(self) -> Budget | None:
        """What is known; None when nothing was ever announced, or its window is over."""
        with self._lock:
            return self._current(self._clock())

    def _current(self, now: float) -> Budget | None:
        kept = self._budget or (_read(self._path) if self._path is not None else None)
        return kept if kept is not None and now < kept.until <= now + 2 * kept.window_s else None


def budget_notes(what: str, needs: Iterable[Need], budgets: Iterable[Budget]) -> list[str]:
    """A sentence for each registry with a quota that something takes of. what: ``this mirror``."""
    by_name = {each.registry: each for each in budgets}
    return [_sentence(what, need, by_name[need.registry]) for need in needs if need.pulls and need.registry in by_name]


def _sentence(what: str, need: Need, budget: Budget) -> str:
    whose = f" ({budget.whose})" if budget.whose else ""
    text = (
        f"{what} needs {'' if need.exact else 'at least '}{count_text(need.pulls, 'pull')} of {need.registry}, "
        f"{budget.remaining} left until {budget.until_text}{whose}"
    )
    if need.pulls <= budget.remaining:
        return text
    return f"{text}: what they do not reach for comes then, by the same call; a log-in or a cache (`caches`) gives more"


def _read(path: Path) -> Budget | None:
    """A damaged file says nothing."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=ready(Budget))
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, budget: Budget) -> None:
    """Not durable: see KEEP_EVERY_S."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(budget))
        temporary.rename(path)
