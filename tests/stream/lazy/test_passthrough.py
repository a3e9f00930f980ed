"""Large files with copies of their own, which the real kernel reads without a question."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
from pathlib import Path

import pytest

from registry_pipelines.stream.lazy.passthrough import LEAST_BYTES
from tests.needs import missing
from tests.patience import until
from tests.stream.lazy.mounts import mounted, need_fuse, one_file


@pytest.fixture(autouse=True)
def _kernel() -> None:
    need_fuse()
    if tuple(int(part) for part in platform.release().split(".")[:2]) < (6, 9):
        missing("the kernel reads no backing files before Linux 6.9")


def test_a_large_file_that_was_opened_is_read_by_the_kernel_alone(tmp_path: Path) -> None:
    content = os.urandom(LEAST_BYTES)
    tree, file = one_file(content), tmp_path / "top" / "file"
    tree.copy = tmp_path / "copy"
    with mounted(tree, tmp_path / "top", copies=True) as server:
        with file.open("rb") as first, file.open("rb") as second:
            assert first.read() == content == second.read() and not server.copied_bytes
        until(tree.copy.exists)
        tree.copy.rename(tmp_path / "hidden")
        with file.open("rb") as first:
            (tmp_path / "hidden").rename(tree.copy)
            # While it is open as it was, it stays so for all.
            with file.open("rb") as second:
                assert first.read() == content == second.read() and not server.copied_bytes
        until(lambda: _passed(file, content, server))
        asked = len(tree.asked)
        with file.open("rb") as one, file.open("rb") as two, mmap.mmap(one.fileno(), 0, access=mmap.ACCESS_READ) as map:
            assert one.read() == content == two.read() == map[:]
            assert os.pread(one.fileno(), 10, 5) == content[5:15]
        assert len(tree.asked) == asked and server.copied_bytes == len(content)
        shutil.copy(file, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == content
        tree.copy.unlink()  # as by an eviction: who has it goes on, and the next one is served as before
        assert file.read_bytes() == content


def _passed(file: Path, content: bytes, server: object) -> bool:
    """The kernel closes a file some time after its user."""
    assert file.read_bytes() == content
    return bool(server.copied_bytes)  # type: ignore[attr-defined]


def test_small_files_and_files_that_cannot_be_copied_are_read_as_before(tmp_path: Path) -> None:
    for number, size in enumerate((1000, LEAST_BYTES)):
        content = os.urandom(size)
        tree = one_file(content)
        tree.copy = tmp_path / "copy" if size == 1000 else None
        with mounted(tree, tmp_path / f"top{number}", copies=True) as server:
            for _ in range(3):
                assert (tmp_path / f"top{number}" / "file").read_bytes() == content
            assert not server.copied_bytes and not (tmp_path / "copy").exists()


def test_programs_start_from_a_copy(tmp_path: Path) -> None:
    program = Path(shutil.which("true") or "/bin/true").read_bytes()
    content = program + bytes(LEAST_BYTES)
    tree, file = one_file(content), tmp_path / "top" / "file"
    tree.things[2].mode |= 0o111
    tree.copy = tmp_path / "copy"
    with mounted(tree, tmp_path / "top", copies=True) as server:
        assert os.spawnv(os.P_WAIT, file, ["true"]) == 0
        until(tree.copy.exists)
        until(lambda: os.spawnv(os.P_WAIT, file, ["true"]) == 0 and bool(server.copied_bytes))
