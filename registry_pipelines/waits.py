"""Whom this process waits for: told to people when it lasts, so that a long silence explains itself.

Waits happen deep down (a retry, a limit, a body that stands still) and are facts about a host, not about one call: as a
log, the board is the process's. Whoever shows progress listens to it while work goes on; without a listener nothing is
told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import msgspec

from registry_pipelines.progress import Progress, Silent
from registry_pipelines.threads import repeated

TELL_AFTER_S = 5.0
"""A shorter wait is not worth a line."""

QUIET_S = 30.0
"""A host that nobody waited for this long has recovered; the same trouble is then told of again. Retries pause up to
15 s, and an attempt may last as long, so less would tell one trouble several times."""

LOOK_EVERY_S = 1.0

_VARYING = re.compile(r"[0-9a-f]{8,}|[0-9]+")
"""Digests and numbers: a reason that differs in these alone is no new one."""


class Wait(msgspec.Struct, eq=False):
    """One wait of one thread. host: registry and port. reason: in a few words; it may change while it lasts.

    since: monotonic seconds, 0 when it does not wait just now. left_s: how long it will last or go on at most, from
    ``since`` on; None when nobody knows. A context manager; safe to use again and again.
    """

    host: str
    reason: str
    since: float = 0.0
    left_s: float | None = None
    _given_since: bool = False

    def __post_init__(self) -> None:
        self._given_since = self.since > 0

    def __enter__(self) -> Wait:
        if not self._given_since:
            self.since = time.monotonic()
        BOARD.open[id(self)] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        BOARD.open.pop(id(self), None)


class Board:
    """All waits of a process. Adding one is a store into a dictionary: it stands in the way of every read."""

    def __init__(self) -> None:
        self.open: dict[int, Wait] = {}

    def lasting(self, now: float) -> list[Wait]:
        """Those worth a line, the longest first: they last already, or are known to last."""
        waiting = [each for each in list(self.open.values()) if each.since]
        return sorted(
            (each for each in waiting if max(now - each.since, each.left_s or 0.0) >= TELL_AFTER_S),
            key=lambda each: each.since,
        )


BOARD = Board()


class Teller:
    """Tells a Progress of lasting waits: one line per host, and another when the reason is a new one."""

    def __init__(
        self, progress: Progress, *, board: Board = BOARD, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._board, self._clock = progress, board, clock
        self._told: dict[str, set[str]] = {}
        self._seen_at: dict[str, float] = {}

    def tick(self) -> None:
        """Look once; call it about once a second."""
        now = self._clock()
        lasting = self._board.lasting(now)
        for host in [host for host, at in self._seen_at.items() if now - at > QUIET_S]:
            del self._seen_at[host], self._told[host]
        for wait in {each.host: each for each in reversed(lasting)}.values():
            self._seen_at[wait.host] = now
            kinds, kind = self._told.setdefault(wait.host, set()), _VARYING.sub("", wait.reason)
            if kind not in kinds:
                kinds.add(kind)
                left = None if wait.left_s is None else max(0.0, wait.since + wait.left_s - now)
                self._progress.waiting(wait.host, reason=wait.reason, left_s=left)


@contextmanager
def told_to(progress: Progress) -> Iterator[None]:
    """Tell a Progress of lasting waits while the block runs."""
    if type(progress) is Silent:
        yield
        return
    with repeated(Teller(progress).tick, LOOK_EVERY_S, "waits"):
        yield


def host_of(where: str) -> str:
    """The host of an error's ``where`` (``host/repository:tag``)."""
    return where.partition("/")[0]
