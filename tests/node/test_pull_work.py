"""What a pull that nobody can serve asks of this machine, counted: containerd waits for each layer."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.node.lazy_images import REF_LABEL
from registry_pipelines.node.snapshots import Snapshots
from registry_pipelines.node.spares import MOST
from registry_pipelines.node.store import Refused
from tests.needs import missing
from tests.patience import patient

LAYERS = 12


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of SQLite."""
    found: list[str] = []
    real = sqlite3.connect

    def connect(*arguments: object, **options: object) -> sqlite3.Connection:
        made = real(*arguments, **options)  # type: ignore[call-overload]
        made.set_trace_callback(found.append)
        assert isinstance(made, sqlite3.Connection)
        return made

    monkeypatch.setattr(sqlite3, "connect", connect)
    return found


@pytest.fixture
def snapshots(tmp_path: Path, asked: list[str]) -> Iterator[Snapshots]:
    with Snapshots(tmp_path / "root") as found:
        yield found


def pull(snapshots: Snapshots) -> None:
    parent = ""
    for number in range(LAYERS):
        chain_id = f"sha256:{number:064x}"
        key = f"default/{number}/extract-1 {chain_id}"
        mounts = snapshots.prepare(key, parent, {REF_LABEL: chain_id})
        assert len(mounts) == 1
        snapshots.commit(chain_id, key, {REF_LABEL: chain_id}, parent)
        parent = chain_id


def test_a_layer_is_one_question_and_one_change_each_time(snapshots: Snapshots, asked: list[str]) -> None:
    asked.clear()
    pull(snapshots)
    words = [each.split(maxsplit=1)[0] for each in asked]
    assert {word: words.count(word) for word in set(words)} == {
        "SELECT": 2 * LAYERS - 1,  # what a layer stands on, and what is committed
        "BEGIN": 2 * LAYERS,
        "INSERT": LAYERS,
        "UPDATE": LAYERS,
        "COMMIT": 2 * LAYERS,
        "PRAGMA": 2 * LAYERS,
    }
    lasting = [each for each in asked if "synchronous = FULL" in each]
    assert len(lasting) == LAYERS  # each layer is on the disk once it is committed


def test_no_layer_above_the_base_waits_for_a_new_folder(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        if threading.current_thread() is threading.main_thread():
            made.append(path)
        real(path, mode)

    assert snapshots._spares.full.wait(patient(20))
    monkeypatch.setattr(os, "mkdir", mkdir)
    pull(snapshots)
    assert [Path(each).name for each in made] == ["1", "fs"]
    assert sorted(each.name for each in (tmp_path / "root" / "snapshots" / "2").iterdir()) == ["fs", "work"]
    assert snapshots._spares.full.wait(patient(20))
    assert len(list((tmp_path / "root" / "spares").iterdir())) >= MOST // 2


def test_spares_of_a_killed_process_go_and_what_is_in_the_way_goes(tmp_path: Path) -> None:
    (tmp_path / "root" / "spares" / "1" / "fs" / "left").mkdir(parents=True)
    with Snapshots(tmp_path / "root") as snapshots:
        assert snapshots._spares.full.wait(patient(20))
        snapshots.prepare("base", "", {})
        snapshots.commit("layer", "base", {})
        (tmp_path / "root" / "snapshots" / "2" / "fs" / "old").mkdir(parents=True)
        snapshots.prepare("container", "layer", {})
        assert [each.name for each in (tmp_path / "root" / "snapshots" / "2").glob("*/*")] == []
    assert not (tmp_path / "root" / "spares").exists()


def test_what_lies_below_is_no_older_than_the_last_removal(snapshots: Snapshots) -> None:
    pull(snapshots)
    top = f"sha256:{LAYERS - 1:064x}"
    for _ in range(2):
        (mount,) = snapshots.prepare("container", top, {})
        lowers = next(each for each in mount.options if each.startswith("lowerdir=")).split(":")
        assert len(lowers) == LAYERS
        snapshots.remove("container")
    snapshots.remove(top)
    with pytest.raises(Refused) as refused:
        snapshots.prepare("container", top, {})
    assert refused.value.code == "NOT_FOUND"
    snapshots.prepare("other", "", {})
    snapshots.commit(top, "other", {})
    (mount,) = snapshots.prepare("container", top, {})
    assert len(next(each for each in mount.options if each.startswith("lowerdir=")).split(":")) == 1


def test_what_a_layer_stands_on_may_go_meanwhile(snapshots: Snapshots) -> None:
    pull(snapshots)
    top = snapshots.stat(f"sha256:{LAYERS - 1:064x}")
    snapshots.remove(top.name)
    with snapshots._store.change(), pytest.raises(Refused) as refused:
        snapshots._store.add("late", top, "active", {})
    assert refused.value.code == "NOT_FOUND"
    snapshots.prepare("again", "", {})
    late = snapshots.stat("again")
    snapshots.remove("again")
    with snapshots._store.change(), pytest.raises(Refused) as refused:
        snapshots._store.commit(late, "late", {}, 0, 0)
    assert refused.value.code == "NOT_FOUND"
