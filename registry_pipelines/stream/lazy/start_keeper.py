"""Start what keeps mounts (``keeper``, ``holder``) as a process that outlives this one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from registry_pipelines.errors import LocalError

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from registry_pipelines.stream.lazy.{} import main"
_PACKAGES = Path(__file__).parents[3]
_STDERR = 2


def start_keeper(
    program: Literal["keeper", "holder", "answerer"],
    words: Sequence[str],
    passed: Sequence[int],
    *,
    fault: str,
    tells: bool = False,
) -> int:
    """words: for its ``main``. passed: descriptors that it gets by the same numbers. fault: what is wrong where it does
    not start. tells: whether it may say something to people. Returns its number. Raises LocalError."""
    python = [sys.executable, "-I", "-S", "-c", f"{_START.format(program)}; main(sys.argv[1:])", str(_PACKAGES)]
    try:
        process = subprocess.Popen(
            [*python, *words],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if tells and _may_tell(_STDERR) else subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise LocalError(f"{fault}: {error.strerror}", where=sys.executable) from error
    process.returncode = 0  # it may outlive this process; nothing of this module waits for it
    return process.pid


def _may_tell(descriptor: int) -> bool:
    """Whether a process that stays may write there: to the journal or a file, which wait for nobody's end."""
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        return stat.S_ISSOCK(mode) or stat.S_ISREG(mode)
    return False


__all__ = ["start_keeper"]
