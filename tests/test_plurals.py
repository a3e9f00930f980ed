"""Nothing is counted as ``1 releases``: whatever stands behind a number comes from ``count_text``."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.progress import count_text

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ("registry_pipelines", "dagster_project") for path in (ROOT / room).rglob("*.py"))

COUNTED = r"""
    advisory|attempt|attestation|blob|change|check|component|condition|connection|copy|day|diff_id|difference|digest|
    entry|event|exception|file|finding|field|folder|header|host|hour|image|input|key|label|layer|line|manifest|message|
    minute|note|package|page|part|place|platform|policy|problem|reason|receipt|record|referrer|registry|release|
    repository|request|retry|round|row|run|signature|stage|statement|subject|tag|target|task|test|time|tool|tree|try|
    unknown|upload|upstream|user|value|verdict|version|warning|week|wheel|word|year
"""
"""Things that are counted somewhere. Bytes are a unit and always many; limits are constants and never 1."""

ONE = [word for word in re.sub(r"\s", "", COUNTED).split("|") if word]
MANY = "|".join(word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s" for word in ONE)
BEHIND_A_NUMBER = re.compile(rf" (?:[a-z]+ )?(?:{MANY})\b")
NEVER_ONE = re.compile(r"(?:MAX|MOST|LEAST)_|\bmax_|\b[A-Z][A-Z_]+\b$|^(program|name)$")


def counted_by_hand(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each f-string that puts a plural behind a value."""
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, text in itertools.pairwise(parts):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                expression = ast.unparse(value.value)
                by_hand = not NEVER_ONE.search(expression) and not re.search(r"(count|size)_text\(", expression)
                if by_hand and BEHIND_A_NUMBER.match(str(text.value)):
                    yield node.lineno, ast.unparse(node)
        for value in parts:
            if isinstance(value, ast.FormattedValue) and ast.unparse(value.value).startswith(("'s' if ", "'y' if ")):
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_is_singular(number: int) -> None:
    assert count_text(number, "release") == f"{number} release{'' if number == 1 else 's'}"
    assert count_text(number, "copy", "copies") == f"{number} cop{'y' if number == 1 else 'ies'}"


def test_everything_that_is_counted_is_counted_in_one_way() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": text for path in SOURCES for line, text in counted_by_hand(path.read_text())
    }
    assert found == {}, "use count_text"


def test_the_test_finds_what_it_is_for() -> None:
    source = 'say(f"{len(left)} releases left", f"{total} open copies", f"at most {MAX_TAGS} tags", f"{name} lists it")'
    assert len(list(counted_by_hand(source))) == 2
