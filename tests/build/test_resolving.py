from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_LZMA, ZIP_STORED

import pytest

from registry_pipelines import caches
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.c_library import stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.pip_process import Fetched
from registry_pipelines.build.pip_question import Question
from registry_pipelines.build.requirement_lines import redacted
from registry_pipelines.build.resolving import StoredWheel, resolve
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel_store import WheelStore, read_sha256
from registry_pipelines.errors import LocalError, RequirementsInvalid, Unavailable, WheelInvalid
from registry_pipelines.oci.platforms import Platform
from tests.build.wheels import make_wheel
from tests.patience import patient
from tests.ports import free_ports

HERE = Platform.here()
OWN = WheelTarget(HERE, RUNNING_PYTHON)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "leaf", "1.0")
    make_wheel(folder, "leaf", "2.0")
    make_wheel(folder, "top", "1.0", requires=("leaf<2",))
    return folder


class Resolver:
    def __init__(self, state: Path, wheels: Path) -> None:
        self.store = WheelStore(state / "wheels")
        self.cache = BuildCache(state / "cache.sqlite")
        self.wheels = wheels

    def __call__(self, *lines: str, target: WheelTarget = OWN) -> list[StoredWheel]:
        spec = BuildSpec(name="x", requirements=lines, wheels=self.wheels)
        return resolve(spec, target, store=self.store, cache=self.cache)


@pytest.fixture
def resolver(tmp_path: Path, wheels: Path) -> Iterator[Resolver]:
    made = Resolver(tmp_path / "state", wheels)
    yield made
    made.cache.close()


def test_pip_decides_and_hashes_are_pinned(resolver: Resolver) -> None:
    wheels = resolver("top")
    assert [(wheel.locked.name, wheel.locked.version) for wheel in wheels] == [("leaf", "1.0"), ("top", "1.0")]
    for wheel in wheels:
        assert read_sha256(wheel.path) == wheel.locked.sha256
        assert wheel.locked.purl == f"pkg:pypi/{wheel.locked.name}@1.0"


def test_loose_requirements_are_asked_again(resolver: Resolver) -> None:
    assert resolver("leaf")[0].locked.version == "2.0"
    make_wheel(resolver.wheels, "leaf", "3.0")
    assert resolver("leaf")[0].locked.version == "3.0"


def test_complete_pins_are_not_asked_again(resolver: Resolver) -> None:
    first = resolver("top==1.0", "leaf==1.0")
    for path in resolver.wheels.iterdir():
        path.unlink()
    assert resolver("top==1.0", "leaf==1.0") == first
    with pytest.raises(RequirementsInvalid):
        resolver("top==1.0")


def test_folders_that_pip_removes_while_they_are_looked_at_end_nothing(tmp_path: Path) -> None:
    """The thread that looks would end, with a stack trace in the middle of a build."""
    looked = threading.Event()
    folders = [tmp_path / "look" / name for name in "abc"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.whl").write_bytes(b"wheel")

    def removes(_: int) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        looked.set()

    with Fetched(tmp_path / "look", removes).looking():
        assert looked.wait(patient(30))


def test_an_index_that_does_not_answer_is_no_fault_of_the_requirements(
    tmp_path: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "1")
    [port] = free_ports(1)
    spec = BuildSpec(name="x", requirements=(f"--index-url http://127.0.0.1:{port}/simple", "leaf"))
    with pytest.raises(Unavailable, match=r"an index did not answer pip: .*Connection refused"):
        resolve(spec, OWN, store=resolver.store, cache=resolver.cache)


@pytest.mark.parametrize(
    "lines", [("nothing-like-this",), ("leaf==9",), ("top", "leaf==2.0"), ("this is no requirement",)]
)
def test_what_cannot_be_resolved_is_said_in_pips_words(resolver: Resolver, lines: tuple[str, ...]) -> None:
    with pytest.raises(RequirementsInvalid, match=r"pip found no set of wheels: (?s:.*)ERROR") as caught:
        resolver(*lines)
    assert str(resolver.wheels) in caught.value.do, "a folder that is the only source is what to look at"


def test_source_distributions_are_not_taken(resolver: Resolver) -> None:
    (resolver.wheels / "source-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(RequirementsInvalid, match="source"):
        resolver("source")


def test_wheels_of_another_platform_and_python_are_found(resolver: Resolver) -> None:
    make_wheel(resolver.wheels, "native", tag="cp312-cp312-manylinux_2_28_aarch64")
    glibc = stated_c_library("glibc-2.28")
    wheels = resolver("native", target=WheelTarget(Platform.parse("linux/arm64"), "3.12", glibc))
    assert wheels[0].locked.filename == "native-1.0-cp312-cp312-manylinux_2_28_aarch64.whl"
    with pytest.raises(RequirementsInvalid, match="linux/amd64"):
        resolver("native", target=WheelTarget(Platform.parse("linux/amd64"), "3.12", glibc))
    with pytest.raises(RequirementsInvalid, match="no wheels for windows/amd64"):
        WheelTarget(Platform.parse("windows/amd64"), "3.12", glibc)


def test_a_wheel_that_is_not_its_hash_is_never_kept(tmp_path: Path, wheels: Path) -> None:
    store = WheelStore(tmp_path / "store")
    path = next(wheels.glob("top*"))
    with pytest.raises(WheelInvalid, match="expected 0000"):
        store.take(path, "0" * 64)
    assert store.find("0" * 64, path.name) is None


def test_a_wheel_that_was_read_ahead_is_not_read_again(tmp_path: Path) -> None:
    read: list[str] = []

    class Counted(type(tmp_path)):  # type: ignore[misc]
        def open(self, *arguments: Any, **options: Any) -> Any:
            read.append(self.name)
            return super().open(*arguments, **options)

    names = ("first.whl", "missing.whl", "second.whl", "given-up.whl")
    files = {name: Counted(tmp_path / name) for name in names}
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    files["missing.whl"].unlink()
    done, over = threading.Event(), threading.Event()

    def ahead() -> Iterator[Path]:
        yield from (files[name] for name in names[:3])
        done.set()

    with contextlib.closing(BuildCache(tmp_path / "cache.sqlite")) as cache:
        store = WheelStore(tmp_path / "store", cache)
        with store.reading_ahead(ahead()):
            assert done.wait(patient(60))
        over.set()
        assert store.sha256(files["given-up.whl"], over) == ""
        for name in ("first.whl", "second.whl", "given-up.whl"):
            assert store.sha256(files[name]) == hashlib.sha256(name.encode()).hexdigest()
    assert read == ["first.whl", "second.whl", "given-up.whl", "given-up.whl"]


def test_only_wheels_that_fit_are_read_ahead_the_largest_first(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    for name, tag, size in (
        ("small", "py3-none-any", 10),
        ("large", "py3-none-any", 5000),
        ("other", "cp27-cp27m-win32", 1),
    ):
        make_wheel(folder, name, tag=tag, files={f"{name}.py": os.urandom(size)})
    for name in ("source-1.0.tar.gz", "nameless.whl", "large-first-py3-none-any.whl"):
        (folder / name).write_bytes(b"")
    spec = BuildSpec(name="x", requirements=("large",), wheels=folder)
    question = Question(spec, OWN, tmp_path / "asked")
    assert [path.name for path in question.likely_wheels()] == [
        "large-1.0-py3-none-any.whl",
        "small-1.0-py3-none-any.whl",
    ]
    more = BuildSpec(name="x", requirements=("large",), wheels=folder, find_links=(str(tmp_path),))
    assert Question(more, OWN, tmp_path / "asked").likely_wheels() == []


def test_passwords_in_pips_output_are_not_repeated(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(RequirementsInvalid) as caught:
        resolver("absent")
    assert "hunter2" not in str(caught.value)


def test_an_unreadable_requirements_file_is_named(resolver: Resolver, tmp_path: Path) -> None:
    spec = BuildSpec(name="x", requirements_file=tmp_path / "gone.txt")
    with pytest.raises(RequirementsInvalid, match=r"gone\.txt: .* cannot be read: No such file or directory$"):
        resolve(spec, WheelTarget(HERE, RUNNING_PYTHON), store=resolver.store, cache=resolver.cache)


def test_a_cache_that_is_no_database_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    cache = BuildCache(path)
    cache.remember_note("a", {"b": 1})
    assert cache.note("a") == {"b": 1}
    cache.close()


def test_scratch_folders_of_killed_builds_are_removed_a_day_later(resolver: Resolver) -> None:
    old, new = (resolver.store.root / f"resolve-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
    os.utime(old, (0, 0))
    resolver.store.sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_stored_wheel_that_was_rewritten_through_its_other_name_is_not_found(resolver: Resolver) -> None:
    [wheel] = resolver("leaf==1.0")
    mine = resolver.wheels / wheel.locked.filename
    mine.write_bytes(b"other content")
    mine.unlink()
    assert resolver.store.find(wheel.locked.sha256, wheel.locked.filename) is None
    with pytest.raises(RequirementsInvalid):
        resolver("leaf==1.0")


def test_a_wheel_that_is_a_link_to_a_file_of_another_name_is_built(resolver: Resolver, tmp_path: Path) -> None:
    wheel = make_wheel(resolver.wheels, "linked", "1.0")
    blob = tmp_path / "blob"
    wheel.rename(blob)
    wheel.symlink_to(blob)
    [stored] = resolver("linked")
    assert (stored.path.name, read_sha256(stored.path)) == (wheel.name, read_sha256(blob))


def test_a_variable_in_a_line_is_part_of_the_question(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.0", "2.0"):
        monkeypatch.setenv("LEAF", version)
        assert resolver("leaf<=${LEAF}")[0].locked.version == version


def test_a_wheel_named_by_its_path_is_looked_at_again(resolver: Resolver, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "elsewhere", "own", "1.0")
    assert resolver(str(wheel))[0].locked.sha256 == read_sha256(wheel)
    wheel.unlink()
    make_wheel(tmp_path / "elsewhere", "own", "1.0", files={"own/new.py": b"new = True\n"})
    assert resolver(str(wheel))[0].locked.sha256 == read_sha256(wheel)
    assert resolver(f"own @ {wheel.as_uri()}")[0].locked.sha256 == read_sha256(wheel)


def test_files_that_a_constraint_file_of_the_environment_names_are_part_of_the_question(
    resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, inner = tmp_path / "outer.txt", tmp_path / "inner.txt"
    outer.write_text("-c inner.txt\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(outer))
    for version in ("1.0", "2.0"):
        inner.write_text(f"leaf=={version}\n")
        assert resolver("leaf")[0].locked.version == version


def test_a_wheel_of_the_folder_that_was_rewritten_within_its_times_is_seen(resolver: Resolver) -> None:
    path = make_wheel(resolver.wheels, "own", "1.0", files={"own/new.py": b"new = 1\n"}, compression=ZIP_STORED)
    before = path.stat()
    resolver("own")
    changed = {"own/new.py": b"new = 2\n"}
    other = make_wheel(resolver.wheels.parent / "other", "own", "1.0", files=changed, compression=ZIP_STORED)
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert resolver("own")[0].locked.sha256 == read_sha256(other)


@pytest.mark.parametrize("password", ["p@ss", "a/b", "a@b@c"])
def test_sloppy_passwords_are_not_told_in_part(password: str) -> None:
    told = redacted(f"--index-url https://me:{password}@127.0.0.1/simple is refused")
    assert told == "--index-url https://127.0.0.1/simple is refused"


@pytest.mark.parametrize(
    "line", ["foo @ http://[x/foo.whl", "--find-links http://[x", "-r http://[x/a", "http://[x/y.whl"]
)
def test_an_address_that_is_none_is_named(resolver: Resolver, line: str) -> None:
    with pytest.raises(RequirementsInvalid, match="cannot be read"):
        resolver(line)


def test_a_stored_copy_gives_way_to_a_wheel_built_anew_under_its_version(resolver: Resolver) -> None:
    path = make_wheel(resolver.wheels, "own", "1.0", files={"own/new.py": b"new = 1\n"})
    [stored] = resolver("own==1.0")
    content = stored.path.read_bytes()  # as on a file system without links
    stored.path.unlink()
    stored.path.write_bytes(content)
    make_wheel(resolver.wheels, "own", "1.0", files={"own/new.py": b"new = 2\n"})
    assert resolver("own==1.0")[0].locked.sha256 == read_sha256(path)


def test_a_stored_wheel_that_is_written_to_beside_the_work_is_refused(resolver: Resolver) -> None:
    [wheel] = resolver("leaf==1.0")
    resolver.store.verify(wheel.path, wheel.locked.sha256)
    wheel.path.write_bytes(b"other content")
    with pytest.raises(WheelInvalid, match="its sha256 is"):
        resolver.store.verify(wheel.path, wheel.locked.sha256)
    assert not wheel.path.exists()


def test_signatures_in_addresses_are_not_told() -> None:
    told = redacted("own @ https://host.example/own-1.0-py3-none-any.whl?sig=secret#sha256=ab ; python_version > '3'")
    assert told == "own @ https://host.example/own-1.0-py3-none-any.whl#sha256=ab ; python_version > '3'"


def test_a_damaged_wheel_beside_those_that_are_wanted_changes_nothing(resolver: Resolver) -> None:
    damaged = make_wheel(resolver.wheels, "damaged", "1.0", compression=ZIP_LZMA, metadata=b"Name: damaged\n" * 99)
    raw = bytearray(damaged.read_bytes())
    begin = raw.index(b"METADATA") + len(b"METADATA") + 20
    raw[begin : begin + 8] = bytes(value ^ 255 for value in raw[begin : begin + 8])
    damaged.write_bytes(raw)
    assert resolver("leaf==1.0")[0].locked.version == "1.0"


def test_a_cache_that_another_build_holds_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.sqlite"
    BuildCache(path).close()
    monkeypatch.setattr(caches, "_WAIT_FOR_LOCK_S", 0.01)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LocalError, match="locked"):
            BuildCache(path)
        assert path.exists()
        other.execute("ROLLBACK")
