"""The two clocks of a start, from outside: a command is spawned, its first output is STARTED, its answer is RESULT."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from registry_pipelines.errors import LocalError
from registry_pipelines.interrupts import CHILDREN

LAST_BYTES = 4000
"""Of what a command printed, kept for a message."""
END_S = 20.0
"""How long a program whose answer is there gets to end: what it started has to be cleaned up."""
_COPY_BYTES = 1 << 16


@dataclass(frozen=True)
class Clocks:
    """Seconds since the command was spawned: STARTED and RESULT. said: the last line on its stdout."""

    started_s: float
    result_s: float
    said: str


class Failed(LocalError):
    """A command that did not come to an answer."""


def time_command(
    command: Sequence[str],
    *,
    until: str = "",
    timeout_s: float = 600.0,
    environment: Mapping[str, str] | None = None,
    since: float | None = None,
) -> Clocks:
    """Run a command and read its stdout. until: RESULT is the line that has this text, and the command is ended then;
    else its end. since: a ``time.monotonic()`` that the clocks begin at, unless told now.

    Raises Failed: it ended with another code than 0, printed nothing, or was not done in time.
    """
    begin = time.monotonic() if since is None else since
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    CHILDREN.add(process, lambda: os.killpg(process.pid, signal.SIGKILL))
    try:
        return _watch(process, begin, until, time.monotonic() + timeout_s)
    finally:
        _end(process)
        CHILDREN.discard(process)


def _watch(process: subprocess.Popen[bytes], begin: float, until: str, deadline: float) -> Clocks:
    assert process.stdout and process.stderr  # noqa: S101 - both are piped
    started, said, errors = 0.0, b"", b""
    with selectors.DefaultSelector() as waiting:
        for stream in (process.stdout, process.stderr):
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(deadline - time.monotonic(), 0))
            now = time.monotonic() - begin
            if not ready:
                raise Failed(f"it gave no answer in time: {_last(errors or said)}")
            for key, _ in ready:
                piece = os.read(key.fd, _COPY_BYTES)
                if not piece:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    errors = (errors + piece)[-LAST_BYTES:]
                else:
                    started = started or now
                    said = (said + piece)[-LAST_BYTES - len(piece) :]
                    if until and until.encode() in said:
                        return Clocks(started, now, _last(said))
    code = process.wait()
    if code or not started or until:
        what = f"ended with code {code}" if code else "printed nothing" if not started else f"never printed {until!r}"
        raise Failed(f"it {what}: {_last(errors or said, lines=3)}")
    return Clocks(started, time.monotonic() - begin, _last(said))


def _last(said: bytes, *, lines: int = 1) -> str:
    return " / ".join(said.decode(errors="replace").strip().splitlines()[-lines:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """With a word first, so that what it mounted or started goes; then its whole group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
