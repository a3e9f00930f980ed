"""Disks that are full: a target's, and our own where a blob is collected before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DiskFull, NotFound, Refused, RegistryPipelinesError
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.copy import copy_closure
from registry_pipelines.transfer.fanout import Means, move_blob
from registry_pipelines.transfer.memory import PART_BYTES
from registry_pipelines.transfer.rules import Rule
from registry_pipelines.transfer.verify import compare
from tests.doubles.small_disk import small_disk

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LARGE = 3 * PART_BYTES + 5
DISK_MEBIBYTES = 36
FILLER_BYTES = 2 * PART_BYTES
"""Beside it the layer does not fit; alone it does."""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk with a filler that can be removed."""
    with small_disk(tmp_path / "small", DISK_MEBIBYTES) as folder:
        (folder / "filler").write_bytes(bytes(FILLER_BYTES))
        yield folder


def used_bytes(folder: Path) -> int:
    """Content on the disk beside the filler."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "filler")


def test_a_full_target_is_told_keeps_nothing_half_and_takes_the_rest_when_there_is_space(
    source: Counted,
    target: Counted,
    full: Path,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    here, good = source.place("app"), target.place("app")
    graphs.image(here, graphs.noise(LARGE), b"small", tag="v1")
    with EmbeddedServer(full) as server:
        there = Place(connect(server.address), "app")
        with pytest.raises(Refused, match="no space is left") as caught:
            copy_closure(here, "v1", [there, good], state=tmp_path / "state")
        assert "Free space at the registry" in str(caught.value)
        assert compare(here, good, "v1", content=True) == []
        with pytest.raises(NotFound):
            there.registry.resolve("app", "v1")
        assert used_bytes(full) < PART_BYTES
        (full / "filler").unlink()
        copy_closure(here, "v1", [there, good], state=tmp_path / "state")
        assert compare(here, there, "v1", content=True) == []


def test_a_full_disk_of_our_own_is_told_and_left_free(
    source: Counted, target: Counted, full: Path, graphs: Graphs
) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1").content()
    assert isinstance(manifest, Manifest)
    means = Means(spool=full / "spool", rules=(Rule(".*", chunks=False),))

    def bring() -> RegistryPipelinesError | None:
        [outcome] = move_blob(source.place("app"), manifest.layers[0], [target.place("app")], means, lambda *_: None)
        return outcome

    failed = bring()
    assert isinstance(failed, DiskFull)
    assert str(full) in str(failed) and "Free space" in str(failed)
    assert used_bytes(full) == 0
    (full / "filler").unlink()
    assert bring() is None
    assert target.registry.blob_size("app", manifest.layers[0].digest) == LARGE
