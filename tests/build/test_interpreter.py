from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.build.content import content_job
from registry_pipelines.build.elf import Loader, read_cache, read_elf
from registry_pipelines.build.interpreter import EXTRA_LIBRARIES, interpreter_items
from registry_pipelines.errors import LocalError
from tests.build.layers import unpack, written
from tests.needs import missing

PROGRAM = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def in_root(root: Path, *command: str) -> str:
    """Run with nothing but the root: as root, or as root of an own user namespace."""
    if os.getuid() != 0 and not shutil.which("unshare"):
        missing("only root, or root of an own user namespace, can run in another root folder")
    own = [] if os.getuid() == 0 else ["unshare", "--map-root-user"]
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin") or "chroot"
    done = subprocess.run(
        [*own, chroot, root, *command], env={"PATH": "/usr/local/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter base, unpacked."""
    folder = tmp_path_factory.mktemp("root")
    for name, items in zip(("system", "python"), interpreter_items(), strict=True):
        job = content_job(name, items, byte_code=name == "python")
        raw, _ = written(lambda writer, job=job: job.write(writer, lambda count: None))  # type: ignore[misc]
        unpack(raw, folder)
    return folder


def test_the_interpreter_starts_from_the_root_alone(root: Path) -> None:
    code = (
        "import sys, json, ssl, sqlite3, ctypes, hashlib, socket, asyncio, lzma, bz2, decimal, uuid, zoneinfo, logging;"
        "print(json.dumps({'prefix': sys.prefix, 'version': sys.version, 'cached': json.__cached__,"
        "'authorities': ssl.create_default_context().cert_store_stats()['x509_ca'], 'path': sys.path}))"
    )
    told = json.loads(in_root(root, "/usr/local/bin/python3", "-c", code))
    assert told["prefix"] == "/usr/local"
    assert told["version"] == sys.version
    assert told["cached"].startswith("/usr/local/lib")
    assert told["authorities"] > 50
    assert all(path.startswith("/usr/local") for path in told["path"] if path)


def test_every_module_of_the_library_that_was_taken_can_find_its_libraries(root: Path) -> None:
    code = (
        "import pathlib, sys, importlib\n"
        "folder = pathlib.Path(next(p for p in sys.path if p.endswith('lib-dynload')))\n"
        "names = sorted(p.name.split('.')[0] for p in folder.glob('*.so'))\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))"
    )
    assert int(in_root(root, "/usr/local/bin/python3", "-W", "ignore", "-c", code)) > 10


def test_the_base_has_no_tests_no_pip_and_nothing_of_this_machine(root: Path) -> None:
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert not [name for name in names if re.search(r"/(test|idlelib|ensurepip|tkinter)(/|$)", name)]
    assert not [name for name in names if "site-packages/" in name or "dist-packages/" in name]
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert "nonroot:x:65532" in (root / "etc/passwd").read_text()


def test_the_key_is_the_same_every_time_and_follows_the_content() -> None:
    system, python = interpreter_items()
    assert (
        content_job("s", system, byte_code=False).key == content_job("s", interpreter_items()[0], byte_code=False).key
    )
    assert content_job("p", python, byte_code=True).key != content_job("p", python[1:], byte_code=True).key


@pytest.mark.peer("ldd")
def test_the_closure_is_what_the_loader_itself_finds(peer: Callable[[str], str]) -> None:
    ldd = peer("ldd")
    for path in [PROGRAM, *(item.source for item in interpreter_items()[1] if item.source and "_ssl" in item.path)]:
        told = subprocess.run([ldd, path], capture_output=True, text=True, check=True).stdout
        theirs = {name: Path(found).resolve() for name, found in re.findall(r"(\S+) => (/\S+)", told)}
        program = read_elf(PROGRAM)
        ours = Loader().closure(program, [read_elf(path)])
        assert {name: ours[name].resolve() for name in theirs} == theirs


def test_manylinux_libraries_are_taken_when_they_are_here() -> None:
    found = Loader().closure(read_elf(PROGRAM), [], EXTRA_LIBRARIES)
    assert {"libm.so.6", "libdl.so.2"} <= found.keys()


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_what_is_not_elf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "program"
    path.write_bytes(content)
    with pytest.raises(LocalError, match="not a whole ELF"):
        read_elf(path)


def test_every_cut_of_a_program_is_refused_or_read(tmp_path: Path) -> None:
    library = next(path for name, path in Loader().closure(read_elf(PROGRAM), []).items() if name.startswith("libc."))
    raw = library.read_bytes()
    for cut in (10, 40, 63, 64, 100, 500, 3000, 10_000):
        (tmp_path / "cut").write_bytes(raw[:cut])
        with pytest.raises(LocalError):
            read_elf(tmp_path / "cut")


def test_a_damaged_loader_cache_is_an_empty_one() -> None:
    assert read_cache(b"") == {}
    assert read_cache(b"glibc-ld.so.cache1.1") == {}
    assert read_cache(b"glibc-ld.so.cache1.1" + b"\xff" * 20) == {}
