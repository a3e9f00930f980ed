"""What survives: uploads of dead owners, manifests, holdings; and what is not to be shared while an owner lives."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import InputError, LocalError, RateLimited, ToolMissing, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place, UploadSession
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.sinks import JOURNAL_FILE
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.flow.patience import NO_PROGRESS_S, Patience
from registry_pipelines.transfer.state import State
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.workers import shared_journal
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)
LARGE = 3 * PART_BYTES + 5


def test_upload_of_a_closed_journal_is_taken_over_and_a_live_one_is_not(source: Counted, tmp_path: Path) -> None:
    place = source.place("app")
    first, second = Journal.at(tmp_path), Journal.at(tmp_path)
    first.record(place, LAYER, UploadSession("app", "http://x/upload", 4096))
    assert second.resume(place, LAYER) is None
    first.close()
    session = second.resume(place, LAYER)
    assert session is not None
    assert (session.location, session.offset) == ("http://x/upload", 4096)
    second.forget(place, LAYER.digest)
    assert second.resume(place, LAYER) is None
    second.close()


def test_hints_that_cannot_be_written_down_fail_no_copy(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_pipelines.transfer.blob.holders.SAVE_EVERY_S", 0.0)
    graphs.image(source.place("app"), b"first", tag="v1")
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / JOURNAL_FILE)) as database:
        database.execute("CREATE TRIGGER refuse BEFORE INSERT ON holders BEGIN SELECT RAISE(FAIL, 'refused'); END")
    graphs.image(source.place("app"), b"second", tag="v2")
    copy_closure(source.place("app"), "v2", [target.place("app")], engine=Engine(state=tmp_path))
    assert compare(source.place("app"), target.place("app"), "v2") == []


def test_unusable_database_is_a_local_error(tmp_path: Path) -> None:
    (tmp_path / "transfers.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(LocalError, match="journal"):
        Journal.at(tmp_path)
    with pytest.raises((ToolMissing, InputError)):
        shared_journal("postgresql+nosuchdriver://x/y")


def open_journals(folders: list[Path], together: Barrier, failures: Queue[str]) -> None:
    for folder in folders:
        together.wait()
        try:
            Journal.at(folder).close()
        except LocalError as error:
            failures.put(str(error))


def test_processes_that_start_at_once_make_one_journal(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together, failures = context.Barrier(4), context.Queue()
    folders = [tmp_path / str(number) for number in range(60)]
    workers = [context.Process(target=open_journals, args=(folders, together, failures)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures.empty()


def test_expired_upload_is_begun_afresh(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    manifest = graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1").content()
    assert isinstance(manifest, Manifest)
    before = Journal.at(tmp_path)
    gone = target.registry.begin_upload("app")
    target.registry.cancel_upload(gone)
    gone.offset = PART_BYTES
    before.record(target.place("app"), manifest.layers[0], gone)
    before.close()
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


def test_lying_offset_ends_in_a_fresh_upload(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    """The journal and the registry agree on an offset, but the bytes before it are others: the digest tells."""
    manifest = graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1").content()
    assert isinstance(manifest, Manifest)
    before = Journal.at(tmp_path)
    session = target.registry.begin_upload("app")
    target.registry.append_upload(session, memoryview(b"x" * 1000))
    before.record(target.place("app"), manifest.layers[0], session)
    before.close()
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


def test_uploads_nobody_came_back_for_are_cancelled(source: Counted, target: Counted, tmp_path: Path) -> None:
    place = target.place("app")
    before = Journal.at(tmp_path)
    session = target.registry.begin_upload("app")
    before.record(place, LAYER, session)
    before.close()
    with State(tmp_path) as state:
        assert state.cancel_abandoned([target.registry]) == 0
        assert state.cancel_abandoned([source.registry], older_than_s=-1) == 0
        assert state.cancel_abandoned([target.registry], older_than_s=-1) == 1
    assert target.registry.upload_offset(session) is None


def test_two_copies_to_one_target_at_once(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    program = str(Path(__file__).with_name("killed_copy.py"))
    arguments = [sys.executable, program, source.address, target.address, "app", str(tmp_path)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=patient(60))
        assert process.returncode == 0, errors.decode()
    threads = [
        threading.Thread(
            target=copy_closure,
            args=(source.place("app"), "v1", [target.place(f"app{number}")]),
            kwargs={"engine": Engine(state=tmp_path)},
        )
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("app", "app0", "app1", "app2"):
        assert compare(source.place("app"), target.place(name), "v1", content=True) == []


class ExpiresTokens(Silent):
    def __init__(self, faults: FaultRegistry) -> None:
        self._faults, self._done = faults, False

    def advance(self, task: str, byte_count: int) -> None:
        if not self._done:
            self._done = True
            self._faults.expire_tokens()


@pytest.mark.parametrize("kept", [True, False], ids=["courier", "parts"])
def test_token_that_expires_in_the_middle(
    kept: bool,
    source: Counted,
    target: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    with FaultRegistry(target.address) as faults:
        faults.require_tokens()
        there = Place(connect(faults.address), "app")
        copy_closure(
            source.place("app"),
            "v1",
            [there],
            engine=Engine(progress=ExpiresTokens(faults), state=tmp_path if kept else None),
        )
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_patience_survives_a_link_that_is_down_for_half_a_minute_and_ends_without_progress() -> None:
    clock = Clock()
    patience = Patience(clock=lambda: clock.now, sleep=clock.sleep)
    down_until = clock.now + 30
    while clock.now < down_until:
        assert patience.wait(Unavailable("no route"))
    patience.progress()
    began = clock.now
    while patience.wait(Unavailable("no route")):
        pass
    assert NO_PROGRESS_S / 2 < clock.now - began <= NO_PROGRESS_S


def test_patience_waits_as_long_as_the_registry_asks() -> None:
    clock = Clock()
    patience = Patience(clock=lambda: clock.now, sleep=clock.sleep)
    assert patience.wait(RateLimited("slow", retry_after_s=40))
    assert 1040 < clock.now < 1040.1
    assert not patience.wait(RateLimited("slow", retry_after_s=400))


def test_patience_is_no_tight_loop_when_the_registry_asks_for_no_pause() -> None:
    clock = Clock()
    patience = Patience(clock=lambda: clock.now, sleep=clock.sleep)
    attempts = 0
    while patience.wait(RateLimited("slow", retry_after_s=0)):
        attempts += 1
        assert attempts < 200
