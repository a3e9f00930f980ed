"""Lines that stand in two places: ``make lint`` runs this, and ends with 1 when there are any.

Compared are code lines without their indent; comments, docstrings, imports, heads of functions and lines of brackets
alone do not count. Each window of lines is looked up in one dictionary, so that five hundred files take three seconds:
pylint, which compares every two files with each other, takes minutes for the same.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = 9
"""So many equal lines in a row are one thing written twice; eight happen by chance, in tables and signatures."""


@dataclass(frozen=True)
class Twin:
    """The same lines in two places; line numbers count from 1."""

    first: tuple[str, int]
    second: tuple[str, int]
    lines: int


def code_lines(source: str) -> list[tuple[int, str]]:
    """The lines that count, with their numbers."""
    tree = ast.parse(source)
    passed_over = {number for node in ast.walk(tree) for number in _without_code(node)}
    stripped = [(number, line.strip()) for number, line in enumerate(source.splitlines(), 1)]
    return [(number, text) for number, text in stripped if number not in passed_over and _counts(text)]


def _counts(text: str) -> bool:
    return not text.startswith(("#", "@")) and any(map(str.isalnum, text))


def _without_code(node: ast.AST) -> Iterator[int]:
    match node:
        case ast.Import() | ast.ImportFrom():
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
        case ast.Expr(value=ast.Constant(value=str())):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from range(node.lineno, node.body[0].lineno)


def find_twins(sources: Iterable[tuple[str, str]], lines: int = LINES) -> list[Twin]:
    """Every run of at least so many equal lines in two of the files, or twice in one; each run once. sources: name and
    text."""
    files = {name: code_lines(source) for name, source in sources}
    seen: dict[tuple[str, ...], tuple[str, int]] = {}
    twins: list[Twin] = []
    for name, code in files.items():
        at = 0
        while at + lines <= len(code):
            window = tuple(text for _, text in code[at : at + lines])
            earlier = seen.setdefault(window, (name, at))
            if earlier == (name, at) or (earlier[0] == name and earlier[1] + lines > at):
                at += 1
                continue
            length = _equal(files[earlier[0]][earlier[1] :], code[at:])
            twins.append(Twin((earlier[0], files[earlier[0]][earlier[1]][0]), (name, code[at][0]), length))
            at += length
    return twins


def _equal(first: list[tuple[int, str]], second: list[tuple[int, str]]) -> int:
    return next(
        (at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one[1] != other[1]),
        min(len(first), len(second)),
    )


def main(folders: Iterable[str]) -> int:
    """Print what stands twice in the Python files of some folders; the exit code."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    twins = find_twins((str(path.relative_to(ROOT)), path.read_text()) for path in paths)
    for twin in twins:
        places = " and ".join(f"{name}:{line}" for name, line in (twin.first, twin.second))
        print(f"{twin.lines} lines stand twice: {places}")
    return 1 if twins else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
