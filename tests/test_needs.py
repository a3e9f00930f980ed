"""A check that does not run must not look like one that passed."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.needs import live, missing, needed_module

TESTS = Path(__file__).parent
SKIPS = re.compile(r"pytest\.skip\(|importorskip\(|skipif\(|mark\.skip\b|mark\.xfail|pytest\.xfail\(")
MAY_SKIP = {"needs.py": "skips on a user's machine only, and what asks real accounts"}


def test_pytest_passes_over_no_room_of_tests(pytestconfig: pytest.Config) -> None:
    """It has a list of folders that it does not look into; by default `build` is on it."""
    passed_over = pytestconfig.getini("norecursedirs")
    names = {part for file in TESTS.rglob("test_*.py") for part in file.relative_to(TESTS).parts[:-1]}
    assert "build" in names
    assert [name for name in sorted(names) if any(fnmatch(name, pattern) for pattern in passed_over)] == []


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_missing_is_a_failure_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="nothing to stand on"):
        missing("nothing to stand on")
    with pytest.raises(outcome, match="extra `impossible`"):
        needed_module("no_such_module", "impossible")


@pytest.mark.parametrize("ci", ["", "true"])
def test_no_real_account_is_asked_unless_told(ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.delenv("RP_LIVE_TEST", raising=False)
    with pytest.raises(pytest.skip.Exception, match="RP_LIVE_TEST is not set"):
        live("RP_LIVE_TEST")
    monkeypatch.setenv("RP_LIVE_TEST", "there")
    assert live("RP_LIVE_TEST") == "there"


def test_nothing_else_skips() -> None:
    found = {str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py") if SKIPS.search(path.read_text())}
    assert found == MAY_SKIP.keys()
