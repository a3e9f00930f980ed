"""What is said when the journal's database cannot be used; without a server."""

from __future__ import annotations

import sys

import pytest

from registry_pipelines.errors import ToolMissing
from tests.doubles.workers import shared_journal


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "registry_pipelines.shared.server", raising=False)
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        with pytest.raises(ToolMissing, match=r"driver psycopg cannot be loaded.*extra `postgres`") as caught:
            shared_journal(f"{scheme}://rp:s3cret@db.example/journal")
        assert str(caught.value).startswith("shared.database: ")
        assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)
