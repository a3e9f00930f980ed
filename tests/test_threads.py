"""Threads for small requests: all work is done, in no more threads than wanted; an interrupt waits for none of it."""

from __future__ import annotations

import threading

import pytest

from registry_pipelines.threads import Pool
from tests.patience import patient

LONG_S = patient(20)


def test_all_work_is_done_in_order_by_no_more_threads_than_wanted() -> None:
    threads = set()

    def act(number: int) -> int:
        threads.add(threading.get_ident())
        return number * 2

    for _ in range(50):
        threads.clear()
        with Pool(3, "test") as pool:
            assert list(pool.map(act, range(100))) == list(range(0, 200, 2))
        assert len(threads) <= 3


def test_work_that_is_left_is_done_before_the_end_and_errors_are_its_own() -> None:
    done: list[int] = []
    with Pool(1, "test") as pool:
        failed = pool.submit(divmod, 1, 0)
        for number in range(20):
            pool.submit(done.append, number)
    assert done == list(range(20))
    with pytest.raises(ZeroDivisionError):
        failed.result()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(divmod, 1, 1)


def test_after_an_error_only_what_has_begun_is_done() -> None:
    began, go = threading.Event(), threading.Event()

    def act() -> bool:
        began.set()
        return go.wait(LONG_S)

    with pytest.raises(LookupError), Pool(1, "test") as pool:
        first, second = pool.submit(act), pool.submit(act)
        assert began.wait(LONG_S)
        second.add_done_callback(lambda _: go.set())
        raise LookupError
    assert first.result(timeout=0)
    assert second.cancelled()


def test_an_interrupt_waits_for_nothing() -> None:
    began, go = threading.Event(), threading.Event()

    def act() -> None:
        began.set()
        go.wait(LONG_S)

    with pytest.raises(KeyboardInterrupt), Pool(1, "test") as pool:
        first = pool.submit(act)
        assert began.wait(LONG_S)
        raise KeyboardInterrupt
    assert not first.done()
    go.set()


def test_a_system_without_more_threads_makes_do_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = threading.Thread.start, list[threading.Thread]()

    def refuse(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Pool(8, "test") as pool:
        assert list(pool.map(abs, range(50))) == list(range(50))
