"""Files that take longest begin first, and their tests stay in their order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.slowest_files import pytest_collection_modifyitems, slow_files

ROOT = Path(__file__).parents[1]


def test_slow_files_begin_first() -> None:
    slow = list(slow_files())
    assert len(slow) > 10 and all((ROOT / path).is_file() for path in slow)
    names = ["tests/a.py::one", f"{slow[1]}::two[x::y]", f"{slow[0]}::three", "tests/a.py::four", f"{slow[1]}::five"]
    items = [SimpleNamespace(nodeid=name) for name in names]
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.nodeid.rpartition("::")[2] for item in items] == ["three", "y]", "five", "one", "four"]
