"""Room on the disk of a node: what nobody uses gives way, what somebody has open stays."""

from __future__ import annotations

import os
from pathlib import Path

from registry_pipelines.node.counts import Counts
from registry_pipelines.node.room import Room
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.blocks import BlockStore, disk_bytes

SIZE = 1 << 20


def filled(lazy: Path, *names: str) -> list[Path]:
    """Layers of 1 MiB that nobody has open, the first not used for longest."""
    store = BlockStore(lazy / "blocks")
    found = []
    for age, name in enumerate(names):
        with store.open(Digest.of(name.encode()), SIZE) as layer:
            layer.put(0, os.urandom(SIZE))
            layer.mark(0, SIZE)
            found.append(layer.folder)
        os.utime(layer.folder / "lease", (1000 + age, 1000 + age))
    return found


def test_the_limit_holds_and_the_oldest_goes(tmp_path: Path) -> None:
    oldest, newer, newest = filled(tmp_path, "a", "b", "c")
    counts, said = Counts(), list[str]()
    room = Room(tmp_path, counts=counts, log=said.append, max_bytes=2 * SIZE + SIZE // 2, kept_free=0)
    room.make()
    assert not oldest.exists() and newer.exists() and newest.exists() and not said


def test_a_full_disk_keeps_what_is_open_and_that_is_said_once(tmp_path: Path) -> None:
    first, second = filled(tmp_path, "a", "b")
    counts, said = Counts(), list[str]()
    room = Room(tmp_path, counts=counts, log=said.append, kept_free=100)  # more than any disk has
    with BlockStore(tmp_path / "blocks").open(Digest.of(b"a"), SIZE) as layer:
        assert room.make() >= SIZE
        assert room.make() == 0
        assert first.exists() and not second.exists()
        assert layer.holds(0, SIZE) and len(layer.read(0, SIZE)) == SIZE
    [line] = said
    assert "less than 100 % of the disk are free" in line and "are missing" in line
    assert counts.value("evicted_bytes") >= SIZE
    assert room.make() >= SIZE and disk_bytes(tmp_path / "blocks") == 0


def test_enough_room_changes_nothing(tmp_path: Path) -> None:
    [only] = filled(tmp_path, "a")
    counts = Counts()
    with Room(tmp_path, counts=counts, log=print, kept_free=0) as room:
        assert room.make() == 0
    assert only.exists() and counts.value("evicted_bytes") == 0
