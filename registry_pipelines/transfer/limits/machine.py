"""Stay within what registries and links permit: adaptive windows, request budgets, bandwidth caps.

Each (registry, action) has a window of its own, so that a 429 on manifests never slows parts. A window grows by one for
each round of successes and is halved by 429, 503 and time-outs; a ``Retry-After`` stops the action for everybody on
this machine. Quotas that a registry announces are kept beside the windows (see ``quotas``). Budgets (requests a second)
and caps (bytes a second) are shared by all processes with the same folder; where workers share a database, by all of
them (``together``), and each has its part of the largest window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.errors import QuotaSpent, RegistryPipelinesError, Unavailable
from registry_pipelines.progress import count_text
from registry_pipelines.transfer.limits.buckets import Bucket, CapWindow, Rate, cap_at
from registry_pipelines.transfer.limits.budgets import Budget, BudgetBook
from registry_pipelines.transfer.limits.quotas import QuotaGate
from registry_pipelines.transfer.limits.rules import KNOWN, Action, RegistryRule, rule_for
from registry_pipelines.waits import Wait

if TYPE_CHECKING:
    from registry_pipelines.shared.budgets import Budgets
    from registry_pipelines.transfer.limits.months import MonthOfBytes

FIRST_WINDOW = 16.0
LARGEST_WINDOW = 128.0
SMALLEST_WINDOW = 1.0
CUT_INTERVAL_S = 1.0
"""Failures of requests that were under way together are one sign of congestion, not many."""

UNASKED_PAUSE_S = 1.0
"""Pause after a congestion whose answer did not say how long."""

LONGEST_PAUSE_S = 300.0
"""A registry that asks for more is told of as an error by the client's own limit; the shared stop ends here."""

_CONGESTION = (429, 503, 0)
"""Statuses that mean congestion; 0 is a time-out or a broken connection."""


class Window:
    """How many requests of one kind may be under way; adapts to what comes back."""

    def __init__(self, bucket: Rate, per_second: float = 0.0, registry: str = "") -> None:
        self.size = FIRST_WINDOW
        self._registry = registry
        self._bucket, self.per_second = bucket, per_second
        self._under_way = 0
        self._last_cut = 0.0
        self._turn = threading.Condition()

    @property
    def open(self) -> int:
        """Requests that may be under way from here: what the window has learnt, and this worker's part of the most."""
        return max(1, min(int(self.size), int(LARGEST_WINDOW / self._bucket.users)))

    @property
    def workers(self) -> int:
        """How many workers share the registry, with this one."""
        return self._bucket.users

    @contextmanager
    def request(self, *, streamed: bool = False) -> Iterator[None]:
        """Wait for a place and for the budget; learn from how it ends.

        streamed: a request whose body is still being fetched keeps no place: it would wait for memory that is held by
        those who wait for its place, and nobody would ever go on.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._under_way < self.open)
            self._under_way += not streamed
        try:
            self._wait_for_budget()
            yield
        except RegistryPipelinesError as error:
            self.note(error)
            raise
        else:
            self._grow()
        finally:
            with self._turn:
                self._under_way -= not streamed
                self._turn.notify_all()

    def note(self, error: RegistryPipelinesError) -> None:
        """Learn from a failed attempt, also one that the client will repeat by itself. A spent quota is no congestion:
        questions that are not counted go on."""
        if not isinstance(error, Unavailable) or error.status not in _CONGESTION or isinstance(error, QuotaSpent):
            return
        now = time.monotonic()
        with self._turn:
            if now - self._last_cut >= CUT_INTERVAL_S:
                self._last_cut = now
                self.size = max(SMALLEST_WINDOW, self.size / 2)
        if error.status:
            asked = UNASKED_PAUSE_S if error.retry_after_s is None else error.retry_after_s
            self._bucket.block(min(asked, LONGEST_PAUSE_S))

    def stopped_s(self) -> float:
        """Seconds for which nobody here may ask."""
        return self._bucket.wait_s()

    def _grow(self) -> None:
        with self._turn:
            self.size = min(LARGEST_WINDOW, self.size + 1 / self.size)

    def _wait_for_budget(self) -> None:
        wait_s = self._bucket.reserve(1, self.per_second) if self.per_second else self._bucket.wait_s()
        if wait_s:
            with Wait(self._registry, "its limit of requests", left_s=wait_s):
                time.sleep(wait_s)


class Bandwidth:
    """A cap in bytes a second, by calendar, kept by all processes together."""

    def __init__(self, windows: tuple[CapWindow, ...], bucket: Rate) -> None:
        self._windows, self._bucket = windows, bucket

    @property
    def fastest(self) -> int:
        """The cap of the hours that permit most, in bytes a second."""
        return max(window.bytes_per_s for window in self._windows)

    def spend(self, byte_count: int) -> None:
        """Wait until so many bytes are covered."""
        rate = cap_at(self._windows, datetime.now())
        if rate and byte_count:
            wait_s = self._bucket.reserve(byte_count, rate)
            if wait_s:
                time.sleep(wait_s)


@dataclass
class MachineLimits:
    """The limits of this machine. folder: where processes share them; None keeps them for this process.

    caps: registry name (or ``*``) to bandwidth caps for what is read from and sent to it. rules: known registries.
    shared: opens the budgets of all workers on one state, at the first request; they take the folder's place.
    """

    folder: Path | None = None
    caps: dict[str, tuple[CapWindow, ...]] = field(default_factory=dict)
    rules: Sequence[RegistryRule] = KNOWN
    shared: Callable[[], Budgets] | None = None
    _windows: dict[tuple[str, Action], Window] = field(default_factory=dict, init=False, repr=False)
    _quotas: dict[str, QuotaGate] = field(default_factory=dict, init=False, repr=False)
    _months: dict[str, MonthOfBytes] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def window(self, registry: str, action: Action) -> Window:
        """The window of a registry and action."""
        with self._lock:
            key = registry, action
            if key not in self._windows:
                per_second = rule_for(registry, self.rules).per_second.get(action, 0.0)
                self._windows[key] = Window(self._bucket(registry, action), per_second, registry)
            return self._windows[key]

    def quota(self, registry: str) -> QuotaGate:
        """The gate of a registry's announced quota for reading manifests."""
        with self._lock:
            if registry not in self._quotas:
                self._quotas[registry] = self._gate(registry)
            return self._quotas[registry]

    def _gate(self, registry: str) -> QuotaGate:
        if self.shared is not None:
            from registry_pipelines.transfer.limits.together import SharedQuotaGate  # of workers on one state

            return SharedQuotaGate(self.shared(), registry)
        book = BudgetBook(self._path(registry, "quota"), registry)
        return QuotaGate(Bucket(self._path(registry, "get-manifest")), book=book)

    def budgets(self) -> list[Budget]:
        """What is left of the quotas that registries used here have announced."""
        with self._lock:
            gates = [self._quotas[name] for name in sorted(self._quotas)]
        return [budget for gate in gates if (budget := gate.budget()) is not None]

    def quota_note(self, registry: str) -> str:
        """What was taken here of a registry's quota, and what is left until when; empty where nothing was."""
        gate = self.quota(registry)
        budget = gate.budget()
        if not gate.taken or budget is None:
            return ""
        taken = count_text(gate.taken, "pull")
        return f"{taken} of {registry} taken, {budget.remaining} left until {budget.until_text}"

    def month(self, registry: str) -> MonthOfBytes | None:
        """What a registry gives in a month; None where that is not limited."""
        limit = rule_for(registry, self.rules).bytes_per_month
        if not limit:
            return None
        from registry_pipelines.transfer.limits.months import MonthOfBytes  # of one registry that is known

        with self._lock:
            if registry not in self._months:
                counts = self.shared().count if self.shared is not None else None
                path = self._path(registry, "bytes-of")
                self._months[registry] = MonthOfBytes(path, registry, limit, counts=counts)
            return self._months[registry]

    def bandwidth(self, registry: str) -> Bandwidth | None:
        """The cap of a registry, None when it has none."""
        windows = self.caps.get(registry, self.caps.get("*", ()))
        return Bandwidth(windows, self._bucket(registry, "bytes")) if windows else None

    def in_force(self) -> list[dict[str, str | int | float]]:
        """What holds now for each registry and action that was used here: requests at once (``window``), how many
        workers share them, their budget a second (0: none), seconds for which the registry stopped them, and the cap of
        its bytes a second (0: none)."""
        with self._lock:
            used = sorted(self._windows.items())
        caps = {name: cap_at(self.caps.get(name, self.caps.get("*", ())), datetime.now()) for (name, _), _ in used}
        return [
            {
                "registry": name,
                "action": action,
                "window": window.open,
                "workers": window.workers,
                "budget_per_second": window.per_second,
                "stopped_seconds": round(window.stopped_s(), 1),
                "cap_bytes_per_second": caps[name],
            }
            for (name, action), window in used
        ]

    def _bucket(self, registry: str, kind: str) -> Rate:
        if self.shared is not None:
            return self.shared().line(f"{registry} {kind}")
        return Bucket(self._path(registry, kind))

    def _path(self, registry: str, kind: str) -> Path | None:
        if self.folder is None:
            return None
        safe = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in registry).strip(".")
        return self.folder / f"{safe}.{kind}"
