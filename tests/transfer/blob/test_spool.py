"""Registries that take blobs only whole: collected on disk, read on after a failure, sent once."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.limits.rules import RegistryRule
from tests.disk import bytes_below
from tests.doubles.fault_registry import CutAnswer, FaultRegistry, HoldAnswer, Status
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

pytestmark = pytest.mark.usefixtures("one_connection")
WHOLE = (RegistryRule(".*", chunks=False),)
LARGE = 4 * PART_BYTES + 99


def folder_of(spool: Path, place: Place) -> Path:
    return spool / str(place).replace("/", "_").replace(":", "_")


def test_download_goes_on_where_it_stopped_and_the_upload_is_one(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, connect: Callable[..., DistributionRegistry]
) -> None:
    content = graphs.noise(LARGE)
    manifest = graphs.image(source.place("app"), content, tag="v1").content()
    assert isinstance(manifest, Manifest)
    layer, there = manifest.layers[0], target.place("app")
    with FaultRegistry(source.address) as faults:
        here = Place(connect(faults.address), "app")
        faults.play("GET", r".*/blobs/.*", CutAnswer(2 * PART_BYTES), times=1)
        faults.play("GET", r".*/blobs/.*", Status(404))
        tools = BlobTools(spool=tmp_path / "spool", rules=WHOLE)
        assert move_blob(here, layer, [there], tools, lambda _at, _count: None) != [None]
        faults.clear()
        faults.reset_counts()
        moved: list[int] = []
        assert move_blob(here, layer, [there], tools, lambda _at, count: moved.append(count)) == [None]
        assert faults.bytes_down <= LARGE - 2 * PART_BYTES + 4096
    assert sum(moved) == LARGE
    assert target.count("PATCH") == 0
    assert target.count("POST") == 1
    assert target.registry.blob_size("app", layer.digest) == LARGE
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]


def test_damaged_file_is_thrown_away(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    content = graphs.noise(LARGE)
    manifest = graphs.image(source.place("app"), content, tag="v1").content()
    assert isinstance(manifest, Manifest)
    layer, there = manifest.layers[0], target.place("app")
    tools = BlobTools(spool=tmp_path / "spool", rules=WHOLE)
    folder = folder_of(tmp_path / "spool", there)
    folder.mkdir(parents=True)
    (folder / layer.digest.hex).write_bytes(b"x" * PART_BYTES)
    (outcome,) = move_blob(source.place("app"), layer, [there], tools, lambda _at, _count: None)
    assert outcome is not None
    assert target.registry.blob_size("app", Digest.of(content)) is None
    assert move_blob(source.place("app"), layer, [there], tools, lambda _at, _count: None) == [None]


def test_two_that_collect_the_same_blob_do_not_hinder_each_other(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, connect: Callable[..., DistributionRegistry]
) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1").content()
    assert isinstance(manifest, Manifest)
    layer, there, release = manifest.layers[0], target.place("app"), threading.Event()

    def copy(here: Place) -> object:
        """Tools of its own, as a process has; locks of files are between open files, not between processes."""
        tools = BlobTools(spool=tmp_path / "spool", rules=WHOLE)
        return move_blob(here, layer, [there], tools, lambda _at, _count: None)

    with FaultRegistry(source.address) as faults, ThreadPoolExecutor() as pool:
        faults.play("GET", r".*/blobs/.*", HoldAnswer(release, 2 * PART_BYTES), times=1)
        begun = wait_for_file(tmp_path / "spool", pool.submit(copy, Place(connect(faults.address), "app")))
        assert copy(source.place("app")) == [None]
        assert not begun.done()
        release.set()
        assert begun.result(patient(60)) == [None]
    assert target.registry.blob_size("app", layer.digest) == LARGE
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]


def wait_for_file(folder: Path, work: Future[object]) -> Future[object]:
    deadline = time.monotonic() + patient(30)
    while not bytes_below(folder):
        assert time.monotonic() < deadline and not work.done()
        time.sleep(0.01)
    return work


def test_the_fullest_file_that_is_free_is_gone_on_with(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, connect: Callable[..., DistributionRegistry]
) -> None:
    content = graphs.noise(LARGE)
    manifest = graphs.image(source.place("app"), content, tag="v1").content()
    assert isinstance(manifest, Manifest)
    layer, there = manifest.layers[0], target.place("app")
    folder = folder_of(tmp_path / "spool", there)
    folder.mkdir(parents=True)
    for number, parts in ((0, 3), (1, 1), (2, 2)):
        name = f"{layer.digest.hex}-{number}" if number else layer.digest.hex
        (folder / name).write_bytes(content[: parts * PART_BYTES])
    with FaultRegistry(source.address) as faults, (folder / layer.digest.hex).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        tools = BlobTools(spool=tmp_path / "spool", rules=WHOLE)
        assert move_blob(Place(connect(faults.address), "app"), layer, [there], tools, lambda _at, _count: None) == [
            None
        ]
        assert faults.bytes_down < LARGE - 2 * PART_BYTES + 4096
    left = sorted(path.name for path in folder.iterdir())
    assert left == [layer.digest.hex, f"{layer.digest.hex}-1"]
