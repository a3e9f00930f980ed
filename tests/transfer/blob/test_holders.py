"""Which repository has a blob: kept for as long as copies meet the blob, in a folder and on Postgres."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.transfer.blob import holders
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.sinks import JOURNAL_FILE
from tests.doubles.workers import shared_journal
from tests.needs import needed_module

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted

DAY_S = 86400.0
BASE, LAYER, GONE = (Digest.of(name) for name in (b"base", b"layer", b"gone"))

Change = Callable[[str], None]


@pytest.fixture(params=["folder", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], Journal], Change]:
    """Opens its journal, and changes its rows."""
    if request.param == "folder":

        def change(statement: str) -> None:
            with contextlib.closing(sqlite3.connect(tmp_path / JOURNAL_FILE)) as connection, connection:
                assert connection.execute(statement).rowcount

        return lambda: Journal.at(tmp_path), change
    url = request.getfixturevalue("postgres_url")

    def change_there(statement: str) -> None:
        with needed_module("psycopg", "postgres").connect(url) as connection:
            assert connection.execute(statement).rowcount

    return lambda: shared_journal(url), change_there


def known(journal: Journal, target: Counted) -> set[Digest]:
    return set(journal.holders(target.address, [BASE, LAYER, GONE]))


def test_what_no_copy_meets_for_long_goes_and_what_one_meets_stays(
    database: tuple[Callable[[], Journal], Change], target: Counted
) -> None:
    opened, change = database
    first = opened()
    first.hold(target.place("app"), [BASE, LAYER, GONE])
    first.close()
    change(f"UPDATE holders SET noted_at = noted_at - {holders.RENEWED_S + DAY_S}")
    again = opened()
    again.hold(target.place("other"), [BASE])
    assert again.holders(target.address, [BASE]) == {BASE: "other"}
    again.close()
    change(f"UPDATE holders SET noted_at = noted_at - {holders.KEPT_S - holders.RENEWED_S}")
    last = opened()
    assert last.abandoned([]) == []
    assert known(last, target) == {BASE}
    last.close()


def test_a_sweep_takes_away_a_part_and_leaves_the_rest_for_the_next(
    database: tuple[Callable[[], Journal], Change], target: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, change = database
    monkeypatch.setattr(holders, "MAX_SWEPT", 2)
    first = opened()
    first.hold(target.place("app"), [BASE, LAYER, GONE])
    first.close()
    change(f"UPDATE holders SET noted_at = noted_at - {holders.KEPT_S + DAY_S}")
    for left in (1, 0):
        journal = opened()
        journal.abandoned([])
        assert len(known(journal, target)) == left
        journal.close()


def test_what_a_build_without_times_writes_is_taken_over(
    database: tuple[Callable[[], Journal], Change], target: Counted
) -> None:
    opened, change = database
    opened().close()
    for digest in (BASE, LAYER):
        change(f"INSERT INTO holdings (registry, digest, repository) VALUES ('{target.address}', '{digest}', 'old')")
    journal = opened()
    assert journal.holders(target.address, [BASE, LAYER, GONE]) == dict.fromkeys([BASE, LAYER], "old")
    journal.close()
    change(f"UPDATE holders SET noted_at = noted_at - {DAY_S} WHERE repository = 'old'")
