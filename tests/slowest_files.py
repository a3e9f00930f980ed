"""A pytest plugin: which test files took longest, set-up and tear-down included; works with pytest-xdist too.

The sum of a file is what it costs the job: files are what workers are given.
"""

from __future__ import annotations

from collections import Counter

import pytest


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
