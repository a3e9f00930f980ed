"""A command on a terminal of its own: what a person types, and what stands on the screen."""

from __future__ import annotations

import os
import pty
from collections.abc import Mapping, Sequence

from registry_pipelines.arrivals import is_ready
from tests.patience import patient

LIMIT_S = patient(60)
"""Ends what waits for an answer that nobody gives."""


def typed(
    command: Sequence[str], answers: Sequence[tuple[str, str]], *, env: Mapping[str, str] | None = None, cwd: str = "."
) -> tuple[int, str]:
    """Exit code and screen of a command that was started on a terminal. answers: what is waited for on the screen, and
    what is typed then."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.execvpe(command[0], list(command), {**os.environ, **(env or {})})
    screen, seen = b"", 0
    waiting = list(answers)
    try:
        while is_ready(terminal, LIMIT_S):
            try:
                read = os.read(terminal, 65536)
            except OSError:  # Linux says so of a terminal that everybody has closed
                read = b""
            if not read:
                break
            screen += read
            while waiting and waiting[0][0].encode() in screen[seen:]:
                text, answer = waiting.pop(0)
                seen = screen.index(text.encode(), seen) + len(text.encode())
                os.write(terminal, answer.encode())
        else:
            os.kill(child, 9)
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert not waiting, screen.decode(errors="replace")
    return os.waitstatus_to_exitcode(status), screen.decode(errors="replace").replace("\r\n", "\n")
