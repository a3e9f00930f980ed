"""Where transfers stand: their progress added up, with rate and time left, and told as the lines of a log."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from registry_pipelines.progress import Progress, count_text, duration_text, size_text, waiting_line
from registry_pipelines.threads import repeated

RATE_WINDOW_S = 20.0
"""A rate is that of so many last seconds: long enough to be calm, short enough to show a change."""
SAMPLE_EVERY_S = 0.5
LINE_EVERY_S = 10.0
"""Between two lines about transfers that go on."""
STEP_PERCENT = 10
STEP_EVERY_S = 1.0
"""A step of ten per cent is told at once, but short work gets no ten lines in its second."""


class Standing(msgspec.Struct, frozen=True):
    """Where a group of tasks, or all of them, stand. eta_s: seconds that are left at this rate; None when nobody knows.
    percent: of the bytes; it never falls, also when there turns out to be more to do."""

    done_bytes: int
    total_bytes: int
    percent: int
    tasks: int
    ended: int
    failed: int
    seconds: float
    bytes_per_s: float
    eta_s: float | None

    @property
    def rate(self) -> str:
        """``12.3 MiB/s``; no rate is written where there is nothing to send."""
        return f"{size_text(round(self.bytes_per_s))}/s"


@dataclass
class _Task:
    group: str
    total: int
    done: int = 0
    ended: bool = False


@dataclass
class _Sum:
    began: float
    done: int = 0
    total: int = 0
    percent: int = 0
    tasks: int = 0
    ended: int = 0
    failed: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def standing(self, now: float) -> Standing:
        if not self.samples:
            self.samples.append((self.began, 0))
        while len(self.samples) > 1 and self.samples[1][0] <= now - RATE_WINDOW_S:
            self.samples.popleft()
        then, before = self.samples[0]
        rate = (self.done - before) / (now - then) if now > then else 0.0
        if now - self.samples[-1][0] >= SAMPLE_EVERY_S:
            self.samples.append((now, self.done))
        left = self.total - self.done
        settled = self.ended == self.tasks
        # All bytes are there before the last manifests and tags are: only the end is 100 %.
        reached = 100 if settled else min(99, 100 * self.done // self.total) if self.total else 0
        self.percent = max(self.percent, reached)
        eta = 0.0 if settled else left / rate if rate > 0 and left else None
        return Standing(
            self.done,
            self.total,
            self.percent,
            self.tasks,
            self.ended,
            self.failed,
            now - self.began,
            rate,
            eta,
        )


class Tally:
    """Adds grouped tasks up. A round lasts from the first task's begin until all that have begun are ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._tasks: dict[str, _Task] = {}
        self._all = _Sum(clock())
        self._groups: dict[str, _Sum] = {}

    def begin(self, task: str, *, total_bytes: int | None, group: str) -> None:
        """See Progress."""
        with self._lock:
            if not self._tasks:
                self._all, self._groups = _Sum(self._clock()), {}
            known = self._tasks.get(task)
            if known is None or known.ended:
                known = self._tasks[task] = _Task(group, 0)
                for each in self._sums(known):
                    each.tasks += 1
            total = max(total_bytes or 0, known.done)
            for each in self._sums(known):
                each.total += total - known.total
            known.total = total

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress. More bytes than were announced (a mount that was refused) make the total larger."""
        with self._lock:
            known = self._tasks.get(task)
            if known is None or known.ended:
                return
            known.done += byte_count
            more = max(0, known.done - known.total)
            known.total += more
            for each in self._sums(known):
                each.done += byte_count
                each.total += more

    def end(self, task: str, *, note: str = "") -> bool:
        """See Progress. What was announced and was not needed goes out of the total. Whether the round is over."""
        with self._lock:
            known = self._tasks.get(task)
            if known is None or known.ended:
                return False
            known.ended = True
            for each in self._sums(known):
                each.total -= known.total - known.done
                each.ended += 1
                each.failed += note == "failed"
            if self._all.ended < self._all.tasks:
                return False
            self._tasks.clear()
            return True

    @property
    def idle(self) -> bool:
        """Whether no round goes on."""
        return not self._tasks

    def knows(self, task: str) -> bool:
        """Whether a task has begun here and its round goes on."""
        return task in self._tasks

    def standing(self) -> Standing:
        """Where all tasks of the round stand."""
        with self._lock:
            return self._all.standing(self._clock())

    def groups(self) -> dict[str, Standing]:
        """Where each group stands, in the order they began."""
        with self._lock:
            return {name: each.standing(self._clock()) for name, each in self._groups.items()}

    def _sums(self, task: _Task) -> tuple[_Sum, _Sum]:
        return self._all, self._groups.setdefault(task.group, _Sum(self._clock()))


class Bulletins:
    """Lines for a log. Of grouped tasks (transfers) one line each ten seconds and at each ten per cent, with bytes,
    rate and the time that is left; a last one with the sums. Of any other task one line when it ends.

    say: takes a line, from any thread. Call :meth:`tick` about once a second, or use :func:`bulletins`.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._tally = Tally(clock)
        self._lock = threading.Lock()
        self._single: dict[str, tuple[float, int]] = {}
        self._told_at, self._told_percent = clock(), 0

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        """See Progress."""
        with self._lock:
            if not group:
                self._single.setdefault(task, (self._clock(), 0))
                return
            if self._tally.idle:
                self._told_at, self._told_percent = self._clock(), 0
            self._tally.begin(task, total_bytes=total_bytes, group=group)

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        if self._tally.knows(task):
            self._tally.advance(task, byte_count)
            return
        with self._lock:
            started, done = self._single.get(task, (self._clock(), 0))
            self._single[task] = (started, done + byte_count)

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""
        with self._lock:
            if self._tally.knows(task):
                if self._tally.end(task, note=note):
                    self._say(_last_line(self._tally.standing()))
                return
            started, done = self._single.pop(task, (self._clock(), 0))
            facts = [size_text(done)] if done else []
            facts.append(f"{self._clock() - started:.1f} s")
            self._say(f"{task}: {', '.join(facts + ([note] if note else []))}")

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        """See Progress."""
        self._say(waiting_line(host, reason, left_s))

    def tick(self) -> None:
        """Say where the transfers stand when it is time for that."""
        with self._lock:
            standing, now = self._tally.standing(), self._clock()
            if self._tally.idle or not standing.total_bytes:
                return
            passed = now - self._told_at
            step = standing.percent // STEP_PERCENT > self._told_percent // STEP_PERCENT
            if passed >= LINE_EVERY_S or (step and passed >= STEP_EVERY_S):
                self._told_at, self._told_percent = now, standing.percent
                self._say(_line(standing, self._tally.groups()))


@contextmanager
def bulletins(say: Callable[[str], None]) -> Iterator[Progress]:
    """Progress as lines of a log, also while nothing arrives: a stall is told as 0 B/s. say: takes a line."""
    progress = Bulletins(say)
    with repeated(progress.tick, 1.0, "bulletins"):
        yield progress


def _line(standing: Standing, groups: dict[str, Standing]) -> str:
    left = "" if standing.eta_s is None else f", {duration_text(standing.eta_s)} left"
    parts = [
        f"{standing.percent} %: {size_text(standing.done_bytes)} of {size_text(standing.total_bytes)}, "
        f"{standing.rate}{left}",
        f"{standing.ended} of {count_text(standing.tasks, 'copy', 'copies')} done",
    ]
    if len(groups) > 1:
        parts.append(", ".join(f"{name} {each.percent} %" for name, each in groups.items()))
    return "; ".join(parts)


def _last_line(standing: Standing) -> str:
    done = standing.tasks - standing.failed
    failed = f", {standing.failed} failed" if standing.failed else ""
    if not standing.done_bytes:
        return f"{done} of {count_text(standing.tasks, 'copy', 'copies')} done{failed}; no blob had to be sent"
    rate = f" ({size_text(round(standing.done_bytes / standing.seconds))}/s)" if standing.seconds else ""
    return (
        f"{done} of {count_text(standing.tasks, 'copy', 'copies')} done{failed}; "
        f"{size_text(standing.done_bytes)} sent in "
        f"{duration_text(standing.seconds) if standing.seconds >= 10 else f'{standing.seconds:.1f} s'}{rate}"
    )
