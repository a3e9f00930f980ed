"""A process that ends within two seconds of Ctrl-C or TERM, whatever it is doing.

The first signal raises KeyboardInterrupt in the main thread, and the work winds up: pools are left behind
(``threads``), journals are closed, temporary files go. That needs the main thread, which may be held where Python hears
no signal (a look-up of a name, a locked database, a registry that is waited for while something is closed). So another
thread hears it too, and ends the process when the time is over, or at a second signal (the same one twice at once is
one). By then nothing is lost: what is written stands there whole or not at all, and journals are made for a kill.

Every command begins here, ``--help`` too: this loads as little as it can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, TYPE_CHECKING

from registry_pipelines.arrivals import is_ready

if TYPE_CHECKING:
    import subprocess

WIND_UP_S = 1.5
"""From the first signal until the process is ended all the same. With what a busy machine takes, two seconds."""

TOGETHER_S = 0.2
"""Signals within this are one: ``timeout``, and whoever ends a whole group, sends the same twice."""

_SIGNALS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_NUDGE = signal.SIGURG
"""To the main thread: a system may give a signal to any thread, and then the main thread sleeps on in a wait."""
_NOBODY_LISTENS = 0
"""In place of a signal's number: the program is done."""
_STDERR = 2
_SHOW_CURSOR = b"\x1b[?25h"
"""Progress bars hide it."""


class Children:
    """Child processes that run now, each with how it is ended. Safe for many threads."""

    def __init__(self) -> None:
        self._ends: dict[subprocess.Popen[bytes], Callable[[], None]] = {}
        self._lock = threading.Lock()

    def add(self, process: subprocess.Popen[bytes], end: Callable[[], None] | None = None) -> None:
        """From now on it ends with all others. end: how; killed unless told."""
        with self._lock:
            self._ends[process] = end or process.kill

    def discard(self, process: subprocess.Popen[bytes]) -> None:
        """It has ended, or ends by itself."""
        with self._lock:
            self._ends.pop(process, None)

    def end(self) -> None:
        """End all; waits for none."""
        with self._lock:
            ends = list(self._ends.values())
        for end in ends:
            with contextlib.suppress(OSError):
                end()


CHILDREN = Children()
"""Of the whole process."""


class _Watch:
    """Handlers, and the thread that hears the signals also while the main thread does not."""

    def __init__(self, wind_up_s: float) -> None:
        self.caught = 0
        self.announced = self.wanted = False
        self._wind_up_s = wind_up_s
        hear, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self._heard = os.fdopen(hear, "rb", buffering=0)
        self._handlers = {
            number: signal.signal(number, self._interrupt)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # a shell's `&` and nohup mean it
        }
        self._handlers[_NUDGE] = signal.signal(_NUDGE, lambda number, frame: None)
        self._wakeup = signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        self.listen()

    def listen(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """End the thread until :meth:`listen`; the main thread hears signals on."""
        os.write(self._tell, bytes([_NOBODY_LISTENS]))
        self._thread.join()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:  # the second ends the process: it must not tear what winds up
            self.caught = number
            raise KeyboardInterrupt

    def _listen(self) -> None:
        number = _next(self._heard, None)
        if not number:
            return
        signal.pthread_kill(threading.main_thread().ident or 0, _NUDGE)
        first = time.monotonic()
        while (again := _next(self._heard, max(0.0, first + self._wind_up_s - time.monotonic()))) in _SIGNALS:
            if time.monotonic() - first >= TOGETHER_S:
                break
        if again != _NOBODY_LISTENS:
            self.end(number)

    def end(self, number: int) -> None:
        """End the process and its children now."""
        CHILDREN.end()
        with contextlib.suppress(OSError):
            if os.isatty(_STDERR):
                os.write(_STDERR, _SHOW_CURSOR)
            if not (self.announced or self.wanted):
                os.write(_STDERR, f"{word(number)}\n".encode())
        os._exit(0 if self.wanted else 128 + number)

    def restore(self) -> None:
        """The handlers from before; the thread ends."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.pause()
        os.close(self._tell)
        self._heard.close()


def _next(heard: IO[bytes], timeout_s: float | None) -> int | None:
    """The next of our signals, or _NOBODY_LISTENS; None when the time is over."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not is_ready(heard, left):
            return None
        [number] = heard.read(1)
        if number in _SIGNALS or number == _NOBODY_LISTENS:
            return number


def is_interrupt(kind: type[BaseException] | None) -> bool:
    """Whether a block ends because the work is to end at once: KeyboardInterrupt, and whatever else is no Exception, as
    Dagster's interruption of a run."""
    return kind is not None and not issubclass(kind, Exception)


_watch: _Watch | None = None


@contextlib.contextmanager
def prompt_end(wind_up_s: float = WIND_UP_S, *, silent: bool = False) -> Iterator[None]:
    """Around all that a program does, in its main thread. After a signal the process ends here, without the end of the
    interpreter: that would wait for threads, and die of those that write at that moment. Exit code: 128 and the
    signal's number. A signal that was ignored when the program started stays so. silent: whoever started it tells."""
    global _watch
    _watch = watch = _Watch(wind_up_s)
    watch.announced = silent
    try:
        yield
    finally:
        if watch.caught:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            watch.end(watch.caught)
        watch.restore()
        _watch = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Without the thread that hears signals while the context lasts: for what only a process of one thread may do."""
    if _watch:
        _watch.pause()
    try:
        yield
    finally:
        if _watch:
            _watch.listen()


def caught() -> int:
    """The number of the signal that ends this process; 0 when there was none."""
    return _watch.caught if _watch else 0


def mark_wanted() -> None:
    """From now on a signal is how this program ends, with exit code 0: a server's."""
    if _watch:
        _watch.wanted = True


def mark_announced() -> None:
    """Say that the user was told of the interrupt: the end says nothing more."""
    if _watch:
        _watch.announced = True


def word(number: int) -> str:
    """What a signal did, in one word for the user."""
    return _SIGNALS.get(number, "interrupted")
