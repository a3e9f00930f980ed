"""Who starts a cluster may be killed; what it started ends, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy.cluster.machines import until
from tests.patience import patient

TOP = Path(__file__).parents[2]
STARTS = """
import sys, time
from pathlib import Path
from deploy.cluster.guard import Guard
from deploy.cluster.machines import Process

guard, shell = Guard(), "sleep 600 & echo $! > child; trap '' TERM; wait"
kept = [Process(name, ["sh", "-c", shell], Path(sys.argv[1], name), {"PATH": "/usr/bin:/bin"}, guard=guard)
        for name in ("one", "other")]
for each in kept:
    each.start()
print("started", flush=True)
time.sleep(600)
"""


def runs(pid: int) -> bool:
    """Whether a process is there and is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_when_who_started_them_is_killed_all_groups_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path)]
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout and starter.stdout.readline() == "started\n"
        files = [tmp_path / name / "child" for name in ("one", "other")]
        until(
            "both have children", lambda: all(each.exists() and each.read_text() for each in files), seconds=patient(10)
        )
        children = [int(each.read_text()) for each in files]
        groups = [os.getpgid(child) for child in children]
        assert all(map(runs, children + groups))
        starter.kill()
    until("all have ended", lambda: not any(map(runs, children + groups)), seconds=patient(10))
