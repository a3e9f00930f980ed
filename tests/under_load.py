"""Run tests again and again while other processes take the machine's time: no test may depend on its speed.

    python -m tests.under_load [--workers 18] [--rounds 5] [pytest's arguments ...]

Ends with 1 when a test failed in any round, and names it with the number of rounds in which it did.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKERS = 18
ROUNDS = 5
SUBJECTS = ("tests/transfer", "tests/chain", "tests/cli/test_demo.py", "tests/dagster_project/test_demo_jobs.py")
"""What moves bytes between threads, processes and registries; everything else waits for nobody."""

SPIN = "import hashlib, os\nwhile os.getppid() == {parent}: hashlib.sha256(bytes(1 << 20)).digest()"
"""A processor's time, until whoever started it is gone."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@contextmanager
def busy(workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep that many processes computing."""
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN.format(parent=os.getpid())]) for _ in range(workers)]
    try:
        yield spinners
    finally:
        for spinner in spinners:
            spinner.kill()
        for spinner in spinners:
            spinner.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run tests while other processes take the machine's time.")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes that compute (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often (default %(default)s)")
    options, chosen = parser.parse_known_args(arguments)
    command = [sys.executable, "-m", "pytest", "-rfE", *(chosen or SUBJECTS)]
    failures: Counter[str] = Counter()
    unfinished = 0
    with busy(options.workers):
        for turn in range(1, options.rounds + 1):
            started = time.monotonic()
            lines = []
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
                assert running.stdout is not None
                for line in running.stdout:
                    print(line, end="", flush=True)
                    lines.append(line)
            failed = FAILED.findall("".join(lines))
            failures.update(failed)
            unfinished += running.returncode != 0 and not failed
            last = lines[-1].strip() if lines else f"pytest ended with {running.returncode}"
            print(f"round {turn} of {options.rounds}: {last} ({time.monotonic() - started:.0f} s)", flush=True)
    for name, times in failures.most_common():
        print(f"{times} of {options.rounds}: {name}")
    return 1 if failures or unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
