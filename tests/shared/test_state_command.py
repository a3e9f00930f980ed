"""``state show`` and ``state move``: a folder of one machine becomes the state of all, once and whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain import state as state_stage
from registry_pipelines.chain.documents import documents_of
from registry_pipelines.chain.release_keys import ReleaseKeys
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.seen import SeenTags
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Silent
from registry_pipelines.release import Release
from registry_pipelines.report.audit.model import Event
from registry_pipelines.report.audit.store import AuditStore
from registry_pipelines.shared.documents import Documents, FolderDocuments
from registry_pipelines.shared.state import close_all
from tests.patience import patient, until
from tests.shared.conftest import Machines

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RELEASES = [Release("app", f"v{n}", Digest.of(str(n).encode())) for n in range(5)]
RECEIPTS = ("b", "a", "c")


def event(number: int) -> Event:
    return Event(
        time=NOW + timedelta(minutes=number), action="push", registry="us", repository="app", id=f"e{number}",
        source="hub", operation="push",
    )  # fmt: skip


def fill(machines: Machines) -> dict[str, bytes]:
    """The folder as a machine that worked alone leaves it; the documents in it."""
    state = machines.fleet.config.state
    documents = FolderDocuments(state)
    contents = {
        "collect/plans/aa.json": b"plan",
        "collect/plans/aa.json.sig": b"signature",
        "report/cost/2026-11-29.parquet": b"cost",
        "report/metrics/2026-11-29.parquet": b"numbers",
        "inventory/us.parquet": os.urandom(300_000),
        "inventory/us.parts.parquet": b"parts",
        "bases/python.json": b"[]",
        "events/ecr/told.json": b"[]",
        "events/ecr/aside/0.json": b"{}",
        "recover/nightly-drill.json": b"{}",
        "bundles/near/m/line.json": b'{"line":"x"}',
        "bundles/near/m/made/m-000001.bundle.json": b"{}",
        "bundles/far/m/far.json": b"{}",
        "rescan/0a.json": b"{}",
        "infra/ecr/owed-backfills.json": b"[]",
    }
    for name, content in contents.items():
        documents.write(name, content)
    for number, name in enumerate(RECEIPTS):
        documents.write(f"bundles/near/m/receipts/{name}.json", name.encode())
        os.utime(state / f"bundles/near/m/receipts/{name}.json", (number, number))
        contents[f"bundles/near/m/receipts/{name}.json"] = name.encode()
    for lock in ("rescan/0a.lock", "bundles/near/m/lock"):
        with documents.held(lock, "nobody"):
            pass
    ReleaseKeys(state).name(RELEASES)
    SeenTags(state / "collect" / "seen.sqlite", "us", within=timedelta(hours=1), now=NOW).recent(
        "app", {"v0": RELEASES[0].digest}
    )
    AuditStore(documents.under("report/audit")).add([event(number) for number in range(3)])
    (state / "events" / "ecr" / "audit.jsonl").write_bytes(b'{"told": 1}\n')
    return contents


def all_of(documents: Documents, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        found = documents.read(name)
        assert found and found.content == content, name


def test_a_folder_becomes_what_workers_share(machines: Machines) -> None:
    contents = fill(machines)
    state = machines.fleet.config.state
    before = {row["what"]: row["items"] for row in Chain(machines.fleet.config).show_state().rows}
    dry = machines.run("state", "move", "--to-shared", "--dry-run")
    assert dry["facts"]["items"] == len(contents) + 4 and not dry["changed"] and not (state / "moved").exists()
    assert machines.run("state", "move", code=8)["what"] == "where to move it is not said"

    done = machines.run("state", "move", "--to-shared")
    assert done["ok"] and done["changed"] and done["facts"]["items"] == len(contents) + 4
    shared = machines.config("other")
    documents = documents_of(shared)
    all_of(documents, contents)
    came = sorted(documents.entries("bundles/near/m/receipts"), key=lambda each: each.at)
    assert [each.name for each in came] == [f"{name}.json" for name in RECEIPTS], "the last that came stays the last"
    assert list(ReleaseKeys.of(shared).every().values()) == RELEASES
    assert [each.id for each in AuditStore(documents.under("report/audit")).events()] == ["e0", "e1", "e2"]
    assert len(documents.entries("events/ecr/audit-lines")) == 1
    seen = SeenTags(Session(shared, Silent()).shared.database, "us", within=timedelta(hours=1), now=NOW)  # type: ignore[union-attr]
    assert seen.recent("app", {"v0": RELEASES[0].digest}) == {}
    left = {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}
    assert {name for name in contents if name in left} == set()
    assert all((state / "moved" / name).read_bytes() == content for name, content in contents.items())
    caches = Session(shared, Silent()).shared.caches  # type: ignore[union-attr]
    caches.keep_value("test/v1", "one", os.urandom(100))
    assert caches.settle()
    close_all()

    again = machines.run("state", "move", "--to-shared")
    assert again["ok"] and not again["changed"] and again["action"] == "unchanged"
    told = machines.run("state", "show")
    after = {row["what"]: row["items"] for row in told["rows"]}
    assert {what for what, count in before.items() if count} <= {what for what, count in after.items() if count}
    assert [row["self"] for row in told["tables"]["workers"]] == [True], "those that ended are no rows"
    assert any("ended within a day" in note for note in told["notes"])
    assert [(row["kind"], row["entries"], row["in_store"]) for row in told["tables"]["caches"]] == [("test/v1", 1, 0)]
    assert told["action"] == "shared by workers" and machines.url.partition("@")[0] not in json.dumps(told)


def test_what_workers_have_otherwise_stays_as_they_have_it(machines: Machines) -> None:
    fill(machines)
    state = machines.fleet.config.state
    documents = documents_of(machines.config("other"))
    documents.write("bases/python.json", b"[1]")
    AuditStore(documents.under("report/audit")).add([event(1), event(7)])
    ReleaseKeys.of(machines.config("other")).name(RELEASES[3:])
    done = machines.run("state", "move", "--to-shared", code=9)
    assert done["reasons"] == ["bases/python.json is there with another content, which workers use; the file stays"]
    assert done["action"].endswith(" moved; 1 file left") and done["facts"]["items"] and done["facts"]["differ"] == 1
    again = machines.run("state", "move", "--to-shared", code=9)
    assert (again["action"], again["facts"]["items"], again["changed"]) == ("nothing moved; 1 file left", 0, False)
    assert (state / "bases" / "python.json").read_bytes() == b"[]"
    documents = documents_of(machines.config("other"))
    assert (found := documents.read("bases/python.json")) and found.content == b"[1]"
    assert [each.id for each in AuditStore(documents.under("report/audit")).events()] == ["e0", "e1", "e2", "e7"]
    assert set(ReleaseKeys.of(machines.config("other")).every().values()) == set(RELEASES)


def test_a_folder_in_which_somebody_works_is_not_moved(machines: Machines) -> None:
    contents = fill(machines)
    with FolderDocuments(machines.fleet.config.state).held("rescan/7f.lock", "it is swept"):
        told = machines.run("state", "move", "--to-shared", code=9)
    assert told["what"] == "another process works in the folder, and holds rescan/7f.lock"
    assert documents_of(machines.config("other")).entries("bases") == []
    assert all((machines.fleet.config.state / name).exists() for name in contents)


def test_what_somebody_writes_while_a_file_is_moved_comes_along(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the move a new plan comes, and more lines."""
    fill(machines)
    state = machines.fleet.config.state
    put_aside = state_stage._put_aside

    def late(folder: Path, name: str, path: Path) -> Path:
        if name == "bases/python.json":
            path.write_bytes(b"[2]")
        if name.endswith(".jsonl"):
            path.write_bytes(path.read_bytes() + event_line(9))
        return put_aside(folder, name, path)

    monkeypatch.setattr(state_stage, "_put_aside", late)
    done = machines.run("state", "move", "--to-shared", code=9)
    assert done["reasons"] == ["bases/python.json is there with another content, which workers use; the file stays"]
    assert (state / "bases" / "python.json").read_bytes() == b"[2]"
    documents = documents_of(machines.config("other")).under("events/ecr/audit-lines")
    kept = b"".join(found.content for each in documents.entries() if (found := documents.read(each.name)))
    assert event_line(9) in kept


def event_line(number: int) -> bytes:
    return b'{"id": "e%d"}\n' % number


MOVE = """
import sys
from pathlib import Path
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
print(Chain(load(Path(sys.argv[1]), {"STATE_DATABASE": sys.argv[2]})).move_state().action, flush=True)
"""


@pytest.mark.long
def test_a_move_that_is_killed_anywhere_goes_on(machines: Machines) -> None:
    contents = fill(machines)
    state = machines.fleet.config.state
    for number in range(80):
        contents[f"rescan/{number:03}.packages"] = os.urandom(2000)
        FolderDocuments(state).write(f"rescan/{number:03}.packages", contents[f"rescan/{number:03}.packages"])
    path = machines.config("other").path
    path.write_text(path.read_text().replace("shared: {", "shared: {silence: 2s, "))
    command = [sys.executable, "-c", MOVE, str(path), machines.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        until(lambda: process.poll() is not None or len(list((state / "moved").rglob("*"))) >= 40)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    time.sleep(2.2)  # its lease is anybody's then
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patient(60))
    assert "moved" in done.stdout or done.stdout == "unchanged\n"
    all_of(documents_of(machines.config("third")), contents)
    assert len(AuditStore(documents_of(machines.config("third")).under("report/audit")).days()) == 1
    assert not [path for path in (state / "rescan").iterdir() if path.suffix == ".packages"]


def test_nothing_shared_is_said(machines: Machines) -> None:
    with pytest.raises(InputError, match="the configuration shares no state"):
        Chain(machines.fleet.config).move_state()
    shown = Chain(machines.fleet.config).show_state()
    assert shown.action == "in a folder of this machine" and not shown.tables
