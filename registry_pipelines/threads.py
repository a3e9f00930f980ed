"""Threads and child processes that an interrupt does not wait for.

Threads of the standard library's pools are joined at the end of the process, and one that asks a registry which hangs
would keep it for minutes. A pool here is left behind instead, and what its threads began ends with it: what waits is
cancelled, child processes are killed, nothing new begins, also in pools that its threads opened. Whatever starts a
thread or a process does it through this module, or leaves none behind by itself.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from types import TracebackType
from typing import IO, Any, ParamSpec, TypeVar

from registry_pipelines.interrupts import CHILDREN, Children, is_interrupt

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run_child(
    command: Sequence[str],
    *,
    timeout_s: float,
    input: bytes | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, its errors kept, and its output unless ``stdout`` is a file. It is killed when this is
    interrupted, or the pool whose thread runs it. input: what it reads; stdin: a file instead.

    Raises OSError when it cannot be started, subprocess.TimeoutExpired, CancelledError in a pool that was stopped.
    """
    source: Any = subprocess.PIPE if input is not None else stdin
    with started_child(command, stdin=source, stdout=stdout, stderr=subprocess.PIPE, env=env) as process:
        output, errors = process.communicate(input, timeout=timeout_s)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextlib.contextmanager
def started_child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the block ends, then it is killed. options: Popen's. It is killed before when the pool
    whose thread started it is stopped. Raises OSError, CancelledError in a pool that was stopped."""
    pool = _pool_here()
    process = subprocess.Popen(list(command), **options)
    CHILDREN.add(process)
    try:
        if pool is not None:
            pool._adopt(process)
        yield process
    finally:
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(OSError):
                pipe.close()
        process.wait()
        CHILDREN.discard(process)
        if pool is not None:
            pool._children.discard(process)


@contextlib.contextmanager
def repeated(act: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call ``act`` again and again while the block goes on, in a thread of its own."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            act()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Worker(threading.Thread):
    """A thread of a pool; what it begins belongs to the pool."""

    def __init__(self, pool: Pool, name: str) -> None:
        super().__init__(target=pool._serve, name=name, daemon=True)
        self.pool = pool


def _pool_here() -> Pool | None:
    thread = threading.current_thread()
    return thread.pool if isinstance(thread, _Worker) else None


class Pool(Executor):
    """At most ``threads`` at once, each started when there is work for it. A context manager that waits for all of the
    work, after an error for what has begun, and after an interrupt for nothing: that stops it."""

    def __init__(self, threads: int, name: str) -> None:
        self._most, self._name = threads, name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = self._stopped = False
        self._children = Children()
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        if (above := _pool_here()) is not None:
            above._adopt_pool(self)

    def submit(self, act: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> Future[_T]:
        """See Executor. Raises CancelledError when the pool was stopped."""
        future: Future[_T] = Future()
        with self._lock:
            if self._stopped:
                raise CancelledError
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._work.put((future, partial(act, *args, **named)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                self._start()
        return future

    def _start(self) -> None:
        thread = _Worker(self, f"{self._name}_{len(self._threads)}")
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

    def stop(self) -> None:
        """Leave the threads behind: what waits is cancelled, their child processes are killed, and they begin nothing
        more. Waits for nothing."""
        with self._lock:
            self._stopped = True
            below = list(self._pools)
        self._children.end()
        for pool in below:
            pool.stop()
        self.shutdown(wait=False, cancel_futures=True)

    def _adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Raises CancelledError when the pool was stopped."""
        with self._lock:
            if self._stopped:
                raise CancelledError
            self._children.add(process)

    def _adopt_pool(self, pool: Pool) -> None:
        with self._lock:
            pool._stopped = self._stopped
            self._pools.add(pool)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See above."""
        if is_interrupt(kind):
            self.stop()
        else:
            self.shutdown(cancel_futures=kind is not None)
