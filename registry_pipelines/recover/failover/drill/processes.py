"""Daemons of a drill: started in folders of their own, ended by their process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.recover.failover.drill.model import PullFailed, Waited
from registry_pipelines.threads import run_child, started_child

ENDING = ("setpriv", "--pdeathsig", "KILL", "--")
"""Becomes the program behind it (util-linux), which ends when the thread that started it does, also by KILL."""
ALONE = (*ENDING, "unshare", "--mount", "--")
"""The same, with mounts that nobody else sees."""
START_S = 60.0
STOP_S = 30.0
ASK_S = 20.0
MAX_SAID = 300
"""Characters of what a client said last."""
_LOOK_EVERY_S = 0.05


@contextmanager
def daemon(command: Sequence[str], log: Path, asked: Sequence[str], env: dict[str, str]) -> Iterator[int]:
    """Start a daemon, wait until the command ``asked`` ends with 0, and end it by TERM afterwards; its process id. It
    has mounts of its own, which are gone with it however it ends: dockerd mounts its data, and leaves that behind.
    Raises LocalError with the end of its log."""
    with log.open("wb") as stream:
        try:
            begun = started_child([*ALONE, *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=env)
            with begun as process:
                try:
                    _await(process, log, asked, env, command[0])
                    yield process.pid
                finally:
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_S)
        except OSError as error:
            raise LocalError(f"it cannot be started: {error.strerror}", where=ALONE[0]) from error


def _await(process: subprocess.Popen[bytes], log: Path, asked: Sequence[str], env: dict[str, str], name: str) -> None:
    deadline = time.monotonic() + START_S
    while not answers(asked, env):
        ended, late = process.poll() is not None, time.monotonic() > deadline
        if ended or late:
            said = last_words(log.read_bytes())
            what = "it ended at its start" if ended else f"it does not answer after {START_S:.0f} s"
            raise LocalError(f"{what}: {said}", where=name)
        time.sleep(_LOOK_EVERY_S)


def until(done: Callable[[], bool], otherwise: str, where: str) -> None:
    """Wait for something that a daemon does soon. Raises LocalError, which says ``otherwise``."""
    deadline = time.monotonic() + ASK_S
    while not done():
        if time.monotonic() > deadline:
            raise LocalError(otherwise, where=where)
        time.sleep(_LOOK_EVERY_S)


def answers(command: Sequence[str], env: dict[str, str] | None = None) -> bool:
    """Whether a short command ends with 0."""
    try:
        return run_child([*ENDING, *command], timeout_s=ASK_S, env=env).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def output(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """What a short command printed; empty where it failed."""
    try:
        done = run_child(command, timeout_s=ASK_S, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def pull(command: Sequence[str], limit_s: float, env: dict[str, str]) -> None:
    """Run a client's command that pulls. Raises Waited, PullFailed."""
    try:
        done = run_child([*ENDING, *command], timeout_s=limit_s, env=env)
    except subprocess.TimeoutExpired as error:
        raise Waited from error
    if done.returncode:
        raise PullFailed(last_words(done.stderr or done.stdout))


def last_words(raw: bytes) -> str:
    """The last line of what a program printed, for an error."""
    lines = [line.strip() for line in raw.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][-MAX_SAID:] if lines else "nothing"


def beside(program: Path) -> dict[str, str]:
    """The environment of a program whose helpers (shims, a containerd) stand beside it."""
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


__all__ = ["answers", "beside", "daemon", "last_words", "output", "pull", "until"]
