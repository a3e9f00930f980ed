"""docs/threat-model.md names no test that is not there, and no attack without one."""

from __future__ import annotations

from pathlib import Path

from tests.named_tests import NAMED, functions, missing, rows

PAGE = (Path(__file__).parents[1] / "docs" / "threat-model.md").read_text()
HEAD = "| attack"


def test_every_named_test_is_there() -> None:
    assert len(NAMED.findall(PAGE)) > 60 and missing(PAGE) == []


def test_every_attack_says_what_holds_and_has_a_test() -> None:
    assert len(rows(PAGE, HEAD)) > 40
    assert [row for row in rows(PAGE, HEAD) if len(row) != 3 or not row[1] or not NAMED.search(row[2])] == []


def test_each_way_around_dagster_is_among_them() -> None:
    listed = {name for path, name in NAMED.findall(PAGE) if path == "tests/dagster_project/test_bypass.py"}
    assert listed == functions("tests/dagster_project/test_bypass.py")
