"""Run tasks that wait for each other on a fixed number of threads; urgent ones first."""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from registry_pipelines.transfer.flow.streams import Load, Streams

MAX_ASIDE = 256
"""Threads beyond the wanted number, in place of those that wait for a registry in trouble. Each holds some tens of KiB;
with more waiting than that the rest waits, too, until the registry is back or given up."""


@dataclass(eq=False)
class Task:
    """Something to run once its predecessors have run, whether they succeeded or not: what they achieved is kept by
    whoever made them. rank: smaller runs first. load: what it shares the way with, and is held back for."""

    run: Callable[[], None]
    rank: tuple[int, int]
    after: Sequence[Task] = field(default_factory=list)
    load: Load | None = None


class Signal(Task):
    """What others wait for and no thread runs: whoever brings it about says so."""

    def __init__(self) -> None:
        super().__init__(_nothing, (0, 0))
        self.listener: Callable[[Task], None] | None = None

    def settle(self) -> None:
        """It is so; once, from any thread."""
        listener, self.listener = self.listener, None
        if listener is not None:
            listener(self)


def _nothing() -> None:
    """What a signal runs."""


class Schedule:
    """A set of tasks without circles. aside: what they put their waits into."""

    def __init__(self, aside: Aside | None = None) -> None:
        self._tasks: list[Task] = []
        self.aside = aside or Aside()

    def add(
        self, run: Callable[[], None], *, rank: tuple[int, int], after: Sequence[Task] = (), load: Load | None = None
    ) -> Task:
        """Add a task; ``after`` are tasks added before."""
        task = Task(run, rank, list(after), load)
        self._tasks.append(task)
        return task

    def signal(self) -> Signal:
        """Add a signal; a task must settle it, whatever happens, or raise."""
        self._tasks.append(signal := Signal())
        return signal

    def run(self, threads: int) -> None:
        """Run all. Errors that a task lets out stop the rest and are raised here; those under way finish first."""
        if self._tasks:
            _Runner(self._tasks, self.aside).run(min(threads, len(self._tasks)))


class Aside:
    """A context for what only waits, maybe for minutes: in a task's thread, another thread works in its place
    meanwhile; in others nothing happens. One object serves all schedules of a run: it knows tasks by their threads."""

    def __init__(self) -> None:
        self._at_work: dict[int, tuple[_Runner, Task]] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The context; one within another changes nothing."""
        here = threading.get_ident()
        work = self._at_work.pop(here, None)
        if work is None:
            yield
            return
        runner, task = work
        runner.step_aside(task)
        try:
            yield
        finally:
            runner.come_back(task)
            self._at_work[here] = work

    @contextmanager
    def known(self, runner: _Runner, task: Task) -> Iterator[None]:
        """While this thread works at a task."""
        here = threading.get_ident()
        self._at_work[here] = runner, task
        try:
            yield
        finally:
            del self._at_work[here]


class _Runner:
    def __init__(self, tasks: Sequence[Task], aside: Aside) -> None:
        self._known = aside.known
        lock = threading.RLock()
        self._change, self._ended = threading.Condition(lock), threading.Condition(lock)
        self._left = len(tasks)
        self._crash: BaseException | None = None
        self._pending = {id(task): len(task.after) for task in tasks}
        self._position = {id(task): at for at, task in enumerate(tasks)}
        self._followers: dict[int, list[Task]] = {}
        self._tasks = tasks
        self._heap: list[tuple[tuple[int, int], int]] = []
        self._streams = Streams(task.load for task in tasks if task.load)
        self._signals = [task for task in tasks if isinstance(task, Signal)]
        self._workers: list[threading.Thread] = []
        self._wanted = self._working = self._waiting = 0
        for task in tasks:
            for before in task.after:
                self._followers.setdefault(id(before), []).append(task)
            if isinstance(task, Signal):
                task.listener = self._done
            elif not task.after:
                self._push(task)

    def run(self, threads: int) -> None:
        self._wanted = threads
        try:
            with self._change:
                for _ in range(threads):
                    self._start_worker()
                self._ended.wait_for(lambda: not self._working)
        except BaseException as error:  # an interrupt: let the threads end after what they do now
            self._stop(error)
            raise
        finally:
            for task in self._signals:  # else a circle keeps all of this
                task.listener = None
        for worker in self._workers:
            worker.join()
        if self._crash is not None:
            raise self._crash

    def _start_worker(self) -> None:
        worker = threading.Thread(target=self._work, name="transfer", daemon=True)
        worker.start()
        self._workers.append(worker)
        self._working += 1

    def step_aside(self, task: Task) -> None:
        with self._change:
            self._waiting += 1
            if task.load:
                self._change.notify(self._admit(self._streams.step_aside(task.load)))
            if self._working - self._waiting < self._wanted and self._working < self._wanted + MAX_ASIDE:
                with contextlib.suppress(RuntimeError):  # the system has no more threads: this place stays empty
                    self._start_worker()

    def come_back(self, task: Task) -> None:
        with self._change:
            self._waiting -= 1
            if task.load:
                self._streams.come_back(task.load)

    def _push(self, task: Task) -> int:
        """Make a task ready; how many more may run by that."""
        entry = (task.rank, self._position[id(task)])
        return self._admit(self._streams.ready(task.load, entry) if task.load else [entry])

    def _admit(self, entries: Sequence[tuple[tuple[int, int], int]]) -> int:
        for entry in entries:
            heapq.heappush(self._heap, entry)
        return len(entries)

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                with self._known(self, task):
                    task.run()
                self._done(task)
        except BaseException as error:
            self._stop(error)
            self._leave()

    def _next(self) -> Task | None:
        with self._change:
            self._change.wait_for(lambda: self._heap or self._left == 0 or self._crash)
            crowded = self._working - self._waiting > self._wanted  # those that this one stood in for are back
            if self._crash or not self._heap or crowded:
                self._leave()
                return None
            return self._tasks[heapq.heappop(self._heap)[1]]

    def _leave(self) -> None:
        """One worker less, under the lock under which it was told to go: else two go where one is too many, and nobody
        is left for the last tasks. What it was woken for is told to another."""
        with self._change:
            self._working -= 1
            self._change.notify()
            self._ended.notify()

    def _done(self, task: Task) -> None:
        with self._change:
            self._left -= 1
            ready = self._admit(self._streams.left(task.load)) if task.load else 0
            for follower in self._followers.get(id(task), ()):
                self._pending[id(follower)] -= 1
                if self._pending[id(follower)] == 0:
                    ready += self._push(follower)
            if self._left:
                self._change.notify(ready)  # whoever is here takes one itself, but others may have come before it
            else:
                self._change.notify_all()

    def _stop(self, error: BaseException) -> None:
        with self._change:
            self._crash = self._crash or error
            self._change.notify_all()
