"""Who may take over an upload: containers with one host name, killed workers, silent ones, those that ended well."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry_pipelines.errors import StateLocked
from registry_pipelines.registry.protocol import UploadSession
from registry_pipelines.settings import Duration
from registry_pipelines.transfer.blob import owners
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.owners import OWNERS
from registry_pipelines.transfer.blob.sinks import JOURNAL_FILE
from tests.doubles.workers import shared_journal, worker
from tests.needs import missing, needed_module
from tests.patience import patient
from tests.transfer.blob.owned_upload import LAYER

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted

PROGRAM = "tests.transfer.blob.owned_upload"
CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Process ids of its own, and our host name."""

Start = Callable[[str, Path | None], subprocess.Popen[str]]


@pytest.fixture
def start_container(target: Counted) -> Iterator[Start]:
    """Start a worker in a container; it has recorded an upload when this returns."""
    with ExitStack() as stack:

        def start(url: str, folder: Path | None) -> subprocess.Popen[str]:
            if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
                missing("nobody may make containers (unshare) here")
            command = [*CONTAINER, sys.executable, "-m", PROGRAM, url, str(folder or "-"), target.address]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(end, process)
            assert process.stdout is not None
            assert process.stdout.readline() == "recorded\n"
            return process

        yield start


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, with what runs in it."""
    if process.returncode is None:
        process.kill()
        process.communicate()


def takes_over(url: str, folder: Path | None, target: Counted) -> bool:
    """Whether a new worker here goes on with the upload."""
    shared = worker(url) if "postgres" in url else None
    journal = Journal.on(shared, folder) if shared else Journal.at(folder or Path())
    try:
        return journal.resume(target.place("app"), LAYER) is not None
    finally:
        journal.close()
        if shared:
            shared.close()


def test_containers_with_one_host_name_and_folders_of_their_own(
    postgres_url: str, start_container: Start, target: Counted, tmp_path: Path
) -> None:
    """Neither sees the other's processes; the killed one is taken for alive until it has been silent for a lease."""
    process = start_container(postgres_url, tmp_path / "theirs")
    assert not takes_over(postgres_url, tmp_path / "ours", target)
    end(process)
    assert not takes_over(postgres_url, tmp_path / "ours", target)
    be_silent(postgres_url)
    assert takes_over(postgres_url, tmp_path / "ours", target)


@pytest.mark.parametrize("postgres", [False, True])
def test_containers_that_share_a_folder_know_at_once(
    request: pytest.FixtureRequest, start_container: Start, target: Counted, tmp_path: Path, postgres: bool
) -> None:
    """As one that is started again after a crash, with its volume: silent for long is not dead, killed is dead at
    once."""
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path / JOURNAL_FILE}"
    process = start_container(url, tmp_path)
    be_silent(url)
    assert not takes_over(url, tmp_path, target)
    end(process)
    [lock] = (tmp_path / OWNERS).glob("*.lock")
    with lock.open("rb") as another:  # asks at the same moment
        fcntl.flock(another, fcntl.LOCK_SH)
        assert takes_over(url, tmp_path, target)


def test_a_living_worker_says_so_though_nothing_is_confirmed_for_long(postgres_url: str, target: Counted) -> None:
    """A commit may take longer than the silence that is accepted; then two would send into one upload."""
    first = Journal.on(worker(postgres_url, silence=Duration(seconds=3)))
    first.record(target.place("app"), LAYER, UploadSession("app", "http://x/upload", 4))
    change(postgres_url, "members SET seen = seen - 1000, silence_s = 60")
    until = time.monotonic() + patient(30)
    while age_s(postgres_url) >= 60:
        assert time.monotonic() < until, "it gave no sign of life"
        time.sleep(0.05)
    assert not takes_over(postgres_url, None, target)
    first.close()
    assert takes_over(postgres_url, None, target), "who ends well leaves his uploads to others"


def test_an_owner_of_an_older_version_is_judged_by_when_it_wrote(
    postgres_url: str, target: Counted, tmp_path: Path
) -> None:
    first = shared_journal(postgres_url)
    first.record(target.place("app"), LAYER, UploadSession("app", "http://x/upload", 4))
    change(postgres_url, "uploads SET owner = 'host/1/77/../../x'")
    assert not takes_over(postgres_url, tmp_path, target)
    change(postgres_url, f"uploads SET updated_at = updated_at - {owners.LEASE_S + 1}")
    assert takes_over(postgres_url, tmp_path, target)
    first.close()


def test_who_was_taken_for_dead_does_not_write_into_the_upload_again(postgres_url: str, target: Counted) -> None:
    """As a worker that stood still: what it says of the offset would be wrong for the other."""
    first = shared_journal(postgres_url)
    first.record(target.place("app"), LAYER, UploadSession("app", "http://x/upload", 4))
    be_silent(postgres_url)
    second = shared_journal(postgres_url)
    assert second.resume(target.place("app"), LAYER) is not None
    with pytest.raises(StateLocked, match="another worker took over the upload"):
        first.record(target.place("app"), LAYER, UploadSession("app", "http://x/upload", 5))
    first.forget(target.place("app"), LAYER.digest)
    second.record(target.place("app"), LAYER, UploadSession("app", "http://x/upload", 6))
    first.close()
    second.close()
    session = shared_journal(postgres_url).resume(target.place("app"), LAYER)
    assert session is not None and session.offset == 6


def be_silent(url: str) -> None:
    """As if every owner had written last long ago; a server that is up for seconds believes no silence of more."""
    if "postgres" in url:
        change(url, "members SET silence_s = 0.001")
    else:
        change(url, "uploads SET updated_at = strftime('%s', 'now') - 3000")


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A transaction beside the journal."""
    if "postgres" in url:
        database: Any = needed_module("psycopg", "postgres").connect(url)
    else:
        database = sqlite3.connect(url.removeprefix("sqlite:///"))
    with closing(database), database:
        yield database


def change(url: str, what: str) -> None:
    with connected(url) as database:
        assert database.execute(f"UPDATE {what}").rowcount


def age_s(url: str) -> float:
    with connected(url) as database:
        row = database.execute("SELECT extract(epoch from now()) - seen FROM members").fetchone()
        return float(row[0])
