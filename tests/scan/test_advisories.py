"""The advisory store: every kind of source, damage, age."""

from __future__ import annotations

import io
import json
import resource
import signal
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import AdvisoriesMissing, AdvisoriesTooOld, LocalError
from registry_pipelines.scan.advisories import AdvisoryStore
from tests.scan.images import ADVISORIES


def osv(number: int, name: str = "a", *, day: str = "2024-01-01", ecosystem: str = "PyPI", **more: object) -> bytes:
    affected = [
        {
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
    ]
    return msgspec.json.encode({"id": f"T-{number}", "modified": f"{day}T00:00:00Z", "affected": affected, **more})


FILES = {
    "db/a/T-1.json": osv(1),
    "db/b/T-2.yaml": b"id: T-2\nmodified: 2024-03-01T00:00:00Z\naffected:\n- package: {ecosystem: PyPI, name: B_c}\n",
    "db/b/T-3.yml": osv(3, "B.c", withdrawn="2024-02-01T00:00:00Z"),
    "db/c/T-4.json": osv(4, "libc6", ecosystem="Debian:12"),
    "db/broken.yaml": b"id: [",
    "db/README.md": b"not a record",
    ".github/workflows/ci.yml": b"on: push",
}


def as_folder(root: Path) -> Path:
    for name, content in FILES.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "folder"


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def as_tar(root: Path) -> Path:
    return written(root / "db.tar", tar_bytes())


def as_tar_gz(root: Path) -> Path:
    with tarfile.open(root / "db.tar.gz", "w:gz") as tar:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return root / "db.tar.gz"


def as_tar_zst(root: Path) -> Path:
    return written(root / "db.tar.zst", zstandard.ZstdCompressor().compress(tar_bytes()))


def as_zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "db.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return root / "db.zip"


@pytest.mark.parametrize("make", [as_folder, as_tar, as_tar_gz, as_tar_zst, as_zip])
def test_every_source_gives_the_same_store(make: object, tmp_path: Path) -> None:
    source = make(tmp_path)  # type: ignore[operator]
    store = AdvisoryStore.load(source, tmp_path / "state")
    facts = store.facts
    assert (facts.newest, facts.records, facts.unreadable, facts.source) == ("2024-03-01T00:00:00Z", 4, 1, source.name)
    assert {name: facts.records for name, facts in store.ecosystems.items()} == {"PyPI": 3, "Debian:12": 1}
    assert [record.id for record in store.about("PyPI", "A")] == ["T-1"]
    assert [record.id for record in store.about("PyPI", "b-C")] == ["T-2"], "T-3 is withdrawn"
    assert store.about("npm", "a") == []
    (problem,) = store.problems
    assert problem.subject == "db/broken.yaml" and problem.reason


def test_an_unchanged_source_is_indexed_once_and_a_changed_one_again(tmp_path: Path) -> None:
    source, state = as_folder(tmp_path), tmp_path / "state"
    first = AdvisoryStore.load(source, state)
    (file,) = (state / "advisories").iterdir()
    inode = file.stat().st_ino
    assert AdvisoryStore.load(source, state).facts == first.facts and file.stat().st_ino == inode
    (source / "db/a/T-5.json").write_bytes(osv(5, day="2024-09-09"))
    second = AdvisoryStore.load(source, state)
    assert second.facts.newest == "2024-09-09T00:00:00Z" and second.facts.digest != first.facts.digest
    assert len(list((state / "advisories").iterdir())) == 2


def test_a_damaged_store_is_made_again(tmp_path: Path) -> None:
    source, state = as_folder(tmp_path), tmp_path / "state"
    AdvisoryStore.load(source, state).close()
    (file,) = (state / "advisories").iterdir()
    for content in (b"", b"not a database", file.read_bytes()[:5000]):
        file.write_bytes(content)
        assert AdvisoryStore.load(source, state).facts.records == 4


def test_a_store_damaged_while_open_is_our_error(tmp_path: Path) -> None:
    store = AdvisoryStore.load(as_folder(tmp_path), tmp_path / "state")
    (file,) = (tmp_path / "state" / "advisories").iterdir()
    with file.open("r+b") as stream:
        stream.write(b"\xff" * file.stat().st_size)
    with pytest.raises(AdvisoriesMissing):
        store.about("PyPI", "a")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x1f\x8bgarbage", bytes(1024)])
def test_what_is_no_source_is_missing(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesMissing, match="cannot be read"):
        AdvisoryStore.load(written(tmp_path / "x", content), tmp_path / "state")
    assert not list((tmp_path / "state" / "advisories").iterdir()), "nothing half written stays"


def test_a_folder_may_hold_archives(tmp_path: Path) -> None:
    folder = tmp_path / "osv"
    folder.mkdir()
    as_zip(folder)
    as_tar_gz(folder)
    (folder / "own.json").write_bytes(osv(9))
    store = AdvisoryStore.load(folder, tmp_path / "state")
    assert (store.facts.records, store.facts.unreadable) == (9, 2)
    assert {problem.subject for problem in store.problems} == {"db.zip/db/broken.yaml", "db.tar.gz/db/broken.yaml"}
    (folder / "db.zip").write_bytes(b"PK")
    with pytest.raises(AdvisoriesMissing, match="cannot be read"):
        AdvisoryStore.load(folder, tmp_path / "state")


def test_no_source_and_an_empty_folder_are_missing(tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesMissing, match="No such file"):
        AdvisoryStore.load(tmp_path / "nowhere", tmp_path / "state")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdvisoriesMissing, match="no readable OSV record"):
        AdvisoryStore.load(tmp_path / "empty", tmp_path / "state")


@pytest.mark.parametrize("make", [as_tar_gz, as_tar_zst, as_zip])
def test_every_truncation_is_missing(make: object, tmp_path: Path) -> None:
    raw = make(tmp_path).read_bytes()  # type: ignore[operator]
    for length in range(0, len(raw), 7):
        with pytest.raises(AdvisoriesMissing):
            AdvisoryStore.load(written(tmp_path / "cut", raw[:length]), tmp_path / "state")


def test_every_truncation_of_a_plain_tar_is_missing(tmp_path: Path) -> None:
    raw = tar_bytes()
    content = len(raw.rstrip(b"\0"))
    for length in range(0, content, 256):
        with pytest.raises(AdvisoriesMissing):
            AdvisoryStore.load(written(tmp_path / "cut", raw[:length]), tmp_path / "state")


def test_the_age_is_a_gate(tmp_path: Path) -> None:
    store = AdvisoryStore.load(as_folder(tmp_path), tmp_path / "state")
    newest = datetime(2024, 3, 1, tzinfo=UTC)
    store.require_younger(10, newest + timedelta(days=10))
    with pytest.raises(AdvisoriesTooOld, match="11 days old; 10 are permitted"):
        store.require_younger(10, newest + timedelta(days=11))
    store.require_younger(10, newest - timedelta(hours=23))
    with pytest.raises(AdvisoriesTooOld, match="future"):
        store.require_younger(10, newest - timedelta(days=2))


def test_the_shipped_set(pypa: AdvisoryStore, tmp_path: Path) -> None:
    assert (pypa.facts.records, pypa.facts.unreadable, pypa.problems) == (2661, 0, [])
    assert pypa.facts.newest.startswith("2024-10-10")
    assert pypa.facts.digest == "sha256:7d1db505d0d18e9803915d07499668d9ccbde3d8a44aede74d997387b71f6d9b"
    assert pypa.facts.source == ADVISORIES.name and list(pypa.ecosystems) == ["PyPI"]


def test_a_state_folder_that_cannot_be_written_is_a_local_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file, not a folder")
    with pytest.raises(LocalError, match="state folder cannot be written"):
        AdvisoryStore.load(ADVISORIES, tmp_path / "state")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / f"{number}.json").write_bytes(osv(number, details="x" * 230))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(LocalError):
            AdvisoryStore.load(tmp_path / "source", tmp_path / "state")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "state" / "advisories").iterdir())
    assert AdvisoryStore.load(tmp_path / "source", tmp_path / "state").facts.records == 300


def test_of_two_editions_of_a_record_the_newer_counts(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for feed, day, more in (("a", 1, {}), ("b", 2, {"withdrawn": "2024-01-02T00:00:00Z"}), ("c", 1, {})):
        (source / feed).mkdir(parents=True)
        for name, package in (("T-1", "gone"), ("T-2", "kept")):
            affected = [{"package": {"ecosystem": "PyPI", "name": package}, "versions": ["1"]}]
            changed = more if name == "T-1" else {}
            record = {"id": name, "modified": f"2024-01-0{day}T00:00:00Z", "affected": affected, **changed}
            (source / feed / f"{name}.json").write_text(json.dumps(record))
    moved = {
        "id": "T-2",
        "modified": "2024-01-03T00:00:00Z",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "x"}}],
    }
    (source / "T-2.json").write_text(json.dumps(moved))
    store = AdvisoryStore.load(source, tmp_path / "state")
    assert store.about("PyPI", "gone") == [] == store.about("PyPI", "kept")
    assert [record.modified for record in store.about("PyPI", "x")] == ["2024-01-03T00:00:00Z"]
