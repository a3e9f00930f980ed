"""What is sent and read again after failures, byte for byte, and what progress tells meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import Stalled, Unavailable
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.progress import Silent
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry, Timeouts
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.sinks import ABANDONED_S
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.flow.patience import Patience
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import (
    CutAnswer,
    CutRequest,
    Fault,
    FaultRegistry,
    HoldAnswer,
    LoseAnswer,
    Rewrite,
    Status,
)
from tests.doubles.link import Link
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

pytestmark = pytest.mark.usefixtures("one_connection")
LARGE = 3 * PART_BYTES + 12_345
BLOBS = r".*/blobs/sha256:.*"
UPLOADS = r".*/blobs/uploads/.*"
HEADS = 2_000
"""Frames of chunked content, and the config."""


@pytest.fixture
def faulty(target: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(target.address) as faults:
        yield faults


def interrupted(source: Place, there: Place, state: Path, *, stored: int, confirmed: int) -> None:
    """A journal as a killed process left it: an upload with so many parts stored, and so many confirmed to it."""
    layer = layer_of(source)
    with source.registry.open_blob("app", layer.digest) as reader:
        content = bytearray(stored * PART_BYTES)
        filled = 0
        while filled < len(content):
            filled += reader.readinto(memoryview(content)[filled:])
    registry = there.registry
    assert isinstance(registry, DistributionRegistry)
    session = registry.begin_upload("app")
    for at in range(0, len(content), PART_BYTES):
        registry.append_upload(session, memoryview(content)[at : at + PART_BYTES])
    session.offset = confirmed * PART_BYTES
    journal = Journal.at(state)
    journal.record(there, layer, session)
    journal.close()


def layer_of(place: Place) -> Descriptor:
    """The layer of the image."""
    manifest = place.registry.get_manifest("app", "v1").content()
    assert isinstance(manifest, Manifest)
    return manifest.layers[0]


def stored_bytes(faults: FaultRegistry) -> int:
    """Content that the registry took."""
    return sum(seen.bytes_up for seen in faults.requests("PATCH") if 200 <= seen.status < 300)


@pytest.fixture
def taken_again(
    source: Counted,
    target: Counted,
    faulty: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> Callable[..., int]:
    """Ends a copy that was killed; how much content the registry took for that."""

    def end(method: str, fault: Fault, *, stored: int, confirmed: int, times: int = 1_000) -> int:
        here, there = source.place("app"), Place(connect(faulty.address), "app")
        graphs.image(here, graphs.noise(LARGE), tag="v1")
        interrupted(here, there, tmp_path, stored=stored, confirmed=confirmed)
        faulty.reset_counts()
        faulty.play(method, UPLOADS, fault, times=times)
        copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
        assert compare(here, target.place("app"), "v1", content=True) == []
        return stored_bytes(faulty)

    return end


def test_a_range_that_stays_at_the_first_chunk_is_not_believed_after_a_kill(taken_again: Callable[..., int]) -> None:
    """ECR says so for ever; every byte that was confirmed is there all the same."""
    stuck = Rewrite(set={"Range": f"0-{PART_BYTES - 1}"})
    assert taken_again("GET", stuck, stored=2, confirmed=2) < LARGE - 2 * PART_BYTES + HEADS


def test_an_upload_that_was_committed_after_the_kill_is_not_begun_again(
    source: Counted,
    faulty: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    """The last request was on its way when the process died, and its registry took a while."""
    here, there = source.place("app"), Place(connect(faulty.address), "app")
    content = graphs.noise(2 * PART_BYTES)
    graphs.image(here, content, tag="v1")
    interrupted(here, there, tmp_path, stored=2, confirmed=2)
    push_blob(there, content, media_type="application/octet-stream")
    faulty.play("GET", UPLOADS, Status(404))
    faulty.reset_counts()
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    assert compare(here, there, "v1", content=True) == []
    assert stored_bytes(faulty) < HEADS


def test_a_registry_that_lost_a_part_is_asked_where_to_go_on(taken_again: Callable[..., int]) -> None:
    no_streams = Status(411)  # so parts name their bytes
    assert taken_again("PATCH", no_streams, times=1, stored=1, confirmed=2) < LARGE - PART_BYTES + HEADS


@pytest.mark.parametrize("size", [5_000_000, LARGE], ids=["small", "large"])
def test_reading_goes_on_at_the_byte_that_is_missing(
    size: int, source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    graphs.image(source.place("app"), graphs.noise(size), tag="v1")
    with FaultRegistry(source.address) as faults:
        faults.play("GET", BLOBS, CutAnswer(3_000_000), times=3)
        copy_closure(Place(connect(faults.address, retries=NEVER), "app"), "v1", [target.place("app")])
        read = sum(seen.bytes_down for seen in faults.requests("GET", BLOBS))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert read < size + HEADS


def test_an_upload_that_nobody_came_back_for_is_cancelled_by_the_next_copy(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here, there = source.place("app"), target.place("app")
    graphs.image(here, graphs.noise(LARGE), tag="v1")
    interrupted(here, there, tmp_path, stored=1, confirmed=1)
    graphs.image(here, b"another", tag="v2")
    copy_closure(here, "v2", [there], engine=Engine(state=tmp_path))
    assert target.count("DELETE", "/uploads/") == 0, "it may still be wanted"
    with sqlite3.connect(tmp_path / "transfers.sqlite") as journal:
        journal.execute("UPDATE uploads SET updated_at = updated_at - ?", (ABANDONED_S + 1,))
    journal.close()
    graphs.image(here, b"a third", tag="v3")
    copy_closure(here, "v3", [there], engine=Engine(state=tmp_path))
    assert target.count("DELETE", "/uploads/") == 1


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_registry_that_assembles_for_long_is_waited_for_and_one_that_stands_still_is_not(
    method: str,
    source: Counted,
    target: Counted,
    faulty: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    """Scaled: a stall is a second, not a minute; an answer may take minutes, not half an hour."""
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    registry = connect(faulty.address, timeouts=Timeouts(stall_s=patient(0.25), commit_s=patient(60)), retries=NEVER)
    slow, hung = threading.Event(), threading.Event()
    faulty.play(method, UPLOADS, HoldAnswer(slow))
    faulty.play("GET", r"/v2/", HoldAnswer(hung))
    done: list[object] = []

    def copy() -> None:
        done.append(copy_closure(source.place("app"), "v1", [Place(registry, "app")], engine=Engine(state=tmp_path)))

    copying = threading.Thread(target=copy)
    copying.start()
    while copying.is_alive() and not faulty.requests(method, UPLOADS):
        copying.join(0.05)
    for _ in range(3):
        with pytest.raises(Stalled):
            registry.ping()
    assert not done
    slow.set()
    copying.join(patient(30))
    assert done
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert stored_bytes(faulty) < LARGE + HEADS


def test_a_registry_that_hangs_in_a_commit_is_waited_for_once_and_the_others_are_done(
    source: Counted,
    start_embedded: Callable[..., Counted],
    target: Counted,
    faulty: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    here, well = source.place("app"), start_embedded().place("app")
    graphs.image(here, graphs.noise(LARGE), tag="v1")
    hurried = Timeouts(commit_s=patient(0.5), commit_bytes_per_s=1e12)
    hangs = Place(connect(faulty.address, timeouts=hurried), "app")
    never = threading.Event()
    faulty.play("PUT", rf"{UPLOADS}digest={layer_of(here).digest}", HoldAnswer(never))
    faulty.play("HEAD", BLOBS, Status(404))
    with pytest.raises(
        Stalled,
        match=rf"everything was sent, and no answer came within {patient(0.5):g} s\. Look at the registry's log",
    ):
        copy_closure(here, "v1", [hangs, well], engine=Engine(state=tmp_path))
    assert len(faulty.requests("PUT", rf"{UPLOADS}digest={layer_of(here).digest}")) == 1
    assert compare(here, well, "v1", content=True) == []
    faulty.clear()
    faulty.reset_counts()
    copy_closure(here, "v1", [hangs], engine=Engine(state=tmp_path))
    assert compare(here, target.place("app"), "v1", content=True) == []
    assert stored_bytes(faulty) < HEADS


def test_a_target_that_stops_taking_bytes_is_dropped_and_asked_again(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry], tmp_path: Path
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    with Link(target.address) as link:
        link.break_at("up", PART_BYTES, "silent")
        there = Place(connect(link.address, timeouts=Timeouts(stall_s=patient(0.25)), retries=NEVER), "app")
        copying = threading.Thread(
            target=copy_closure, args=(source.place("app"), "v1", [there]), kwargs={"engine": Engine(state=tmp_path)}
        )
        copying.start()
        link.wait_until_broken(lambda: not copying.is_alive())
        before = link.connections
        link.wait(lambda: link.connections > before, lambda: not copying.is_alive())
        link.mend()
        copying.join(patient(30))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


class Watch(Silent):
    """What is told of each task."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def begin(self, task: str, *, total_bytes: int | None = None, group: str = "") -> None:
        self.totals[task] = total_bytes or 0

    def advance(self, task: str, byte_count: int) -> None:
        self.done[task] += byte_count
        if byte_count <= 0 or self.done[task] > self.totals[task]:
            self.wrong.append(f"{task}: {byte_count:+} to {self.done[task]} of {self.totals[task]}")


def test_progress_never_goes_backwards_nor_counts_twice(
    source: Counted,
    target: Counted,
    faulty: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    """Torn, lost and forgotten uploads: content is sent again, and not told again."""
    graphs.image(source.place("app"), graphs.noise(LARGE), graphs.noise(90_000), tag="v1")
    for fault in (CutRequest(2 * PART_BYTES), Status(404), CutRequest(PART_BYTES), LoseAnswer()):
        faulty.play("PATCH", UPLOADS, fault, times=1)
    watch, there = Watch(), Place(connect(faulty.address, retries=NEVER), "app")
    result = copy_closure(
        source.place("app"), "v1", [there, target.place("b")], engine=Engine(progress=watch, state=tmp_path)
    )
    assert stored_bytes(faulty) + sum(seen.bytes_up for seen in faulty.requests("PATCH") if not seen.status) > LARGE
    assert watch.wrong == []
    assert watch.done == watch.totals
    assert sorted(watch.done.values()) == sorted(each.bytes_moved for each in result.per_target)


def test_what_an_earlier_run_sent_is_not_told_as_sent_now(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here, there = source.place("app"), target.place("app")
    config = graphs.image(here, graphs.noise(LARGE), tag="v1").content()
    assert isinstance(config, Manifest)
    interrupted(here, there, tmp_path, stored=2, confirmed=2)
    watch, target_bytes = Watch(), LARGE + config.config.size
    fleet = Source(source.registry, (OpenTarget(target.registry),))
    result = sync([fleet], engine=Engine(progress=watch, state=tmp_path))
    [done] = result.results
    assert (done.bytes_resumed, done.bytes_moved) == (2 * PART_BYTES, target_bytes - 2 * PART_BYTES)
    assert watch.wrong == []
    assert sorted(watch.done.values()) == sorted(filter(None, watch.totals.values())) == [done.bytes_moved]
    [row] = Summary(result, ["there"]).target_rows()
    assert (row["bytes"], row["resumed_bytes"], row["mounted_bytes"]) == (done.bytes_moved, 2 * PART_BYTES, 0)


def test_a_target_that_was_away_for_too_long_gets_the_rest_in_the_next_run(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry], tmp_path: Path
) -> None:
    """The copy gives up, its upload is not: when the target is back, it goes on where the link broke."""
    manifest = graphs.image(source.place("app"), graphs.noise(4 * PART_BYTES), tag="v1").content()
    assert isinstance(manifest, Manifest)
    [layer] = manifest.layers
    with Link(target.address) as link:
        there = Place(connect(link.address, retries=NEVER), "app")
        link.break_at("up", 2 * PART_BYTES + 500_000, "cut")
        for away in (True, False):
            journal = Journal.at(tmp_path)
            tools = BlobTools(journal=journal, patience=lambda: Patience(0.3))
            [outcome] = move_blob(source.place("app"), layer, [there], tools, lambda *_: None)
            assert isinstance(outcome, Unavailable) if away else outcome is None
            journal.close()
            link.mend()
        assert link.up < layer.size + PART_BYTES
