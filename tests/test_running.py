"""How the tests themselves are run: what CI prints, what load is, what a limit is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import patient
from tests.under_load import busy, main

ROOT = Path(__file__).parents[1]
TWO_FILES = {
    "test_slow.py": "import threading\ndef test_wait(): threading.Event().wait(0.5)\ndef test_not(): pass\n",
    "test_quick.py": "def test_one(): pass\n",
}


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_slowest_files_are_named_with_their_sums(tmp_path: Path, workers: list[str]) -> None:
    for name, text in TWO_FILES.items():
        (tmp_path / name).write_text(text)
    options = ["-p", "tests.slowest_files", "--slowest-files", "1", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *workers, str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=patient(60),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, told = done.stdout.partition("slowest 1 of 2 test files")
    [(seconds, tests, file)] = re.findall(r"([\d.]+) s +(\d+) tests  (\S+)", told)
    assert (file, tests) == ("test_slow.py", "2") and float(seconds) >= 0.5


def test_load_is_processes_that_end_with_the_block() -> None:
    with busy(2) as spinning:
        assert [each.poll() for each in spinning] == [None, None]
    assert [each.returncode for each in spinning] == [-signal.SIGKILL] * 2


def test_load_ends_also_when_who_made_it_is_killed() -> None:
    program = "import sys\nfrom tests.under_load import busy\nwith busy(2) as made:\n"
    program += " print(*(one.pid for one in made), flush=True)\n sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        spinning = [int(pid) for pid in maker.stdout.readline().split()]
        assert all(is_running(pid) for pid in spinning) and len(spinning) == 2
        maker.kill()
    until = time.monotonic() + patient(30)
    while any(is_running(pid) for pid in spinning):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """The dead that nobody waited for do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_failure_under_load_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails = tmp_path / "test_fails.py"
    fails.write_text("def test_it(): assert False\n")
    passes = tmp_path / "test_passes.py"
    passes.write_text("def test_it(): pass\n")
    alone = ["-c", os.devnull, "--rootdir", str(tmp_path)]
    assert main(["--workers", "1", "--rounds", "2", *alone, str(fails), str(passes)]) == 1
    assert re.search(r"^2 of 2: \S*test_fails.py::test_it$", capsys.readouterr().out, re.MULTILINE)
    assert main(["--workers", "1", "--rounds", "1", *alone, str(passes)]) == 0
    assert main(["--workers", "1", "--rounds", "1", *alone, str(tmp_path / "no_such_file.py")]) == 1


@pytest.mark.timeout(77)
def test_a_tests_own_limit_is_one_of_an_idle_machine(request: pytest.FixtureRequest) -> None:
    limit = request.node.get_closest_marker("timeout")
    assert limit is not None and limit.args == (patient(77),)


def test_what_takes_minutes_is_run_on_request(tmp_path: Path) -> None:
    """With the project's own settings: the last ``-m`` counts."""
    (tmp_path / "test_both.py").write_text(
        "import pytest\n@pytest.mark.long\ndef test_long(): pass\ndef test_short(): pass\n"
    )
    counts, quiet = {}, {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    for options in ((), ("-m", "long")):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *options, str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, timeout=patient(60), env=quiet,
        )  # fmt: skip
        counts[options] = re.findall(r"(\d+) (passed|deselected)", done.stdout)
    assert counts == {
        (): [("1", "passed"), ("1", "deselected")],
        ("-m", "long"): [("1", "passed"), ("1", "deselected")],
    }
