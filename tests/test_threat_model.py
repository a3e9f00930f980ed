"""docs/threat-model.md names no test that is not there, and no attack without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def functions(path: str) -> set[str]:
    """The tests of a file."""
    tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).is_file() else ast.Module([], [])
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def rows() -> list[list[str]]:
    """The cells of every attack."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| attack")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_named_test_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 60 and PAGE.count("::") == len(named)
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_every_attack_says_what_holds_and_has_a_test() -> None:
    assert len(rows()) > 40
    assert [row for row in rows() if len(row) != 3 or not row[1] or not NAMED.search(row[2])] == []


def test_each_way_around_dagster_is_among_them() -> None:
    listed = {name for path, name in NAMED.findall(PAGE) if path == "tests/dagster_project/test_bypass.py"}
    assert listed == functions("tests/dagster_project/test_bypass.py")
