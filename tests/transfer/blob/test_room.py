"""Room on the disk for what is collected: waited for while it helps, refused before it is too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DiskFull
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.room import Room
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.limits.rules import RegistryRule
from tests.doubles.small_disk import small_disk
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

MIB = 1024**2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of 40 MiB."""
    with small_disk(tmp_path / "disk", 40) as folder:
        yield folder


def test_a_blob_waits_until_another_gives_its_room_back(disk: Path) -> None:
    room = Room()
    first = room.take(disk, 20 * MIB, where="first")
    taken = threading.Event()

    def second() -> None:
        room.take(disk, 20 * MIB, where="second").close()
        taken.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not taken.wait(0.1), "it went before there was room"
    first.moved(5 * MIB)
    first.close()
    assert taken.wait(patient(10))
    thread.join()


def test_what_never_fits_and_what_nobody_makes_room_for_is_refused(disk: Path) -> None:
    room = Room(still_s=0.05)
    with pytest.raises(DiskFull, match=r"are needed to collect a blob") as caught:
        room.take(disk, 200 * MIB, where="spool/x")
    assert "`state`" in caught.value.do
    still = room.take(disk, 20 * MIB, where="first")
    with pytest.raises(DiskFull):
        room.take(disk, 20 * MIB, where="second")
    still.close()
    still.close()
    room.take(disk, 20 * MIB, where="third").close()


def test_a_blob_that_the_disk_cannot_hold_fails_before_it_is_read(
    disk: Path, source: Counted, target: Counted, graphs: Graphs
) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(64 * MIB), tag="v1").content()
    assert isinstance(manifest, Manifest)
    before = source.count("GET")
    tools = BlobTools(spool=disk / "spool", rules=(RegistryRule(".*", chunks=False),))
    (outcome,) = move_blob(source.place("app"), manifest.layers[0], [target.place("app")], tools, lambda *_: None)
    assert isinstance(outcome, DiskFull)
    assert source.count("GET") == before
