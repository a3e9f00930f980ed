"""Progress for people, always on stderr: bars on a terminal, one plain line per finished task elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from registry_pipelines.cli.output import size_text
from registry_pipelines.progress import Progress, Silent

MAX_TASK_CHARACTERS = 60
"""A task's name on a bar; longer ones lose their middle."""


class Lines:
    """One line when a task ends: name, bytes, seconds, note. Nothing else, so a log stays short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[float, int]] = {}

    def begin(self, task: str, *, total_bytes: int | None = None) -> None:
        """See Progress."""
        with self._lock:
            self._open.setdefault(task, (time.monotonic(), 0))

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        with self._lock:
            started, done = self._open.get(task, (time.monotonic(), 0))
            self._open[task] = (started, done + byte_count)

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""
        with self._lock:
            started, done = self._open.pop(task, (time.monotonic(), 0))
            facts = [size_text(done)] if done else []
            facts.append(f"{time.monotonic() - started:.1f} s")
            text = ", ".join(facts + ([note] if note else []))
            print(f"{task}: {text}", file=sys.stderr, flush=True)


class TerminalBars:
    """A bar per running task; a finished one goes, so that a copy of 200 blobs fits a screen."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def begin(self, task: str, *, total_bytes: int | None = None) -> None:
        """See Progress."""
        with self._lock:
            if task in self._tasks:
                self._bars.update(self._tasks[task], total=total_bytes)
            else:
                self._tasks[task] = self._bars.add_task(_shortened(task), total=total_bytes)

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        with self._lock:
            if task in self._tasks:
                self._bars.advance(self._tasks[task], byte_count)

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""
        with self._lock:
            known = self._tasks.pop(task, None)
            if known is not None:
                self._bars.remove_task(known)


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """The progress that fits where stderr goes; silent when asked."""
    if quiet:
        yield Silent()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield TerminalBars(bars)


def _shortened(task: str) -> str:
    if len(task) <= MAX_TASK_CHARACTERS:
        return task
    half = MAX_TASK_CHARACTERS // 2 - 1
    return f"{task[:half]}..{task[-half:]}"
