"""Ends what was started when who started it is gone, also by SIGKILL: a process that reads a pipe until it ends.

Each program is the leader of a group of its own, and the group is ended: a worker's processes do not end with it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys

READS = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    number = int(line)
    groups.add(number) if number > 0 else groups.discard(-number)
for each in groups:
    try:
        os.killpg(each, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    """Knows which groups of processes there are, from the time that it is made until it is closed."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", READS]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def began(self, group: int) -> None:
        """This one is to be ended."""
        self._tell(group)

    def ended(self, group: int) -> None:
        """This one is gone; its number may be somebody else's soon."""
        self._tell(-group)

    def close(self) -> None:
        """End what is left of all."""
        self._process.communicate()

    def _tell(self, number: int) -> None:
        told = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # somebody killed the guard
            if told:
                told.write(f"{number}\n")
                told.flush()
