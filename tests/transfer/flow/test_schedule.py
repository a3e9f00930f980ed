"""Threads that wait for work: no task is lost, whoever is woken, steps aside or leaves."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from registry_pipelines.transfer.flow.schedule import Schedule, Signal, Task
from tests.patience import patient

ROUNDS = 400
LONG_S = patient(20)
"""Nothing here takes so long, unless nobody does it."""


@pytest.fixture
def _busy() -> Iterator[None]:
    """Threads take turns at every chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_what_a_signal_sets_free_runs_while_who_gave_it_still_works() -> None:
    schedule = Schedule()
    signal, ran, seen = schedule.signal(), threading.Event(), []
    idle = [threading.Event() for _ in range(3)]

    def brings() -> None:
        for each in idle:
            each.wait(LONG_S)
        time.sleep(0.05)  # the threads that did those wait for work now; the test means the same without
        signal.settle()
        seen.append(ran.wait(LONG_S))

    schedule.add(brings, rank=(0, 0))
    for each in idle:
        schedule.add(each.set, rank=(1, 0))
    schedule.add(ran.set, rank=(1, 0), after=[signal])
    schedule.run(4)

    assert seen == [True]


@pytest.mark.usefixtures("_busy")
def test_every_task_runs_also_where_many_step_aside_and_come_back() -> None:
    for seed in range(ROUNDS):
        tasks, ran = _random_run(random.Random(seed))
        assert ran == tasks, f"seed {seed}"


def _random_run(choose: random.Random) -> tuple[set[int], set[int]]:
    """The tasks of a run, and those that ran."""
    schedule, before, ran = Schedule(), list[Task](), set[int]()
    count = choose.randrange(1, 25)

    def act(number: int, signals: list[Signal], *, waits: bool) -> None:
        for signal in signals:
            signal.settle()
        if waits:
            with schedule.aside():
                time.sleep(0.0)
        ran.add(number)

    for number in range(count):
        after = choose.sample(before, min(len(before), choose.randrange(4)))
        signals = [schedule.signal() for _ in range(choose.randrange(3))]
        waits = choose.random() < 0.5

        def run(number: int = number, signals: list[Signal] = signals, waits: bool = waits) -> None:
            act(number, signals, waits=waits)

        before += [schedule.add(run, rank=(choose.randrange(3), 0), after=after), *signals]
    runner = threading.Thread(target=schedule.run, args=(choose.randrange(1, 5),), daemon=True)
    runner.start()
    runner.join(LONG_S)
    assert not runner.is_alive()
    return set(range(count)), ran


def test_a_system_without_more_threads_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, ran = Schedule(), []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("can't start new thread")
        start(thread)

    def waits() -> None:
        with schedule.aside():
            ran.append("aside")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    schedule.add(waits, rank=(0, 0))
    schedule.add(lambda: ran.append("next"), rank=(1, 0))
    schedule.run(1)

    assert ran == ["aside", "next"]
