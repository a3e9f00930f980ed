"""Budgets that all workers on one state keep together, in Postgres: rates, stops, counts, and quotas of pulls.

A worker asks for a piece of a rate and spends it here, so that a registry of 2,000 requests a second costs ten
questions a second, not two thousand. All of a process goes through one thread: what waits meanwhile is one question,
and a database that hangs holds nobody up. Without the database a worker keeps its share of each budget, one of as many
as were there when it was last asked, and says so.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from registry_pipelines.errors import LocalError
from registry_pipelines.progress import count_text
from registry_pipelines.shared import budget_tables as tables
from registry_pipelines.shared.budget_tables import CREDIT_S, LineAnswer, LineAsk, StockAnswer, StockAsk, Told
from registry_pipelines.shared.database import Database, Transaction
from registry_pipelines.waits import Wait

LEASE_S = 0.1
"""What is taken of a line at once, at most, beyond what is wanted just now: longer would waste what a worker that ends
leaves over, and let others wait for it."""
BETWEEN_S = 0.005
"""Between two questions of one process; what is wanted meanwhile goes together."""
STOP_SEEN_S = 0.25
"""A registry that told one worker to stop is left alone by all after this."""
USED_S = 2.0
"""How often a worker says which lines it uses."""
FLUSH_S = 1.0
"""How often what was counted is written down: more is not lost when a worker is killed."""
ANSWER_S = 2.0
"""A database that answers later is away."""
RETRY_S = 1.0
"""Between two looks whether it is back."""
AT_ONCE = 10
"""Pulls of a quota that are taken together, at most."""

BUDGETS = "the shared budgets"

_T = TypeVar("_T")


class _Answers(NamedTuple):
    results: list[object]
    lines: dict[str, LineAnswer]
    users: dict[str, int]
    workers: int
    counts: dict[str, int]


class Budgets:
    """This process' part in the budgets. Safe for many threads. database: of a shared state, with its members."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.worker = uuid.uuid4().hex
        self._database = database
        self._change = threading.Condition()
        self._lines: dict[str, Line] = {}
        self._counts: dict[str, Count] = {}
        self._stocks: dict[tuple[str, str], Stock] = {}
        self._waiting: list[tuple[str, Callable[[Transaction], object], Future[object]]] = []
        self._asked: dict[str, tuple[LineAsk, Future[LineAnswer]]] = {}
        self._stops: dict[str, float] = {}
        self._used: set[str] = set()
        self._noted_at = self._ran_at = self._counted_at = -USED_S
        self._thread: threading.Thread | None = None
        self._ready = self._closed = False
        self._outage: Wait | None = None
        self._workers = 1

    def line(self, key: str) -> Line:
        """A rate by its name."""
        with self._change:
            return self._lines.setdefault(key, Line(self, key))

    def count(self, key: str) -> Count:
        """A count by its name."""
        with self._change:
            return self._counts.setdefault(key, Count(self, key))

    def stock(self, registry: str, source: str) -> Stock:
        """The pulls that a registry gives to who is counted."""
        with self._change:
            return self._stocks.setdefault((registry, source), Stock(self, registry, source))

    @property
    def away(self) -> bool:
        """Whether the database does not answer just now."""
        return self._outage is not None

    def share(self) -> int:
        """One worker's part of a budget is one of so many, while nobody can be asked."""
        return self._workers

    def ask(self, act: Callable[[Transaction], _T], *, locks: str = "") -> _T | None:
        """What ``act`` answers, done in the next transaction; None while the database is away. locks: the name of what
        it alone may change until then."""
        future: Future[object] = Future()
        if not self._enqueue(lambda: self._waiting.append((locks, act, future))):
            return None
        return self._answer(future)  # type: ignore[return-value]

    def move(self, ask: LineAsk) -> LineAnswer | None:
        """Take of a line, or look; None while the database is away. One thread at a time for each line."""
        future: Future[LineAnswer] = Future()
        if not self._enqueue(lambda: self._asked.__setitem__(ask.key, (ask, future))):
            return None
        return self._answer(future)

    def stop(self, key: str, until: float) -> None:
        """Nobody may use a line before then, in seconds of the clock; told without waiting, later where the database
        is away."""
        self._enqueue(lambda: self._stops.__setitem__(key, until), always=True)

    def wake(self) -> None:
        """There is something to write down within FLUSH_S."""
        self._enqueue(lambda: None)

    def uses(self, key: str) -> None:
        """Note that this process uses a line."""
        self._used.add(key)

    def close(self) -> None:
        """Write down what was counted, and give back what is left over. Waits ANSWER_S at most."""
        with self._change:
            self._closed, thread = True, self._thread
            self._change.notify()
        if thread is not None:
            thread.join(ANSWER_S)
        self._over()

    def _enqueue(self, add: Callable[[], None], *, always: bool = False) -> bool:
        with self._change:
            if self._closed:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="budgets", daemon=True)
                self._thread.start()
            if self.away and not always:
                return False
            add()
            self._change.notify()
            return True

    def _answer(self, future: Future[_T]) -> _T | None:
        try:
            return future.result(ANSWER_S)
        except (TimeoutError, LocalError):
            self._gone()
            return None

    def _work(self) -> None:
        try:
            self._exchange_when_due()
        finally:
            with self._change:  # one that fails by a mistake of ours is started again by whoever asks next
                self._thread = None
        with contextlib.suppress(LocalError):
            if not self.away and (self._ready or any(each.pending for each in self._counts.values())):
                self._prepare()
                self._database.run(self._last, patient=False)

    def _exchange_when_due(self) -> None:
        """Until this is closed."""
        while True:
            with self._change:
                while not self._closed and ((left_s := self._due_s()) is None or left_s > 0):
                    self._change.wait(left_s)
                if self._closed:
                    return
            self._ran_at = self.clock()
            self._exchange()

    def _due_s(self) -> float | None:
        """In how many seconds something is to be asked; None while nobody wants anything."""
        now = self.clock()
        if self.away:
            return self._ran_at + RETRY_S - now
        if self._waiting or self._asked or self._stops:
            return self._ran_at + BETWEEN_S - now
        return self._counted_at + FLUSH_S - now if any(each.pending for each in self._counts.values()) else None

    def _exchange(self) -> None:
        """Ask all that waits, in one transaction."""
        with self._change:
            waiting, self._waiting = self._waiting, []
            asked, self._asked = self._asked, {}
            stops, self._stops = self._stops, {}
        # All workers lock in one order, or two wait for each other until Postgres ends one of them.
        waiting.sort(key=lambda each: each[0])
        futures: list[Future[object]] = [future for _, _, future in waiting]
        futures += [future for _, future in asked.values()]  # type: ignore[misc]
        now = self.clock()
        moved = _merged([ask for ask, _ in asked.values()], {key: until - now for key, until in stops.items()})
        used = set(self._used) if now - self._noted_at >= USED_S else set()
        counted = {}
        if now - self._counted_at >= FLUSH_S:
            self._counted_at = now
            counted = {key: each.pending for key, each in list(self._counts.items()) if each.pending}

        def act(database: Transaction) -> _Answers:
            results = [each(database) for _, each, _ in waiting]
            lines = tables.move_lines(database, moved)
            users = tables.note_users(database, self.worker, sorted(used)) if used else {}
            workers = tables.workers(database) if used else 0
            return _Answers(results, lines, users, workers, tables.add_counts(database, counted))

        try:
            self._prepare()
            results, lines, users, workers, counts = self._database.run(act, patient=False)
        except Exception as error:
            with self._change:
                self._stops = {**stops, **self._stops}
            self._gone()
            for future in futures:
                future.set_exception(error)
            if not isinstance(error, LocalError):
                raise
            return
        self._ready = True
        self._over()
        if used:
            self._noted_at, self._used = now, self._used - used
            self._workers = max(1, workers)
            for key, number in users.items():
                self.line(key).users = number
        for key, total in counts.items():
            self._counts[key].written(counted[key], total)
        for (_, _, future), result in zip(waiting, results, strict=True):
            future.set_result(result)
        for key, (_, of_line) in asked.items():
            of_line.set_result(lines[key])

    def _prepare(self) -> None:
        """Make the tables at the first exchange, and clean up what the dead left."""
        if not self._ready:
            self._database.make(tables.TABLES)
            self._database.run(tables.forget, patient=False)

    def _last(self, database: Transaction) -> None:
        tables.add_counts(database, {key: each.pending for key, each in self._counts.items() if each.pending})
        tables.leave(database, self.worker)

    def _gone(self) -> None:
        with self._change:
            if self._outage is None and not self._closed:
                share = self.share()
                kept = "each budget is kept by this worker alone" if share == 1 else f"1/{share} of each is kept here"
                self._outage = Wait(
                    BUDGETS, f"their database does not answer; {kept}, of {count_text(share, 'worker')}"
                )
                self._outage.__enter__()
            self._change.notify()

    def _over(self) -> None:
        with self._change:
            if self._outage is not None:
                self._outage.__exit__(None, None, None)
                self._outage = None


def _merged(asks: Sequence[LineAsk], stops: Mapping[str, float]) -> list[LineAsk]:
    """What is asked of lines together with their stops, in seconds from now: one statement changes all of them."""
    found = {ask.key: ask for ask in asks}
    for key, stop_s in stops.items():
        if stop_s > 0:
            found[key] = found.get(key, LineAsk(key))._replace(stop_s=stop_s)
    return list(found.values())


class Line:
    """A rate that all workers keep together, and its stop; as
    :class:`~registry_pipelines.transfer.limits.buckets.Bucket`. users: how many workers use it, when it was last
    asked."""

    def __init__(self, budgets: Budgets, key: str) -> None:
        self._budgets, self._key = budgets, key
        self.users = 1
        self._at = self._end = 0.0
        """What is left of the piece that was taken: from and to, in seconds of the clock."""
        self._stopped_until = 0.0
        self._looked_at: float | None = None
        self._taken_s = 0.0
        self._taken_since = budgets.clock()
        self._wanted = 0.0
        self._meter, self._turn = threading.Lock(), threading.Lock()

    def reserve(self, amount: float, per_second: float) -> float:
        """Take ``amount``; seconds to wait until it is covered."""
        self._budgets.uses(self._key)
        cost_s = amount / per_second
        with self._meter:
            self._wanted += cost_s
        with self._turn:
            try:
                return self._reserve(cost_s)
            finally:
                with self._meter:
                    self._wanted -= cost_s

    def _reserve(self, cost_s: float) -> float:
        clock = self._budgets.clock
        begin = max(self._at, clock() - CREDIT_S)
        rest_s = max(0.0, self._end - begin)
        if cost_s <= rest_s:
            self._at = begin + cost_s
        else:
            take_s = max(self._wanted - rest_s, cost_s - rest_s, self._expected_s())
            answer = self._budgets.move(LineAsk(self._key, take_s=take_s))
            now = clock()
            if answer is None:  # a share of the rate, from where it stood
                self._at = self._end = max(self._at, now - CREDIT_S) + cost_s * self._budgets.share()
            else:
                self._learn(answer, now)
                self._at = now + answer.begin_s + cost_s - rest_s
                self._end = now + answer.begin_s + take_s
        self._taken_s += cost_s
        now = clock()
        return max(0.0, self._at - now, self._stopped_until - now)

    def _expected_s(self) -> float:
        """What will be wanted in the next LEASE_S, as far as the last piece tells; never more than that is."""
        now = self._budgets.clock()
        since_s = now - self._taken_since
        expected_s = self._taken_s / since_s * LEASE_S if since_s > BETWEEN_S else 0.0
        self._taken_s, self._taken_since = 0.0, now
        return min(expected_s, LEASE_S)

    def block(self, seconds: float) -> None:
        """Nobody may go on before so many seconds have passed."""
        until = self._budgets.clock() + seconds
        self._stopped_until = max(self._stopped_until, until)
        self._budgets.stop(self._key, until)

    def wait_s(self) -> float:
        """Seconds until the line is free, as known within STOP_SEEN_S."""
        self._budgets.uses(self._key)
        clock = self._budgets.clock
        if self._looked_at is None or clock() - self._looked_at >= STOP_SEEN_S:
            with self._turn:
                if self._looked_at is None or clock() - self._looked_at >= STOP_SEEN_S:
                    answer = self._budgets.move(LineAsk(self._key))
                    self._looked_at = clock()
                    if answer is not None:
                        self._learn(answer, clock())
        return max(0.0, self._stopped_until - clock())

    def _learn(self, answer: LineAnswer, now: float) -> None:
        self._looked_at = now
        self._stopped_until = max(self._stopped_until, now + answer.stopped_s)


class Count:
    """A number that all workers add to; what is added here is written down within FLUSH_S. One that is written while
    the database goes away may be written twice: it is only told, never obeyed."""

    def __init__(self, budgets: Budgets, key: str) -> None:
        self._budgets, self._key = budgets, key
        self._lock = threading.Lock()
        self._known = 0
        self.pending = 0
        """Added here and not written yet."""

    def add(self, amount: int) -> None:
        """Add to it."""
        with self._lock:
            self.pending += amount
        self._budgets.wake()

    def total(self) -> int:
        """Of all workers, as last known where the database is away."""
        answer = self._budgets.ask(lambda database: (tables.count_of(database, self._key),))
        if answer is not None:
            self._known = answer[0]
        return self._known + self.pending

    def written(self, amount: int, total: int) -> None:
        """So much of it is in the database now."""
        with self._lock:
            self.pending -= amount
            self._known = total


class Stock:
    """The pulls that a registry announced for who is counted (an address, an account), given out to the workers."""

    def __init__(self, budgets: Budgets, registry: str, source: str) -> None:
        self._budgets, self._registry, self._source = budgets, registry, source
        self._turn = threading.Lock()
        self._held = self._under_way = 0
        self._told: tuple[Told, float] | None = None
        self._known: tuple[StockAnswer, float] | None = None
        self._asked_at = 0.0
        self._alone: int | None = None
        """What is left of this worker's share while the database is away."""

    def take(self) -> float:
        """0: a pull may be sent, and :meth:`done` ends it. Else seconds until there are new ones, at the latest."""
        with self._turn:
            if self._budgets.clock() - self._asked_at > tables.PULLS_KEPT_S / 2:
                self._held = 0  # others get what lay here so long
            if not self._held and not self._budgets.away:
                self._ask(AT_ONCE)
            if self._known is None or self._until() <= self._budgets.clock():
                left = 1  # nothing was announced, or its window is over
            else:
                left = self._held or (self._of_share() if self._budgets.away else 0)
            if not left:
                return max(self._until() - self._budgets.clock(), 0.001)
            self._held = max(0, self._held - 1)
            self._under_way += 1
            return 0.0

    def done(self) -> None:
        """A pull was answered."""
        with self._turn:
            self._under_way -= 1

    def observe(self, told: Told) -> None:
        """Learn from an answer of the registry. Where nothing is left, all workers hear of it at once."""
        with self._turn:
            now = self._budgets.clock()
            if self._told is not None and now - self._told[1] < tables.SAME_TIME_S:  # this one may have been overtaken
                told = told._replace(remaining=min(told.remaining, self._told[0].remaining))
            self._told = told, now
            if not told.remaining:
                self._held = 0
            if not told.remaining or self._known is None:
                self._ask(0)

    def known(self) -> StockAnswer | None:
        """What the registry announced last; None where it never did, or its window is over."""
        with self._turn:
            self._ask(0)
            if self._known is None or self._until() <= self._budgets.clock():
                return None
            answer, at = self._known
            passed_s = self._budgets.clock() - at
            return answer._replace(until_s=answer.until_s - passed_s, told_s=answer.told_s + passed_s)

    def _ask(self, want: int) -> None:
        now = self._budgets.clock()
        told = self._told
        ask = StockAsk(
            self._registry,
            self._source,
            want,
            self._held + self._under_way,
            told[0]._replace(age_s=now - told[1]) if told else None,
        )
        locks = f"{self._registry} {self._source}"
        answer = self._budgets.ask(
            lambda database: (tables.move_stock(database, self._budgets.worker, ask),), locks=locks
        )
        if answer is None:
            return
        self._told = None if self._told is told else self._told
        self._asked_at, self._alone = now, None
        self._known = (answer[0], self._budgets.clock()) if answer[0] else None
        if answer[0]:
            self._held += answer[0].granted

    def _of_share(self) -> int:
        """1 where this worker's share has one left, which is taken."""
        if self._alone is None:
            assert self._known is not None  # noqa: S101 - take() looked
            self._alone = self._known[0].remaining // self._budgets.share()
        if not self._alone:
            return 0
        self._alone -= 1
        return 1

    def _until(self) -> float:
        assert self._known is not None  # noqa: S101 - those who call looked
        return self._known[0].until_s + self._known[1]


__all__ = ["Budgets", "Count", "Line", "Stock"]
