"""Threads that an interrupt does not wait for: those of the standard library are joined at the end of the process, and
one that asks a registry which hangs would keep it for minutes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Pool(Executor):
    """At most ``threads`` at once, each started when there is work for it. A context manager that waits for all of the
    work, after an error for what has begun, and after an interrupt for nothing."""

    def __init__(self, threads: int, name: str) -> None:
        self._most, self._name = threads, name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, act: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> Future[_T]:
        """See Executor."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._work.put((future, partial(act, *args, **named)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                self._start()
        return future

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: those that are there do it
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            future, act = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(act())
                except BaseException as error:
                    future.set_exception(error)
            del work, future, act  # else the last result lives as long as the thread waits
        self._work.put(None)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with contextlib.suppress(queue.Empty):
            return self._work.get_nowait()
        self._idle.release()
        return self._work.get()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor."""
        with self._lock:
            self._closed = True
            while cancel_futures:
                try:
                    work = self._work.get_nowait()
                except queue.Empty:
                    break
                if work is not None:
                    work[0].cancel()
            self._work.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See above."""
        stopped = kind is not None and not issubclass(kind, Exception)
        self.shutdown(not stopped, cancel_futures=kind is not None)
