"""A program that runs a Dockerfile: ended at the time limit, with this process, and with whatever it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from registry_pipelines.build.dockerfile.engines.protocol import Order
from registry_pipelines.errors import ToolMissing
from registry_pipelines.interrupts import CHILDREN

_STARTED_BY = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2); what is started keeps it
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Has a program be asked to end when this process is gone, also by ``kill -9``: a step would run on, past every time
limit. Linux alone has such a thing."""

WIND_UP_S = 5.0
"""From the polite end of a program to its kill: BuildKit tells its daemon meanwhile that nobody waits any more."""


@contextmanager
def running(
    command: Sequence[str],
    order: Order,
    env: Mapping[str, str],
    *,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, until the block ends; it and all of its group are killed then. At ``order.deadline`` they are asked
    to end, and killed when they do not; also when this process dies. command: its first word is a path. Raises
    ToolMissing when it cannot be started."""
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _STARTED_BY, str(os.getpid()), *command]
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env, start_new_session=True
        )
    except OSError as error:
        raise ToolMissing(f"{command[0]} cannot be started: {error.strerror}") from error
    CHILDREN.add(process, lambda: _signal(process, signal.SIGTERM))
    late = threading.Timer(order.seconds_left(), _end, [process])
    late.daemon = True
    late.start()
    try:
        yield process
    except BaseException:
        _end(process)
        raise
    finally:
        late.cancel()
        _signal(process, signal.SIGKILL)
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()
        process.wait()
        CHILDREN.discard(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely first: a killed client leaves its steps running in the daemon until that notices."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(WIND_UP_S)
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the whole group: the docker command starts its plugin as a process of its own."""
    with suppress(OSError):
        os.killpg(process.pid, number)
