"""The search for lines that stand twice finds them, and what does not count is no twin."""

import pytest

from tests import twins

BODY = "\n".join(f"    value_{number} = compute(value_{number - 1})" for number in range(1, 11))


def _file(head: str, body: str = BODY) -> str:
    return f'"""A module."""\n\nimport os\n\n\n{head}\n{body}\n'


def test_equal_lines_of_two_functions_are_found_with_their_places() -> None:
    found = twins.find_twins([("a.py", _file("def first():")), ("b.py", "x = 1\n" + _file("def other(one):"))])
    assert found == [twins.Twin(("a.py", 7), ("b.py", 8), 10)]


def test_equal_lines_within_one_file_are_found() -> None:
    text = _file("def first():") + f"def second():\n{BODY}\n"
    assert [(twin.first, twin.second) for twin in twins.find_twins([("a.py", text)])] == [(("a.py", 7), ("a.py", 18))]


@pytest.mark.parametrize(
    "added",
    [["    # why"], ['    """What it is for."""'], [""], ["    (", "    )"]],
    ids=["comment", "docstring", "blank", "brackets"],
)
def test_lines_that_do_not_count_hide_no_twin(added: list[str]) -> None:
    lines = BODY.splitlines()
    other = "\n".join([*lines[:5], *added, *lines[5:]])
    assert twins.find_twins([("a.py", _file("def first():")), ("b.py", _file("def second():", other))])


def test_one_line_less_is_chance() -> None:
    short = "\n".join(BODY.splitlines()[: twins.LINES - 1])
    assert not twins.find_twins([("a.py", _file("def first():", short)), ("b.py", _file("def second():", short))])


def test_imports_and_heads_of_functions_are_no_twins() -> None:
    head = "def first(\n" + "\n".join(f"    name_{number}: int," for number in range(12)) + "\n) -> None:"
    text = "from package import (\n" + "\n".join(f"    name_{number}," for number in range(12)) + "\n)\n\n\n" + head
    assert not twins.find_twins([(name, f"{text}\n    {name}\n") for name in ("one", "two")])
