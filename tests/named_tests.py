"""Tests that a page of the documentation names, as ``tests/x/test_y.py::test_z``."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def functions(path: str) -> set[str]:
    """The tests of a file; none where there is no such file."""
    tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).is_file() else ast.Module([], [])
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def missing(page: str) -> list[str]:
    """Named tests that are not there, and names that are not written as above."""
    named = NAMED.findall(page)
    found = [f"{path}::{name}" for path, name in named if name not in functions(path)]
    return found + (["a name that is none"] if page.count("::") != len(named) else [])


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of every row of the page's tables. head: how the first line of each begins."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(head)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
