"""``dev`` is quiet: what Dagster says is in a file, its errors and ours are on the terminal."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from registry_pipelines.cli.serving import LogFile, run_group

CHATTY = """
import sys
for text in ("INFO - Serving dagster-webserver", "ERROR - Sensor push_source failed", "WARNING - slow"):
    print("2026-11-28 17:00:00 +0000 - dagster.daemon -", text, file=sys.stderr, flush=True)
print("no line end", end="")
sys.exit(3)
"""


def test_errors_are_shown_and_the_rest_is_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dev.log").write_text("of the last time\n")
    log = LogFile(tmp_path / "dev.log")
    assert run_group([sys.executable, "-c", CHATTY], os.environ, threading.Event(), log=log) == 3
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.splitlines() == [
        "2026-11-28 17:00:00 +0000 - dagster.daemon - ERROR - Sensor push_source failed"
    ]
    assert "INFO - Serving" in log.path.read_text() and "of the last time" not in log.path.read_text()
    assert (tmp_path / "dev.log.1").read_text() == "of the last time\n"
    assert [line.strip() for line in log.last_lines()][-1] == "no line end"


DENYING = r"""
import sys
head = "2026-11-28 17:00:00 +0000 - dagster - {} - release - 4db3 -"
print(head.format("ERROR"), 'promotion - STEP_FAILURE - Execution of step "promotion" failed.', file=sys.stderr)
print("\n" "denied: reg/app@sha256:12: app may not be promoted\n  - CRITICAL 9.8: badwheel", file=sys.stderr)
print(head.format("ERROR"), "replica__eu - Dependencies for step replica__eu failed: ['promotion'].", file=sys.stderr)
print(head.format("DEBUG"), "a text\nof two lines", file=sys.stderr)
print(head.format("ERROR"), 'RUN_FAILURE - Execution of run for "release" failed. Steps failed: [].', file=sys.stderr)
print("\n" "denied: reg/app@sha256:12: app may not be promoted\n  - CRITICAL 9.8: badwheel", file=sys.stderr)
"""


def test_a_denial_is_shown_once_with_its_reasons(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile(tmp_path / "dev.log")
    assert run_group([sys.executable, "-c", DENYING], os.environ, threading.Event(), log=log) == 0
    first, *reasons = capfd.readouterr().err.splitlines()
    assert "STEP_FAILURE" in first
    assert reasons == ["denied: reg/app@sha256:12: app may not be promoted", "  - CRITICAL 9.8: badwheel"]


COLOURED = r"""
head = "\x1b[32m2026-11-30 00:53:30 +0000\x1b[0m - dagster.{} - \x1b[34m{}\x1b[0m - {}"
print(head.format("code_server", "ERROR", "\x1b[31mDuplicate asset key"))
print("\nStack Trace:\n  [11 dagster system frames hidden]\n\x1b[0m")
print(head.format("daemon", "INFO", "Instance is configured"))
"""
"""As dagster 1.13.27 wrote it into a file when a code location could not be loaded."""


def test_a_code_location_that_cannot_be_loaded_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile(tmp_path / "dev.log")
    assert run_group([sys.executable, "-c", COLOURED], os.environ, threading.Event(), log=log) == 0
    assert capfd.readouterr().err.splitlines() == [
        "2026-11-30 00:53:30 +0000 - dagster.code_server - ERROR - Duplicate asset key",
        "Stack Trace:",
        "  [11 dagster system frames hidden]",
    ]


def test_verbose_shows_all(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_group([sys.executable, "-c", CHATTY], os.environ, threading.Event()) == 3
    shown = capfd.readouterr()
    assert "INFO - Serving" in shown.err and "no line end" in shown.out
