"""Events on disk: each once, in the order of time, however they come; and counted without being whole in memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.report.audit import store as module
from registry_pipelines.report.audit.counts import count_rows, counted
from registry_pipelines.report.audit.model import Event
from registry_pipelines.report.audit.store import AuditStore, only
from registry_pipelines.shared.documents import FolderDocuments

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def event(number: int, *, at: timedelta = timedelta(), who: str = "ci", action: str = "push") -> Event:
    return Event(
        time=NOON + at, who=who, action=action, registry="us", repository=f"team/app{number % 3}",  # type: ignore[arg-type]
        digest=f"sha256:{number % 5:064x}", source="own", id=f"id-{number}",
    )  # fmt: skip


@settings(max_examples=15)
@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), max_size=30), max_size=5), st.data())
def test_whatever_the_order_and_however_often_the_files_are_the_same(
    runs: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GATHERED", 7)
        patch.setattr(module, "GROUP", 4)
        patch.setattr(module, "MOST_PIECES", 2)
        store, all_events = AuditStore(FolderDocuments(Path(folder) / "one")), set[Event]()
        for run in runs:
            events = [event(number, at=timedelta(hours=9 * hours)) for number, hours in run]
            came, new = store.add(data.draw(st.permutations(events)))
            assert (came, new) == (len(events), len(set(events) - all_events))
            all_events |= set(events)
        kept = list(store.events())
        assert kept == sorted(all_events, key=lambda each: (each.time, each.id))
        assert {day.isoformat() for day in store.days()} == {each.time.date().isoformat() for each in kept}
        other = AuditStore(FolderDocuments(Path(folder) / "other"))
        other.add([*kept, *kept])
        assert list(other.events()) == kept
        since = NOON + timedelta(hours=18)
        assert list(store.events(since=since)) == [each for each in kept if each.time >= since]
        digest = f"sha256:{2:064x}"
        assert list(store.events(where=only((digest,), "digest"))) == [each for each in kept if each.digest == digest]


def test_pandas_reads_the_files_without_us(tmp_path: Path) -> None:
    store = AuditStore(FolderDocuments(tmp_path))
    store.add(event(number, at=timedelta(hours=number)) for number in range(30))
    alone = pd.concat(pd.read_parquet(each) for each in sorted((tmp_path / "days").iterdir()))
    assert (
        list(alone["id"]) == [f"id-{number}" for number in range(30)]
        and str(alone["time"].dtype) == "datetime64[us, UTC]"
    )
    assert list(store.frame()["id"]) == list(alone["id"])
    assert [each.name for each in sorted((tmp_path / "days").iterdir())] == ["2026-11-20.parquet", "2026-11-21.parquet"]
    assert store.forget(date(2026, 11, 21)) == [date(2026, 11, 20)] and len(store.days()) == 1


def test_what_raises_while_events_come_keeps_those_before(tmp_path: Path) -> None:
    store = AuditStore(FolderDocuments(tmp_path))

    def broken():  # type: ignore[no-untyped-def]
        yield event(1)
        raise InputError("the log broke")

    with pytest.raises(InputError):
        store.add(broken())
    assert [each.id for each in store.events()] == ["id-1"] and not list(tmp_path.glob(".pieces*"))


def test_a_damaged_day_is_said_and_never_written_over(tmp_path: Path) -> None:
    store = AuditStore(FolderDocuments(tmp_path))
    store.add([event(1)])
    path = tmp_path / "days" / "2026-11-20.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        list(store.events())
    with pytest.raises(InputError, match="damaged"):
        store.add([event(2)])
    assert path.stat().st_size == 200
    pq.write_table(pq.read_table(_another(tmp_path)), path)
    with pytest.raises(InputError, match="not a file of events"):
        list(store.events())


def _another(folder: Path) -> Path:
    path = folder / "other.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(path)
    return path


def test_counts_are_those_of_pandas(tmp_path: Path) -> None:
    store = AuditStore(FolderDocuments(tmp_path))
    events = [
        event(number, at=timedelta(minutes=number), who=f"w{number % 4}", action=("push", "pull", "delete")[number % 3])
        for number in range(500)
    ]
    store.add(events)
    found = counted(store.tables(), "who")
    assert {(who, action): count for who, one in found.items() for action, count in one.counts.items()} == dict(
        Counter((each.who, each.action) for each in events)
    )
    rows = count_rows(counted(store.tables(), "repository"), "repository")
    assert {row["repository"]: row["done"] for row in rows} == dict(Counter(f"us/{each.repository}" for each in events))
    assert sum(int(row["push"]) for row in rows) == sum(each.action == "push" for each in events)
