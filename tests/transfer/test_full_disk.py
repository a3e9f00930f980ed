"""Disks that are full: a target's, and our own where a blob is collected before it is sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DiskFull, NotFound, RegistryFull, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.acts import TRANSFER_THREADS
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.flow.patience import Patience
from registry_pipelines.transfer.limits.rules import RegistryRule
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.certificates import make_certificates
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry, Status
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
        with pytest.raises(RegistryFull, match="no space is left") as caught:
            copy_closure(here, "v1", [there, good], engine=Engine(state=tmp_path / "state"))
        assert "Free space at the registry" in str(caught.value)
        assert compare(here, good, "v1", content=True) == []
        with pytest.raises(NotFound):
            there.registry.resolve("app", "v1")
        assert used_bytes(full) < PART_BYTES
        (full / "filler").unlink()
        copy_closure(here, "v1", [there, good], engine=Engine(state=tmp_path / "state"))
        assert compare(here, there, "v1", content=True) == []


@pytest.mark.peer("docker-registry")
@pytest.mark.parametrize(("tls", "courier"), [(False, True), (True, True), (False, False)])
def test_docker_registry_that_is_full_is_told_at_once_and_takes_the_rest_when_there_is_space(
    source: Counted,
    target: Counted,
    full: Path,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    peer: Callable[[str], str],
    tmp_path: Path,
    tls: bool,
    courier: bool,
) -> None:
    """It answers 500 and closes while content is on its way; the reason is in the detail of that answer alone."""
    here, good, state = source.place("app"), target.place("app"), tmp_path / "state" if courier else None
    graphs.image(here, graphs.noise(LARGE), tag="v1")
    made = make_certificates(tmp_path / "tls") if tls else None
    secured = {"certificate": made.certificate, "key": made.key} if made else {}
    with DockerRegistry(peer("docker-registry"), full, **secured) as server:  # type: ignore[arg-type]
        there = Place(connect(server.address, ca_file=made.ca) if made else connect(server.address), "app")
        with pytest.raises(RegistryFull, match="disk is full: sending") as caught:
            copy_closure(here, "v1", [there, good], engine=Engine(state=state))
        assert server.address in str(caught.value) and "garbage collection" in str(caught.value)
        assert compare(here, good, "v1", content=True) == []
        with pytest.raises(NotFound):
            there.registry.resolve("app", "v1")
        (full / "filler").unlink()
        # Torn uploads it does not even cancel: 404, the content stays until its own purge of uploads.
        shutil.rmtree(full / "data/docker/registry/v2/repositories/app/_uploads")
        copy_closure(here, "v1", [there, good], engine=Engine(state=state))
        assert compare(here, there, "v1", content=True) == []


@pytest.mark.peer("docker-registry")
def test_docker_registry_without_space_for_an_upload_is_asked_once(
    source: Counted,
    full: Path,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    peer: Callable[[str], str],
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    with DockerRegistry(peer("docker-registry"), full) as server, FaultRegistry(server.address) as watched:
        fill(full)
        there = Place(connect(watched.address), "app")
        with pytest.raises(RegistryFull, match="disk is full: opening an upload"):
            copy_closure(source.place("app"), "v1", [there])
        asked = [each for each in watched.seen if each.method == "POST"]
        assert {each.status for each in asked} == {500}
        assert len(asked) <= 2  # the layer, and the config unless the layer's answer was there before


def test_a_registry_that_was_found_full_is_sent_nothing_more_in_the_run(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    for number in range(2 * TRANSFER_THREADS):
        graphs.image(source.place("app"), b"layer %d" % number, tag=f"v{number}", config=b"%d" % number)
    with FaultRegistry(target.address) as faults:
        faults.play("POST", r".*/blobs/uploads/.*", Status(507))
        full, good = OpenTarget(connect(faults.address), "full"), OpenTarget(target.registry, "good")
        result = sync([Source(source.registry, (full, good), repositories=("app",))])
        assert len(faults.requests("POST")) <= TRANSFER_THREADS
    failed = {each.place.repository: type(each.error) for each in result.results}
    assert failed == {"full/app": RegistryFull, "good/app": type(None)}
    assert len([each for each in result.results if each.ok]) == 2 * TRANSFER_THREADS


def fill(folder: Path) -> None:
    """To the last block."""
    with (folder / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.parametrize(("size", "method"), [(100, "POST"), (100, "PUT"), (LARGE, "POST"), (LARGE, "PATCH")])
def test_a_registry_that_answers_every_upload_with_500_is_told_with_its_commonest_cause(
    source: Counted,
    target: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    size: int,
    method: str,
) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(size), tag="v1").content()
    assert isinstance(manifest, Manifest)
    with FaultRegistry(target.address) as faults:
        faults.play(method, r".*/blobs/uploads/.*", Status(500, body=b"<html>oops</html>"))
        there = Place(connect(faults.address, retries=Retries(attempts=1)), "app")
        tools = BlobTools(patience=lambda: Patience(0.5))
        [outcome] = move_blob(source.place("app"), manifest.layers[0], [there], tools, lambda *_: None)
    assert isinstance(outcome, Unavailable)
    assert "HTTP 500" in str(outcome) and "a full disk is the commonest cause" in str(outcome)


def test_a_full_disk_of_our_own_is_told_and_left_free(
    source: Counted, target: Counted, full: Path, graphs: Graphs
) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1").content()
    assert isinstance(manifest, Manifest)
    tools = BlobTools(spool=full / "spool", rules=(RegistryRule(".*", chunks=False),))

    def bring() -> RegistryPipelinesError | None:
        [outcome] = move_blob(source.place("app"), manifest.layers[0], [target.place("app")], tools, lambda *_: None)
        return outcome

    failed = bring()
    assert isinstance(failed, DiskFull)
    assert str(full) in str(failed) and "Free space" in str(failed)
    assert used_bytes(full) == 0
    (full / "filler").unlink()
    assert bring() is None
    assert target.registry.blob_size("app", manifest.layers[0].digest) == LARGE
