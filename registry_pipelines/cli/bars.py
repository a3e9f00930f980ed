"""Progress bars for people at a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from registry_pipelines.progress import Progress, size_text, waiting_line
from registry_pipelines.tally import Standing, Tally

MAX_TASK_CHARACTERS = 60
"""A task's name on a bar; longer ones lose their middle."""
ALL = "all copies"
"""The bar above those of several groups."""


class TerminalBars:
    """A bar per group of tasks and one for all of them, so that a sync of 200 images fits a screen; a bar for each task
    without a group. A finished one goes."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tally = Tally()
        self._shown: dict[str, TaskID] = {}
        self._single: dict[str, TaskID] = {}

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        """See Progress."""
        with self._lock:
            if group:
                self._tally.begin(task, total_bytes=total_bytes, group=group)
                self._show()
            elif task in self._single:
                self._bars.update(self._single[task], total=total_bytes)
            else:
                self._single[task] = self._bars.add_task(_shortened(task), total=total_bytes)

    def advance(self, task: str, byte_count: int) -> None:
        """See Progress."""
        with self._lock:
            if self._tally.knows(task):
                self._tally.advance(task, byte_count)
                self._show()
            elif task in self._single:
                self._bars.advance(self._single[task], byte_count)

    def end(self, task: str, *, note: str = "") -> None:
        """See Progress."""
        with self._lock:
            if self._tally.knows(task):
                if self._tally.end(task, note=note):
                    self._clear()
                else:
                    self._show()
            elif task in self._single:
                self._bars.remove_task(self._single.pop(task))

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        """See Progress. A line above the bars, which stays."""
        self._bars.console.print(waiting_line(host, reason, left_s), markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        groups = self._tally.groups()
        self._bar(ALL, self._tally.standing(), visible=len(groups) > 1)
        for name, standing in groups.items():
            self._bar(name, standing)

    def _bar(self, name: str, standing: Standing, *, visible: bool = True) -> None:
        if name not in self._shown:
            self._shown[name] = self._bars.add_task("", total=None)
        text = f"{_shortened(name)}  {standing.ended} of {standing.tasks}"
        self._bars.update(
            self._shown[name],
            description=text,
            completed=standing.done_bytes,
            total=standing.total_bytes or None,
            visible=visible,
        )

    def _clear(self) -> None:
        for shown in self._shown.values():
            self._bars.remove_task(shown)
        self._shown.clear()


class _Bytes(DownloadColumn):
    """Nothing for a task that has no bytes, such as a look at a registry."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total or task.completed else Text("")


class _Speed(ProgressColumn):
    """In the units of the other columns; nothing until there is a speed."""

    def render(self, task: Task) -> Text:
        return Text(f"{size_text(round(task.speed))}/s" if task.speed else "")


@contextmanager
def shown_bars() -> Iterator[Progress]:
    """Bars on stderr until the end, where they go."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        _Bytes(binary_units=True),
        _Speed(),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield TerminalBars(bars)


def _shortened(task: str) -> str:
    if len(task) <= MAX_TASK_CHARACTERS:
        return task
    half = MAX_TASK_CHARACTERS // 2 - 1
    return f"{task[:half]}..{task[-half:]}"
