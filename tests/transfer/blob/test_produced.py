"""A blob that is made while it is sent, over a registry that fails, by a process that is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DigestMismatch, RegistryFull, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import BUDGET_BYTES, PART_BYTES, PartMemory
from registry_pipelines.transfer.blob.produced import Produce, Write, produce_blob
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.flow.patience import Patience
from registry_pipelines.transfer.limits.rules import RegistryRule
from registry_pipelines.transfer.uploads import Uploads, UploadsStopped
from tests.doubles.fault_registry import CutRequest, FaultRegistry, HoldAnswer, Status
from tests.doubles.faults import Fault

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted

UPLOADS = r"/v2/app/blobs/uploads/.*"
SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 5]


def described(content: bytes) -> Descriptor:
    return Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))


def making(content: bytes, *, piece: int = 1_000_003) -> Produce:
    """Makes the content in pieces of a size that divides no part."""

    def produce(write: Write) -> Descriptor:
        for start in range(0, len(content), piece):
            write(memoryview(content)[start : start + piece])
        return described(content)

    return produce


@pytest.mark.parametrize("whole_only", [False, True], ids=["chunks", "whole"])
def test_every_size_around_a_part_arrives(target: Counted, tmp_path: Path, whole_only: bool) -> None:
    tools = BlobTools(spool=tmp_path / "spool", rules=(RegistryRule(".*", chunks=False),) if whole_only else ())
    noise = random.Random(9).randbytes(SIZES[-1])
    for size in SIZES:
        content = noise[:size]
        assert produce_blob(target.place("app"), "name", making(content), tools) == described(content)
        assert target.registry.blob_size("app", Digest.of(content)) == size
    assert target.count("PATCH") == (0 if whole_only else 2 + 2 + 3)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name == "spool"]
    assert tools.memory.spare_bytes == BUDGET_BYTES


def test_many_at_once_share_the_memory_of_few(target: Counted) -> None:
    """Each holds the part that it fills: with fewer parts than makers nobody waits for ever."""
    tools = BlobTools(memory=PartMemory(2 * PART_BYTES))
    noise = random.Random(4).randbytes(2 * PART_BYTES + 9)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        made = [noise[number:] for number in range(4)]
        descriptors = list(
            pool.map(lambda content: produce_blob(target.place("app"), "x", making(content), tools), made)
        )
    assert descriptors == [described(content) for content in made]


def test_a_third_part_is_not_begun_before_the_first_is_there(
    target: Counted, connect: Callable[..., DistributionRegistry]
) -> None:
    """However slow the registry is; the answer is held, and let go after a while in which one could be begun."""
    answered, begun_after = threading.Event(), []

    def produce(write: Write) -> Descriptor:
        content = bytes(2 * PART_BYTES + 1)
        write(memoryview(content)[:-1])
        write(content[-1:])
        begun_after.append(answered.is_set())
        return described(content)

    with FaultRegistry(target.address) as faults:
        faults.play("PATCH", UPLOADS, HoldAnswer(answered), times=1)
        letting_go = threading.Timer(0.5, answered.set)
        letting_go.start()
        produce_blob(Place(connect(faults.address), "app"), "name", produce, BlobTools())
    letting_go.join()
    assert begun_after == [True]


def test_a_digest_that_is_wrong_is_refused_and_nothing_stays(target: Counted, tmp_path: Path) -> None:
    wrong = described(b"something else")

    def produce(write: Write) -> Descriptor:
        write(bytes(PART_BYTES + 1))
        return Descriptor(media_type=wrong.media_type, digest=wrong.digest, size=PART_BYTES + 1)

    with pytest.raises(DigestMismatch):
        produce_blob(target.place("app"), "name", produce, BlobTools(spool=tmp_path))
    assert target.registry.blob_size("app", wrong.digest) is None
    assert target.count("DELETE", "/uploads/") == target.count("POST", "/uploads/")


def test_a_full_registry_is_not_sent_the_same_again(
    target: Counted, connect: Callable[..., DistributionRegistry]
) -> None:
    times = 0

    def produce(write: Write) -> Descriptor:
        nonlocal times
        times += 1
        return making(bytes(PART_BYTES + 1))(write)

    with FaultRegistry(target.address) as faults:
        faults.play("PATCH", UPLOADS, Status(507))
        with pytest.raises(RegistryFull):
            produce_blob(Place(connect(faults.address), "app"), "name", produce, BlobTools())
    assert times == 1


def test_one_that_stays_silent_is_given_up_for_all(
    target: Counted, connect: Callable[..., DistributionRegistry]
) -> None:
    """The second is told at once, and makes nothing."""
    with FaultRegistry(target.address) as faults:
        place, tools = Place(connect(faults.address), "app"), BlobTools(patience=lambda: Patience(0.5))
        faults.play("POST", UPLOADS, Status(503, {"Retry-After": "0"}))
        with pytest.raises(Unavailable):
            produce_blob(place, "one", making(b"one"), tools)
        asked = len(faults.seen)
        with pytest.raises(Unavailable, match="not tried again"):
            produce_blob(place, "two", making(b"two"), tools)
        assert len(faults.seen) == asked


def test_stop_ends_what_is_being_made(target: Counted, tmp_path: Path) -> None:
    with Engine(state=tmp_path).opened() as state:
        uploads = Uploads(state, target.place("app"))

        def produce(write: Write) -> Descriptor:
            write(bytes(PART_BYTES + 1))
            uploads.stop()
            write(b"more")
            raise AssertionError("it goes on")

        with pytest.raises(UploadsStopped):
            uploads.produce("name", produce)
    assert target.count("DELETE", "/uploads/") == target.count("POST", "/uploads/") == 1


KILLED = """
import os, sys
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads
address, folder, size, name = sys.argv[1:]

def produce(write):
    write(bytes(int(size)))
    os.kill(os.getpid(), 9)

with Engine(state=Path(folder)).opened() as state:
    resumed = print if name == "again" else None
    Uploads(state, Place(DistributionRegistry(address), "app")).produce(name, produce, resumed=resumed)
"""


def test_what_a_killed_process_left_open_is_cancelled_by_who_makes_the_same(target: Counted, tmp_path: Path) -> None:
    """Three parts: the third is only made when the first was sent."""
    command = [sys.executable, "-c", KILLED, target.address, str(tmp_path), str(3 * PART_BYTES), "name"]
    assert subprocess.run(command).returncode == -9
    assert target.count("POST", "/uploads/") == 1 and not target.count("DELETE")
    content = bytes(PART_BYTES + 1)
    with Engine(state=tmp_path).opened() as state:
        Uploads(state, target.place("app")).produce("name", making(content))
    assert target.registry.blob_size("app", Digest.of(content)) == len(content)
    assert target.count("DELETE", "/uploads/") == 1
    assert target.count("POST", "/uploads/") == 2


def test_what_may_be_gone_on_with_is_sent_once_whatever_was_on_its_way(target: Counted, tmp_path: Path) -> None:
    """At the kill the first part is there, the second on its way or just before it, and the third in memory: parts
    arrive whole, and what arrived is gone on from."""
    command = [sys.executable, "-c", KILLED, target.address, str(tmp_path), str(3 * PART_BYTES), "again"]
    assert subprocess.run(command).returncode == -9
    content, there = bytes(3 * PART_BYTES + 1), list[int]()
    with Engine(state=tmp_path).opened() as state:
        Uploads(state, target.place("app")).produce("again", making(content), resumed=there.append)
    assert target.registry.blob_size("app", Digest.of(content)) == len(content)
    assert there in ([PART_BYTES], [2 * PART_BYTES])
    assert target.count("POST", "/uploads/") == 1 and not target.count("DELETE")


@pytest.mark.parametrize("fault", [Status(411), CutRequest(PART_BYTES // 2)], ids=["no streams", "torn"])
def test_a_part_that_the_courier_cannot_bring_is_brought(
    target: Counted, connect: Callable[..., DistributionRegistry], tmp_path: Path, fault: Fault
) -> None:
    content, there = random.Random(5).randbytes(2 * PART_BYTES + 7), list[int]()
    with FaultRegistry(target.address) as faults:
        faults.play("PATCH", UPLOADS, fault, times=1)
        with Engine(state=tmp_path).opened() as state:
            place = Place(connect(faults.address), "app")
            Uploads(state, place).produce("again", making(content), resumed=there.append)
    assert target.registry.blob_size("app", Digest.of(content)) == len(content)
    assert there == []
