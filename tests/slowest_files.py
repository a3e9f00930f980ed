"""A pytest plugin: which test files took longest, set-up and tear-down included, and those that did begin first; works
with pytest-xdist too.

The sum of a file is what it costs the job: files are what workers are given. A worker that is given a file of a minute
last works while the others have nothing to do; so the files of ``SLOW`` begin first, the slowest of all at the head.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

SLOW = Path(__file__).parent / "data" / "slow_files.txt"
"""Seconds and file, as ``--slowest-files`` says them. Any order is right, this one is only faster: what is missing
there begins later."""


def slow_files() -> dict[str, float]:
    """Seconds of each slow file, by its path below the top folder."""
    lines = [line.split() for line in SLOW.read_text().splitlines()]
    return {path: float(seconds) for seconds, path in lines}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file stay in their order."""
    slow = slow_files()
    items.sort(key=lambda item: -slow.get(item.nodeid.partition("::")[0], 0))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slowest-files", type=int, default=0, metavar="N", help="name the N slowest test files")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    # Passed set-ups and tear-downs are kept under the category "".
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                seconds[file] += report.duration
                tests[file] += report.when == "call"
    count: int = config.getoption("slowest_files")
    if not count:
        return
    shown = seconds.most_common(count)
    terminalreporter.section(f"slowest {len(shown)} of {len(seconds)} test files, {seconds.total():.0f} s in all")
    for file, duration in shown:
        terminalreporter.write_line(f"{duration:8.1f} s {tests[file]:5} tests  {file}")
