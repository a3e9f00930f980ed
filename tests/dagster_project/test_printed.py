"""What steps print is kept and printed, without processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dagster_project.printed import PrintedFiles

PRINTS = """
import os, subprocess, sys
from dagster_project.printed import PrintedFiles

kept = PrintedFiles(base_dir=sys.argv[1])
before = os.listdir("/proc/self/fd")
print("before", flush=True)
with kept.capture_logs(["run", "compute_logs", "step"]):
    print("by python", flush=True)
    subprocess.run(["echo", "by a child"], check=True)
    sys.stderr.write("an error\\n")
    goes_on = subprocess.Popen(["sleep", "600"])
print("after")
goes_on.kill(), goes_on.wait()
assert os.listdir("/proc/self/fd") == before, "descriptors are left open"
"""
KEY = ["run", "compute_logs", "step"]


def test_what_a_step_and_its_children_print_is_kept_and_printed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PRINTS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines() == ["before", "by python", "by a child", "after"]
    assert done.stderr == "an error\n"
    kept = PrintedFiles(base_dir=str(tmp_path))
    found = kept.get_log_data(KEY)
    assert found.stdout == b"by python\nby a child\n"
    assert found.stderr == b"an error\n"
    assert kept.is_capture_complete(KEY)


def test_a_disk_that_is_full_costs_what_is_kept_and_not_the_run() -> None:
    """/dev/full takes nothing."""
    prints = """
import sys
from pathlib import Path
from dagster_project.printed import copied

with copied(sys.stdout, Path("/dev/full")):
    print("printed")
"""
    done = subprocess.run([sys.executable, "-c", prints], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "printed\n"), done.stderr
