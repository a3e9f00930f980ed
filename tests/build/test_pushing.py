"""Layers on their way through a registry that fails."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from registry_pipelines.build.builder import SILENT, LayerRow
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.content import LayerEntry, content_job
from registry_pipelines.build.pushing import LayerJob, ensure_layer, layer_descriptor
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.errors import WheelInvalid
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads
from tests.build.layers import entries
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import CutRequest, LoseAnswer, Status

UPLOADS = r"/v2/.*/blobs/uploads/.*"
LARGE = random.Random(3).randbytes(PART_BYTES + 1000)
"""Two chunks."""
SMALL = b"one request\n"


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
def uploads(tmp_path: Path, place: Place) -> Iterator[Uploads]:
    with Engine(state=tmp_path / "transfer").opened() as state:
        yield Uploads(state, place)


@dataclass
class Push:
    """Has a layer of one file at the place; ``times`` it was made."""

    path: Path
    uploads: Uploads
    cache: BuildCache
    times: int = 0

    def __call__(self, content: bytes = LARGE) -> LayerRow:
        self.path.write_bytes(content)
        made = content_job("test", [LayerEntry("file", source=self.path)], byte_code=False)

        def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
            self.times += 1
            made.write(writer, advance)

        job = replace(made, write=write)
        row = ensure_layer(job, self.uploads, platform="linux/amd64", cache=self.cache, progress=SILENT)
        blob = read_blob(self.uploads.target, layer_descriptor(row), limit=1 << 26)
        assert entries(blob)["file"][1] == content
        return row


@pytest.fixture
def push(tmp_path: Path, uploads: Uploads, cache: BuildCache) -> Push:
    return Push(tmp_path / "file", uploads, cache)


def test_a_chunk_that_breaks_does_not_break_the_layer(faults: FaultRegistry, push: Push) -> None:
    faults.play("PATCH", UPLOADS, CutRequest(100_000), times=1, skip=1)
    assert push().how == "uploaded"
    assert push.times == 1


def test_what_the_registry_refuses_for_now_is_sent_again_and_not_made_again(faults: FaultRegistry, push: Push) -> None:
    """More refusals than the client repeats by itself."""
    faults.play("PATCH", UPLOADS, Status(503, {"Retry-After": "0"}), times=6, skip=1)
    faults.play("PUT", UPLOADS, Status(429, {"Retry-After": "0"}), times=6)
    assert push().how == "uploaded"
    assert push.times == 1


def test_a_lost_answer_to_the_last_request_does_not_break_the_layer(faults: FaultRegistry, push: Push) -> None:
    faults.play("PUT", UPLOADS, LoseAnswer(), times=1)
    assert push().how == "uploaded"


@pytest.mark.parametrize("status", [400, 404, 405, 415])
def test_a_registry_that_takes_no_chunks_gets_one_request(faults: FaultRegistry, push: Push, status: int) -> None:
    faults.play("PATCH", UPLOADS, Status(status))
    row = push()
    assert row.how == "uploaded"
    assert faults.requests("PUT", UPLOADS)[-1].bytes_up == row.size
    assert push.times == 2


def test_a_layer_whose_session_is_lost_is_made_anew(faults: FaultRegistry, push: Push) -> None:
    faults.play("PATCH", UPLOADS, Status(404), times=1, skip=1)
    row = push()
    assert row.how == "uploaded"
    assert push.times == 2
    assert faults.requests("PUT", UPLOADS)[-1].bytes_up == row.size


def test_a_small_layer_is_one_request_after_the_first(faults: FaultRegistry, push: Push) -> None:
    row = push(SMALL)
    assert [(seen.method, seen.bytes_up) for seen in faults.seen if "/uploads/" in seen.target] == [
        ("POST", 0),
        ("PUT", row.size),
    ]


def test_what_is_there_costs_one_head(faults: FaultRegistry, push: Push) -> None:
    first = push()
    faults.reset_counts()
    second = push()
    assert second == msgspec.structs.replace(first, how="present", bytes_uploaded=0)
    assert [seen.method for seen in faults.seen] == ["HEAD", "GET"]
    assert faults.bytes_up == 0


@pytest.mark.parametrize(("content", "requests"), [(SMALL, []), (LARGE, ["POST", "PATCH", "DELETE"])])
def test_a_layer_that_fails_leaves_no_blob_and_no_open_upload(
    faults: FaultRegistry, uploads: Uploads, cache: BuildCache, content: bytes, requests: list[str]
) -> None:
    def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        writer.header(info)
        writer.content(content)
        raise WheelInvalid("broken")

    job = LayerJob("key", "broken", 1, write)
    with pytest.raises(WheelInvalid):
        ensure_layer(job, uploads, platform="linux/amd64", cache=cache, progress=SILENT)
    sent = [seen.method for seen in faults.seen if "/uploads/" in seen.target]
    assert sorted(set(sent)) == sorted(requests) and sent[-1:] == requests[-1:]
    assert cache.layer("key") is None
