"""Documents: in a folder and in Postgres the same, whatever is done to them, by several workers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LocalError, StateLocked
from registry_pipelines.events.kept_lines import lines_of
from registry_pipelines.report.audit.model import Reading
from registry_pipelines.shared import stored_documents
from registry_pipelines.shared.documents import Documents, FolderDocuments, change
from tests.doubles.postgres import LostCommits
from tests.doubles.workers import worker
from tests.patience import patient, until

Open = Callable[[Path], Documents]
NAMES = st.sampled_from(["one", "a/one", "a/two", "a/b/one"])
ACTS = st.lists(
    st.tuples(st.sampled_from(["write", "replace", "stale", "delete", "local", "take"]), NAMES, st.binary(max_size=40)),
    max_size=12,
)


@pytest.fixture(params=["folder", "database"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens the documents of a folder, or of one more worker of a database whose own folder that is."""
    if request.param == "folder":
        return FolderDocuments
    url = request.getfixturevalue("postgres_url")
    return lambda folder: worker(url).documents(folder)


def test_who_stood_still_overwrites_nothing_that_another_wrote_since(postgres_url: str, tmp_path: Path) -> None:
    first, second = (worker(postgres_url) for _ in range(2))
    mine, theirs = first.documents(tmp_path / "a").under("rescan"), second.documents(tmp_path / "b").under("rescan")
    with pytest.raises(StateLocked, match="took over"), mine.held("7f.lock", "it is swept"):
        mine.write("7f.json", b"first")
        first.database.run(lambda on: on.change("UPDATE members SET silence_s = -1", {}))
        with theirs.held("7f.lock", "it is swept"):
            theirs.write("7f.json", b"second")
        for act in (lambda: mine.write("7f.json", b"old"), lambda: mine.delete("7f.json")):
            with pytest.raises(StateLocked, match="took over"):
                act()
    found = theirs.read("7f.json")
    assert found and found.content == b"second"


@settings(max_examples=15)
@given(ACTS)
def test_they_are_a_mapping_of_names_to_bytes_whatever_is_done(acts: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        held_against_a_mapping(FolderDocuments(Path(folder)), acts)


def test_in_a_database_they_are_the_same_mapping(postgres_url: str, tmp_path: Path) -> None:
    documents = worker(postgres_url).documents(tmp_path)

    @settings(max_examples=25)
    @given(ACTS)
    def run(acts: list[tuple[str, str, bytes]]) -> None:
        held_against_a_mapping(documents.under(uuid.uuid4().hex), acts)

    run()


def held_against_a_mapping(documents: Documents, acts: list[tuple[str, str, bytes]]) -> None:
    model: dict[str, bytes] = {}
    for act, name, content in acts:
        before = documents.read(name)
        assert (before.content if before else None) == model.get(name)
        if act == "write":
            documents.write(name, content)
        elif act == "replace":
            assert documents.replace(name, content, before.version if before else "")
        elif act == "stale":
            assert not documents.replace(name, content, "0" * 32)
            continue
        elif act == "delete":
            documents.delete(name)
            model.pop(name, None)
            continue
        elif act == "local":
            path = documents.local(name)
            assert (path.read_bytes() if path else None) == model.get(name)
            assert path is None or path.name == name.rpartition("/")[2]
            continue
        else:
            with documents.scratch() as folder:
                (folder / "made").write_bytes(content)
                documents.take(name, folder / "made")
            assert not folder.exists()
        model[name] = content
    for folder in ("", "a", "a/b"):
        own = {name: len(model[name]) for name in model if name.rpartition("/")[0] == folder}
        assert {f"{folder}/{each.name}".lstrip("/"): each.size for each in documents.entries(folder)} == own
    within = {name: content for name, content in model.items() if name.startswith("a/")}
    below = documents.under("a")
    assert all((found := below.read(name[2:])) and found.content == content for name, content in within.items())
    together = documents.read_all(["one", "a/one", "a/two", "a/b/one", "none", "a/none"])
    assert {name: found.content for name, found in together.items()} == model
    assert all(documents.read(name) == found for name, found in together.items())
    assert {name: found.content for name, found in below.read_all([name[2:] for name in within]).items()} == {
        name[2:]: content for name, content in within.items()
    }


def test_a_change_of_many_at_once_loses_none(opened: Open, tmp_path: Path) -> None:
    both = [opened(tmp_path), opened(tmp_path)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: change(both[number % 2], "n", lambda raw: (raw or b"") + b"x"), range(40)))
    found = both[0].read("n")
    assert found and found.content == b"x" * 40


def test_a_version_that_is_old_changes_nothing(opened: Open, tmp_path: Path) -> None:
    documents = opened(tmp_path)
    documents.write("a/note", b"1")
    first = documents.read("a/note")
    assert first
    assert documents.replace("a/note", b"2", first.version)
    assert not documents.replace("a/note", b"3", first.version) and not documents.replace("a/note", b"3", "")
    assert not documents.replace("a/note", None, first.version)
    second = documents.read("a/note")
    assert second and second.content == b"2" and second.version != first.version
    assert documents.replace("a/note", None, second.version) and documents.read("a/note") is None


def test_names_that_lead_out_and_documents_that_are_too_large_are_refused(opened: Open, tmp_path: Path) -> None:
    documents = opened(tmp_path)
    for name in ("", "/etc/passwd", "../x", "a/../../x"):
        with pytest.raises(ValueError, match="no name of a document"):
            documents.read(name)
    documents.write("large", b"x" * 1001)
    with pytest.raises(LocalError, match="large has more than 1000 bytes"):
        documents.read("large", most=1000)


def test_one_alone_does_it(opened: Open, tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    with one.held("a/lock", "another process does it"):
        with (
            pytest.raises(StateLocked, match="another process does it"),
            other.held("a/lock", "another process does it"),
        ):
            pass
        with other.held("b/lock", "nobody"):
            pass
    with other.under("a").held("lock", "nobody"):
        pass


def test_large_ones_go_in_parts_and_come_out_by_path_beside_one_another(opened: Open, tmp_path: Path) -> None:
    documents, other = opened(tmp_path), opened(tmp_path)
    content = os.urandom(9 * (1 << 20) + 7)
    documents.write("i/us.parts", b"parts")
    with documents.under("i").scratch() as folder:
        (folder / "us").write_bytes(content)
        documents.under("i").take("us", folder / "us")
    path = other.local("i/us", "i/us.parts", "i/none")
    assert path and path.read_bytes() == content
    assert path.with_name("us.parts").read_bytes() == b"parts" and not path.with_name("none").exists()
    found = other.read("i/us")
    assert found and found.content == content
    documents.write("i/us", b"small")
    again = other.local("i/us", "i/us.parts")
    assert again and again.read_bytes() == b"small"
    assert not list(tmp_path.rglob(".*")) or isinstance(documents, FolderDocuments)


def test_an_answer_that_was_lost_is_no_other_workers_change(postgres_url: str, tmp_path: Path) -> None:
    folder = postgres_url.partition("host=")[2]
    with LostCommits(folder) as proxy:
        url = postgres_url.partition("?")[0].replace("@/", f"@{proxy.address}/")
        documents = worker(url).documents(tmp_path)
        documents.write("n", b"1")
        before = documents.read("n")
        assert before
        proxy.lose(1)
        assert documents.replace("n", b"2", before.version)
        assert proxy.lost == 1
        found = documents.read("n")
        assert found and found.content == b"2"


def test_a_damaged_part_is_said(postgres_url: str, tmp_path: Path) -> None:
    shared = worker(postgres_url)
    documents = shared.documents(tmp_path)
    documents.write("n", b"what it was")
    shared.database.run(lambda on: on.change("UPDATE documents_parts SET content = :other", {"other": b"another"}))
    with pytest.raises(LocalError, match="the document n is damaged"):
        documents.read("n")
    with pytest.raises(LocalError, match="the document n is damaged"):
        documents.local("n")


WRITER = """
import sys
from pathlib import Path
from tests.doubles.workers import worker
documents = worker(sys.argv[1]).documents(Path(sys.argv[2]))
number = 0
while True:
    content = bytes([65 + number % 26]) * (10 << 20)
    documents.write("large", content)
    number += 1
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_documents_and_its_parts_go(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = worker(postgres_url)
    documents = shared.documents(tmp_path)

    def its_connections() -> Sequence[Mapping[str, Any]]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'writer'"
        return shared.database.run(lambda on: on.rows(query, {}))

    for wait in (0.0, 0.03):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, postgres_url, str(tmp_path / "other")],
            stdout=subprocess.PIPE,
            env={**os.environ, "PGAPPNAME": "writer"},
        ) as process:
            assert process.stdout and process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        until(lambda: not its_connections())  # what it had sent the server may do a moment later
        found = documents.read("large")
        assert found and len(found.content) == 10 << 20 and len(set(found.content)) == 1

    def parts() -> int:
        query = "SELECT COUNT(*) AS count FROM documents_parts"
        return int(shared.database.run(lambda on: on.rows(query, {}))[0]["count"])

    monkeypatch.setattr(stored_documents, "ORPHANS_S", -1)
    documents.write("large", b"y" * (9 << 20))
    assert parts() == 9


def test_a_copy_stays_while_its_document_changes_all_the_time(postgres_url: str, tmp_path: Path) -> None:
    one, other = worker(postgres_url).documents(tmp_path / "a"), worker(postgres_url).documents(tmp_path / "b")
    one.write("n", b"0" * 3_000_000)
    until = time.monotonic() + patient(0.3)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [one.write("n", bytes([65 + n]) * 3_000_000) for n in range(12)])
        while not writing.done() and time.monotonic() < until:
            path = other.local("n")
            assert path and len(set(path.read_bytes())) == 1
        writing.result()


def test_lines_are_read_once_by_whoever_reads_next(postgres_url: str, tmp_path: Path) -> None:
    one, other = worker(postgres_url).documents(tmp_path / "a"), worker(postgres_url).documents(tmp_path / "b")
    for documents in (one, other):
        lines_of(documents, "audit").add(b"1\n2\n")
    first = Reading()
    assert list(lines_of(other, "audit").new(first)) == [b"1\n", b"2\n"] * 2
    again = Reading(cursor=dict(first.cursor))
    lines_of(one, "audit").add(b"3\n")
    assert list(lines_of(one, "audit").new(again)) == [b"3\n"]
    assert len(other.entries("audit-lines")) == 1, "what was kept goes"
    lost = Reading()  # of whoever was killed before it kept its cursor
    assert list(lines_of(other, "audit").new(lost)) == [b"3\n"]
