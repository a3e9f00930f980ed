"""Registries that take blobs only whole: collected on disk, read on after a failure, sent once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.fanout import Means, move_blob
from registry_pipelines.transfer.memory import PART_BYTES
from registry_pipelines.transfer.rules import Rule
from tests.doubles.fault_registry import CutAnswer, FaultRegistry, Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

WHOLE = (Rule(".*", chunks=False),)
LARGE = 4 * PART_BYTES + 99


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
        means = Means(spool=tmp_path / "spool", rules=WHOLE)
        assert move_blob(here, layer, [there], means, lambda _at, _count: None) != [None]
        faults.clear()
        faults.reset_counts()
        moved: list[int] = []
        assert move_blob(here, layer, [there], means, lambda _at, count: moved.append(count)) == [None]
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
    means = Means(spool=tmp_path / "spool", rules=WHOLE)
    folder = tmp_path / "spool" / str(there).replace("/", "_").replace(":", "_")
    folder.mkdir(parents=True)
    (folder / layer.digest.hex).write_bytes(b"x" * PART_BYTES)
    (outcome,) = move_blob(source.place("app"), layer, [there], means, lambda _at, _count: None)
    assert outcome is not None
    assert target.registry.blob_size("app", Digest.of(content)) is None
    assert move_blob(source.place("app"), layer, [there], means, lambda _at, _count: None) == [None]
