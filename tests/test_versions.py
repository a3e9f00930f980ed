"""Versions of what is stored: taken over when there is none, refused when it is newer, and then nothing is touched."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.build.cache import BuildCache
from registry_pipelines.errors import StateTooNew
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.sinks import JOURNAL_FILE
from registry_pipelines.versions import STATE_VERSION, VERSION_FILE, claim_state
from tests.answers import answered
from tests.chain.fleet import write_config
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.workers import shared_journal
from tests.needs import needed_module
from tests.patience import patient

JOURNAL_OF_785DCED = """\
CREATE TABLE uploads (
    id VARCHAR(32) NOT NULL PRIMARY KEY, registry TEXT NOT NULL, repository TEXT NOT NULL,
    digest VARCHAR(140) NOT NULL, location TEXT NOT NULL, offset_bytes BIGINT NOT NULL,
    min_chunk_bytes BIGINT NOT NULL, owner TEXT NOT NULL, updated_at FLOAT NOT NULL);
CREATE INDEX uploads_by_blob ON uploads (registry, repository, digest);
CREATE TABLE holdings (
    registry TEXT NOT NULL, digest VARCHAR(140) NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (registry, digest));
INSERT INTO uploads VALUES ('a', 'far.example', 'app', '{digest}', 'https://far.example/u', 4096, 0, '', {now});
INSERT INTO holdings VALUES ('far.example', '{digest}', 'other');
"""
"""Of builds before there were versions, with an open upload and a holding."""

BLOB = Digest.of(b"blob")
PLACE = Place(DistributionRegistry("far.example"), "app")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def goes_on(journal: Journal) -> None:
    """It has what the old build left."""
    session = journal.resume(PLACE, Descriptor(media_type="x", digest=BLOB, size=5000))
    assert session is not None and session.offset == 4096
    assert journal.holders("far.example", [BLOB]) == {BLOB: "other"}
    journal.close()


@pytest.fixture
def old() -> Iterator[str]:
    yield JOURNAL_OF_785DCED.format(digest=BLOB, now=time.time())


def test_a_folder_gets_its_version_once(tmp_path: Path) -> None:
    for _ in range(2):
        claim_state(tmp_path / "state")
    assert snapshot(tmp_path / "state") == {VERSION_FILE: b"1\n"}


def test_a_full_disk_ends_nothing_that_needs_no_state(tmp_path: Path) -> None:
    """An older build left the folder; the command reads registries alone. A limit on files acts as a full disk."""
    code = "import sys, pathlib, resource, signal; from registry_pipelines import versions as v; "
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
    code += "v.claim_state(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=patient(30))
    assert (done.returncode, done.stderr, snapshot(tmp_path)) == (0, b"", {})


def test_many_that_start_at_once_write_one_version(tmp_path: Path) -> None:
    code = "import sys, pathlib; from registry_pipelines import versions as v; v.claim_state(pathlib.Path(sys.argv[1]))"
    state = tmp_path / "state"
    started = [subprocess.Popen([sys.executable, "-c", code, str(state)]) for _ in range(4)]
    assert [each.wait(patient(30)) for each in started] == [0] * 4
    assert snapshot(state) == {VERSION_FILE: b"1\n"}


@pytest.mark.parametrize("found", [str(STATE_VERSION + 1), "", "one", "-1", "9" * 5000, "\xff\x00"])
def test_a_version_that_this_build_does_not_know_is_refused(found: str, tmp_path: Path) -> None:
    (tmp_path / VERSION_FILE).write_text(found)
    with pytest.raises(StateTooNew, match="this build knows 1"):
        claim_state(tmp_path)


def test_an_empty_version_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / VERSION_FILE).write_text("\n")
    with pytest.raises(StateTooNew, match=r"is empty; .* Write 1 into it"):
        claim_state(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        ["releases"],
        ["build"],
        ["serve"],
        ["dev"],
        ["demo"],
        ["copy", "us/a:1", "eu/a"],
        ["sync", "us", "eu"],
        ["collect", "plan"],
        ["inspect", "us/a:1"],
    ],
    ids=lambda words: words[0],
)
def test_no_command_touches_the_state_of_a_newer_build(command: list[str], tmp_path: Path) -> None:
    path = write_config(tmp_path)
    state = tmp_path / ".registry-pipelines"
    state.mkdir()
    (state / VERSION_FILE).write_text("2\n")
    before = snapshot(tmp_path)
    done = subprocess.run(
        [*PROGRAM, *command, "--json", "--config", str(path)], capture_output=True, text=True, timeout=patient(60)
    )
    assert done.returncode == 9, done.stderr
    told = answered(done.stdout)["error"]
    assert told["where"] == str(state / VERSION_FILE) and "newer Registry Pipelines" in told["do"]
    assert snapshot(tmp_path) == before


def test_a_journal_without_a_version_is_taken_over(old: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / JOURNAL_FILE) as database:
        database.executescript(old)
    database.close()
    goes_on(Journal.at(tmp_path))
    with sqlite3.connect(tmp_path / JOURNAL_FILE) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize(
    "opened", [Journal.at, lambda folder: BuildCache(folder / JOURNAL_FILE)], ids=["journal", "build"]
)
def test_a_newer_file_is_refused_as_it_is(opened: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    database = sqlite3.connect(path)
    database.executescript("CREATE TABLE another (x); PRAGMA user_version = 2")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StateTooNew, match="version 2, this build knows 1"):
        opened(tmp_path)
    assert path.read_bytes() == before


def test_a_shared_journal_without_a_version_is_taken_over(old: str, postgres_url: str) -> None:
    psycopg = needed_module("psycopg", "postgres")
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute(old)
    goes_on(shared_journal(postgres_url))
    with psycopg.connect(postgres_url) as database:
        assert database.execute("SELECT version FROM journal_version").fetchall() == [(2,)]


def test_a_newer_shared_journal_is_refused_as_it_is(postgres_url: str) -> None:
    psycopg = needed_module("psycopg", "postgres")
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute("CREATE TABLE journal_version (version INTEGER NOT NULL)")
        database.execute("INSERT INTO journal_version VALUES (3)")
        with pytest.raises(StateTooNew, match=r"layout 3, and this worker's build .* knows 2"):
            shared_journal(postgres_url)
        # The server ends a connection's process after the client let it go; its own processes are none of ours.
        others, until = -1, time.monotonic() + patient(10)
        while others and time.monotonic() < until:
            [(others,)] = database.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
        assert others == 0, "the refused one left its connection open"
        tables = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("journal_version",)]
