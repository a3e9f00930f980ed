"""Run tasks that wait for each other on a fixed number of threads; urgent ones first."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Task:
    """Something to run once its predecessors have run, whether they succeeded or not: what they achieved is kept by
    whoever made them. rank: smaller runs first."""

    run: Callable[[], None]
    rank: tuple[int, int]
    after: Sequence[Task] = field(default_factory=list)


class Schedule:
    """A set of tasks without circles."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def add(self, run: Callable[[], None], *, rank: tuple[int, int], after: Sequence[Task] = ()) -> Task:
        """Add a task; ``after`` are tasks added before."""
        task = Task(run, rank, list(after))
        self._tasks.append(task)
        return task

    def run(self, threads: int) -> None:
        """Run all. Errors that a task lets out stop the rest and are raised here; those under way finish first."""
        if self._tasks:
            _Runner(self._tasks).run(min(threads, len(self._tasks)))


class _Runner:
    def __init__(self, tasks: Sequence[Task]) -> None:
        self._change = threading.Condition()
        self._left = len(tasks)
        self._crash: BaseException | None = None
        self._pending = {id(task): len(task.after) for task in tasks}
        self._position = {id(task): at for at, task in enumerate(tasks)}
        self._followers: dict[int, list[Task]] = {}
        self._heap: list[tuple[tuple[int, int], int, Task]] = []
        for task in tasks:
            for before in task.after:
                self._followers.setdefault(id(before), []).append(task)
            if not task.after:
                self._push(task)

    def run(self, threads: int) -> None:
        workers = [threading.Thread(target=self._work, name="transfer", daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException as error:  # an interrupt: let the threads end after what they do now
            self._stop(error)
            raise
        if self._crash is not None:
            raise self._crash

    def _push(self, task: Task) -> None:
        heapq.heappush(self._heap, (task.rank, self._position[id(task)], task))

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task.run()
            except BaseException as error:
                self._stop(error)
                return
            self._done(task)

    def _next(self) -> Task | None:
        with self._change:
            self._change.wait_for(lambda: self._heap or self._left == 0 or self._crash)
            if self._crash or not self._heap:
                return None
            return heapq.heappop(self._heap)[2]

    def _done(self, task: Task) -> None:
        with self._change:
            self._left -= 1
            ready = 0
            for follower in self._followers.get(id(task), ()):
                self._pending[id(follower)] -= 1
                if self._pending[id(follower)] == 0:
                    self._push(follower)
                    ready += 1
            if self._left:
                self._change.notify(ready)  # whoever is here takes one itself, but others may have come before it
            else:
                self._change.notify_all()

    def _stop(self, error: BaseException) -> None:
        with self._change:
            self._crash = self._crash or error
            self._change.notify_all()
