"""Layers on their way through a registry that fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry_pipelines.build import pushing
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.content import Item, content_job
from registry_pipelines.build.interface import SILENT, LayerRow
from registry_pipelines.build.pushing import copy_blob, ensure_layer, layer_descriptor
from registry_pipelines.errors import WheelInvalid
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.interface import Place
from tests.build.layers import entries
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import CutAnswer, CutRequest, LoseAnswer, Status

UPLOADS = r"/v2/.*/blobs/uploads/.*"
CONTENT = random.Random(3).randbytes(3 << 20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def faults(server: EmbeddedServer) -> Iterator[FaultRegistry]:
    with FaultRegistry(server.address) as proxy:
        yield proxy


@pytest.fixture
def place(faults: FaultRegistry) -> Place:
    return Place(DistributionRegistry(faults.address), "a/b")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BuildCache]:
    opened = BuildCache(tmp_path / "cache.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def push(tmp_path: Path, place: Place, cache: BuildCache, monkeypatch: pytest.MonkeyPatch) -> Callable[[], LayerRow]:
    monkeypatch.setattr(pushing, "CHUNK_BYTES", 1 << 20)
    (tmp_path / "file").write_bytes(CONTENT)
    job = content_job("test", [Item("file", source=tmp_path / "file")], byte_code=False)
    spool = tmp_path / "spool"

    def run() -> LayerRow:
        row = ensure_layer(job, place, platform="linux/amd64", cache=cache, spool=spool, progress=SILENT)
        assert entries(read_blob(place, layer_descriptor(row), limit=1 << 24))["file"][1] == CONTENT
        return row

    return run


def test_a_chunk_that_breaks_does_not_break_the_layer(faults: FaultRegistry, push: Callable[[], LayerRow]) -> None:
    faults.play("PATCH", UPLOADS, CutRequest(100_000), times=1, skip=1)
    assert push().how == "uploaded"


def test_a_lost_answer_to_the_last_request_does_not_break_the_layer(
    faults: FaultRegistry, push: Callable[[], LayerRow]
) -> None:
    faults.play("PUT", UPLOADS, LoseAnswer(), times=1)
    assert push().how == "uploaded"


@pytest.mark.parametrize("status", [400, 404, 405, 415])
def test_a_registry_that_takes_no_chunks_gets_one_request(
    faults: FaultRegistry, push: Callable[[], LayerRow], status: int
) -> None:
    faults.play("PATCH", UPLOADS, Status(status))
    row = push()
    assert row.how == "uploaded"
    assert faults.requests("PUT", UPLOADS)[-1].bytes_up == row.size


def test_what_is_there_costs_one_head(faults: FaultRegistry, push: Callable[[], LayerRow]) -> None:
    first = push()
    faults.reset_counts()
    second = push()
    assert second == replace(first, how="present", bytes_uploaded=0)
    assert [seen.method for seen in faults.seen] == ["HEAD", "GET"]
    assert faults.bytes_up == 0


def test_a_layer_that_fails_leaves_no_blob_and_no_open_upload(
    tmp_path: Path, faults: FaultRegistry, place: Place, cache: BuildCache
) -> None:
    def write(writer: object, advance: object) -> None:
        raise WheelInvalid("broken")

    job = pushing.LayerJob("key", "broken", 1, write)
    with pytest.raises(WheelInvalid):
        ensure_layer(job, place, platform="linux/amd64", cache=cache, spool=tmp_path / "s", progress=SILENT)
    assert [seen.method for seen in faults.seen if "/uploads/" in seen.target] == ["POST", "DELETE"]
    assert cache.layer("key") is None


def test_a_base_layer_whose_download_breaks_is_begun_anew(
    tmp_path: Path, faults: FaultRegistry, place: Place, push: Callable[[], LayerRow]
) -> None:
    row = push()
    with EmbeddedServer(tmp_path / "other") as other:
        target = Place(DistributionRegistry(other.address), "c/d")
        faults.play("GET", r"/v2/.*/blobs/sha256.*", CutAnswer(500_000), times=1)
        copy_blob(place, target, layer_descriptor(row))
        assert target.registry.blob_size("c/d", row.digest) == row.size
