"""docs/ecr-and-artifact-registry.md: each row is shown by a test that is there."""

from __future__ import annotations

from pathlib import Path

from tests.named_tests import NAMED, missing, rows

PAGE = (Path(__file__).parents[1] / "docs" / "ecr-and-artifact-registry.md").read_text()
HEAD = "| question"


def test_every_named_test_is_there() -> None:
    assert len(NAMED.findall(PAGE)) > 50 and missing(PAGE) == []


def test_every_row_says_both_clouds_and_has_a_test() -> None:
    assert len(rows(PAGE, HEAD)) > 25
    assert [row for row in rows(PAGE, HEAD) if len(row) != 4 or not all(row) or not NAMED.search(row[3])] == []
