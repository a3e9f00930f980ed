"""A Postgres server that goes away while copies use its journal, and comes back, or does not."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines import waits
from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place, UploadSession
from registry_pipelines.shared import server as database_server
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.postgres import ESCAPED, LostCommits, PostgresServer
from tests.doubles.workers import shared_journal, worker
from tests.needs import needed_module

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LARGE = 4 * PART_BYTES + 5
LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)


@pytest.fixture
def server(postgres_programs: Path) -> Iterator[PostgresServer]:
    """A server of this test's own, because it is stopped."""
    needed_module("psycopg", "postgres")
    with PostgresServer(postgres_programs) as running:
        yield running


def url_of(server: PostgresServer) -> str:
    return f"postgresql://rp:{ESCAPED}@/postgres?host={server.folder}"


class StopsTheServer(Silent):
    """Stops it when the first bytes are at the target, and starts it when somebody is told of the wait; a busy machine
    may wait for it before, too."""

    def __init__(self, stop: Callable[[], None], start: Callable[[], None] = lambda: None) -> None:
        self._stop, self._start = stop, start
        self._stopped = self._away = False
        self.told: list[str] = []

    def advance(self, task: str, byte_count: int) -> None:
        if not self._stopped and byte_count >= PART_BYTES:
            self._stopped = True
            self._stop()
            self._away = True

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        if host == "the shared database" and self._away and not self.told:  # nor is it a registry that is waited for
            self.told.append(reason)
            self._start()


@pytest.mark.parametrize(("courier", "frozen"), [(False, False), (True, False), (True, True)])
def test_a_restart_in_the_middle_is_waited_for_and_told(
    server: PostgresServer,
    source: Counted,
    target: Counted,
    graphs: Graphs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    courier: bool,
    frozen: bool,
) -> None:
    monkeypatch.setattr(waits, "TELL_AFTER_S", 0.3)
    monkeypatch.setattr(waits, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(waits, "QUIET_S", 0.0)  # told of again and again: what was told before it stopped is no news
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    stop, start = (server.freeze, server.thaw) if frozen else (server.stop, server.start)
    progress, state = StopsTheServer(stop, start), tmp_path if courier else None
    result = copy_closure(
        source.place("app"),
        "v1",
        [target.place("app")],
        engine=Engine(state=state, shared=worker(url_of(server)), progress=progress),
    )
    assert progress.told == ["it does not answer"]
    assert result.bytes_moved >= LARGE
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert target.bytes_in() < LARGE + PART_BYTES, "nothing was sent again"
    journal = shared_journal(url_of(server))
    assert set(journal.holders(target.address, list(result.plan.deliveries[0].job.closure.blobs)).values()) == {"app"}
    assert journal.abandoned([target.address], older_than_s=-1) == []
    journal.close()


def test_a_lasting_outage_ends_the_copy_and_loses_nothing(
    server: PostgresServer,
    source: Counted,
    target: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_server, "OUTAGE_S", 0.5)
    graphs.image(source.place("app"), graphs.noise(LARGE), b"small", tag="v1")
    engine = Engine(state=tmp_path, shared=worker(url_of(server)))
    with FaultRegistry(target.address) as wire:
        there = Place(connect(wire.address), "app")
        progress = StopsTheServer(server.stop)
        with pytest.raises(LocalError, match="the shared database cannot be used: ") as caught:
            copy_closure(source.place("app"), "v1", [there], engine=replace(engine, progress=progress))
        assert "Check that the server runs" in str(caught.value)
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))
        server.start()
        copy_closure(source.place("app"), "v1", [there], engine=replace(engine, shared=worker(url_of(server))))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert not wire.requests("DELETE"), "the upload was kept for the second run"
    assert wire.bytes_up < LARGE + PART_BYTES


def test_a_sync_tells_of_each_target_that_a_lasting_outage_failed(
    server: PostgresServer,
    source: Counted,
    target: Counted,
    graphs: Graphs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_server, "OUTAGE_S", 0.5)
    for seed, name in enumerate(("one", "two")):
        graphs.image(source.place(name), graphs.noise(LARGE, seed), tag="v1", config=name.encode())
    chosen = [Source(source.registry, (OpenTarget(target.registry),), repositories=("one", "two"))]
    result = sync(
        chosen, engine=Engine(state=tmp_path, shared=worker(url_of(server)), progress=StopsTheServer(server.stop))
    )
    assert [type(each.error) for each in result.results] == [LocalError, LocalError], result.results
    assert result.exit_code == LocalError.exit_code
    server.start()
    assert sync(chosen, engine=Engine(state=tmp_path, shared=worker(url_of(server)))).ok
    assert target.bytes_in() < 2 * (LARGE + PART_BYTES)


def test_what_was_recorded_before_a_lasting_outage_is_gone_on_from(
    server: PostgresServer, target: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_server, "OUTAGE_S", 0.2)
    place, journal = target.place("app"), shared_journal(url_of(server), tmp_path)
    journal.record(place, LAYER, UploadSession("app", "http://x/upload", 3))
    server.stop()
    with pytest.raises(LocalError, match="cannot be used"):
        journal.record(place, LAYER, UploadSession("app", "http://x/upload", 4))
    with pytest.raises(LocalError, match="cannot be used"):  # at once: somebody just found that it lasts
        journal.holders("x", [LAYER.digest])
    journal.close()
    server.start()
    again = shared_journal(url_of(server), tmp_path)
    session = again.resume(place, LAYER)
    assert session is not None and session.offset == 3
    again.close()


def test_a_commit_whose_answer_is_lost_is_done_once(server: PostgresServer, target: Counted) -> None:
    """Nobody knows then whether it was done. Each act of the journal comes to the same when it is done again."""
    place = target.place("app")
    with LostCommits(server.folder) as wire:
        url = f"postgresql://rp:{ESCAPED}@{wire.address}/postgres"
        first, second = shared_journal(url), shared_journal(url)
        for act in (
            lambda: first.record(place, LAYER, UploadSession("app", "http://x/upload", 1)),
            lambda: first.record(place, LAYER, UploadSession("app", "http://x/upload", 2)),
            lambda: first.hold(place, [LAYER.digest, Digest.of(b"other")]),
        ):
            wire.lose(1)
            act()
        assert wire.lost == 3
        first.close()
        wire.lose(2)  # looking for it, and taking it over
        session = second.resume(place, LAYER)
        assert session is not None and session.offset == 2
        assert second.holders(target.address, [LAYER.digest]) == {LAYER.digest: "app"}
        wire.lose(1)
        second.forget(place, LAYER.digest)
        assert second.resume(place, LAYER) is None
        second.close()
    assert wire.lost == 6
