"""The journal on Postgres, for workers on many machines. Needs a Postgres server and psycopg."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import UploadSession
from registry_pipelines.shared import server
from registry_pipelines.shared.server import TABLE_LOCK
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.postgres import ESCAPED, PASSWORD
from tests.doubles.workers import shared_journal, worker
from tests.needs import needed_module

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)
WORKERS = 8


def together(work: Callable[[int], None]) -> None:
    """Do it in several threads that start at the same moment; the first failure is raised."""
    start = Barrier(WORKERS)

    def run(at: int) -> None:
        start.wait()
        work(at)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run, range(WORKERS)))


def test_journal_keeps_uploads_manifests_and_holdings(
    postgres_url: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    place = target.place("app")
    first, second = shared_journal(postgres_url), shared_journal(postgres_url)
    first.record(place, LAYER, UploadSession("app", "http://x/upload", 4096))
    assert second.resume(place, LAYER) is None
    first.close()
    session = second.resume(place, LAYER)
    assert session is not None
    assert session.offset == 4096
    second.hold(place, [LAYER.digest])
    assert second.holders(target.address, [LAYER.digest]) == {LAYER.digest: "app"}
    second.close()
    graphs.image(source.place("app"), graphs.noise(20_000_000), tag="v1")
    copy_closure(source.place("app"), "v1", [place], engine=Engine(state=tmp_path, shared=worker(postgres_url)))
    assert compare(source.place("app"), place, "v1", content=True) == []
    assert not (tmp_path / "transfers.sqlite").exists()


def test_a_worker_that_starts_while_another_makes_the_tables_waits_for_it(postgres_url: str) -> None:
    """Postgres' own IF NOT EXISTS fails here: it looks before the other's table can be seen."""
    psycopg = needed_module("psycopg", "postgres")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(postgres_url, autocommit=True) as watch, psycopg.connect(postgres_url) as database:
            database.execute("SELECT pg_advisory_xact_lock(%s)", [TABLE_LOCK])
            database.execute(
                "CREATE TABLE holdings (registry TEXT, digest TEXT, repository TEXT, PRIMARY KEY (registry))"
            )
            opened = pool.submit(shared_journal, postgres_url)
            while not watch.execute(waiting).fetchone()[0]:
                assert not opened.done()
        journal = opened.result()
    assert journal.holders("nowhere", [Digest.of(b"nothing")]) == {}
    journal.close()


def test_workers_that_hold_the_same_blobs_do_not_end_each_other(postgres_url: str, target: Counted) -> None:
    journals = [shared_journal(postgres_url) for _ in range(WORKERS)]
    digests = [Digest.of(str(at).encode()) for at in range(300)]
    together(lambda at: journals[at].hold(target.place("app"), digests[:: 1 if at % 2 else -1]))
    assert journals[0].holders(target.address, digests) == dict.fromkeys(digests, "app")
    for each in journals:
        each.close()


def test_connections_that_were_cut_are_made_anew(postgres_url: str, target: Counted) -> None:
    journal = shared_journal(postgres_url)
    with needed_module("psycopg", "postgres").connect(postgres_url) as database:
        cut = database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"  # Postgres' own clean up in any database now and then
        ).fetchall()
    assert cut == [(True,)]
    journal.hold(target.place("app"), [LAYER.digest])
    journal.close()


def test_a_statement_that_fails_is_our_error_and_shows_no_upload(postgres_url: str, target: Counted) -> None:
    """An upload's address can be a secret: whoever has it can write there."""
    journal, token = shared_journal(postgres_url), "token" * 3
    with pytest.raises(LocalError, match="database cannot be used") as caught:
        journal.record(target.place("app"), LAYER, UploadSession("app", f"http://x/{token}\0", 1))
    assert token not in told(caught.value)
    journal.close()


def told(error: BaseException) -> str:
    """All that a log can show: the error and what caused it, as Dagster prints them."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (("rd@", "rdx@"), LocalError, "password authentication failed"),
        (("host=/", "host=/nowhere/"), LocalError, "No such file"),
        (("@/", "@127.0.0.1:1/"), LocalError, "127.0.0.1"),
        (("rp:", "nobody:"), LocalError, "nobody"),
        (("%40", "@"), InputError, "cannot be read"),
        (("@/", "@here:s3cret/"), InputError, "cannot be read"),
        (("postgresql://rp:", "rp "), InputError, "cannot be read"),
    ],
)
def test_no_error_has_the_password(
    change: tuple[str, str], kind: type[Exception], message: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "START_S", 0.1)
    assert change[0] in postgres_url
    wrong = postgres_url.replace(*change)
    if "127.0.0.1" in wrong:
        wrong = wrong.partition("?")[0]
    with pytest.raises(kind, match=message) as caught:
        shared_journal(wrong)
    words = told(caught.value) + str(caught.value.diagnostics())  # type: ignore[attr-defined]
    assert not [piece for piece in (PASSWORD, ESCAPED, "s3cret", "w/rd", "w%2Frd") if piece in words]
