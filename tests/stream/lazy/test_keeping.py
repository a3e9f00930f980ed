"""What keeps the mounts of an agent, and what it keeps of them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import StateLocked
from registry_pipelines.stream.lazy import fdstore
from registry_pipelines.stream.lazy.carriers import FuseCarrier, Where
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES, FuseServer
from registry_pipelines.stream.lazy.fuse_memory import MOST_UNANSWERED, RESENDS, Memory, OpenFile
from registry_pipelines.stream.lazy.keeping import Keep, Keeping, is_over
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse
from tests.needs import missing
from tests.node.lives import in_use_elsewhere, keepers
from tests.patience import patient, until
from tests.stream.lazy.mounts import need_fuse, one_file


@contextmanager
def kept(tmp_path: Path) -> Iterator[tuple[Keeping, Path, Memory]]:
    """A small tree that this process mounted and gave away."""
    need_fuse()
    keeping = Keeping(tmp_path / "keeper", log=print)
    device, memory = mount_fuse_at(tmp_path / "top"), Memory()
    server = FuseServer(device, one_file(b"content"), memory=memory)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.ready.wait(patient(30))
    keeping.keep(device, memory)
    try:
        yield keeping, tmp_path / "top", memory
    finally:
        end_mount(tmp_path / "top")
        thread.join()
        os.close(device)


def mount_fuse_at(folder: Path) -> int:
    folder.mkdir()
    return mount_fuse(folder, "a test")


def test_one_agent_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept(tmp_path) as (keeping, _, _):
        monkeypatch.setattr("registry_pipelines.stream.lazy.keeping.BUSY_S", 0.1)
        with pytest.raises(StateLocked):
            Keeping(tmp_path / "keeper", log=print)
        keeping.close(end=True)


def test_a_copy_in_another_namespace_of_mounts_uses_a_mount_that_has_no_name_any_more(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        missing("a namespace of mounts needs root")
    with kept(tmp_path) as (keeping, top, _):
        hold = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity"]
        with subprocess.Popen(hold, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stdout.readline()
            end_mount(top)
            keeping.close(end=False)
            assert in_use_elsewhere(tmp_path)
            again = Keeping(tmp_path / "keeper", log=print)
            [left] = again.left
            assert not is_over(left.device)
            other.kill()
        until(lambda: is_over(left.device))
        again.close(end=False)
        until(lambda: not keepers(tmp_path))


def test_a_mount_that_is_over_before_it_is_kept_is_not_kept(tmp_path: Path) -> None:
    need_fuse()
    keeping = Keeping(tmp_path / "keeper", log=print)
    (tmp_path / "top").mkdir()
    image: Any = one_file(b"content")
    image.comes_ahead, image.watched, image.read_ahead_bytes = False, None, READ_AHEAD_BYTES
    carrier = FuseCarrier(image, Where(tmp_path / "top", "a test", tmp_path, keep=Keep(keeping, b"")))
    thread = threading.Thread(target=carrier.run, daemon=True)
    thread.start()
    assert (tmp_path / "top/file").read_bytes() == b"content"
    carrier.end()
    thread.join(patient(30))
    carrier.hold()
    carrier.close()
    assert not keeping._mounts
    keeping.close(end=False)
    until(lambda: not keepers(tmp_path))


def test_what_was_said_twice_is_answered_twice_and_no_answer_is_taken_for_the_next(tmp_path: Path) -> None:
    """As by a keeper on a machine with too much to do."""
    with kept(tmp_path) as (keeping, _, _):
        asked = keeping._socket
        assert asked is not None
        asked.send(b"serve nothing")
        until(lambda: is_ready(asked.fileno()))
        keeping.serve("nothing")
        assert not is_ready(asked.fileno(), 0.1)
        keeping.close(end=True)


def test_a_mount_of_another_version_is_not_served_on_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with kept(tmp_path) as (keeping, _, memory):
        keeping.close(end=False)
        os.pwrite(memory.descriptor, b"\x02", 7)
        again = Keeping(tmp_path / "keeper", log=said.append)
        assert not again.left and "another version" in said[0]
        os.pwrite(memory.descriptor, b"\x01", 7)
        again.close(end=True)


@given(st.text(alphabet="device-memory-ab:1").map(str), st.integers(0, 3).map(str) | st.text("0x9-", max_size=3))
def test_what_systemd_gives_is_taken_in_pairs_alone(names: str, count: str) -> None:
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        for name, device, memory in fdstore.stored():
            assert {f"device-{name}", f"memory-{name}"} <= set(names.split(":")) and device != memory
        assert not told.keys() & os.environ.keys()


def test_what_is_noted_of_requests_and_files_is_there_for_the_next_one() -> None:
    memory = Memory()
    memory.begin()
    memory.tell(b"told")
    memory.set(RESENDS)
    assert memory.add(7) and memory.add(9)
    memory.remove(7)
    memory.reading(1)[8:16] = (11).to_bytes(8, "little")
    memory.put_file(3, OpenFile(5, 1, 2, 4))
    other = Memory(os.dup(memory.descriptor))
    assert sorted(other.unanswered()) == [9, 11] and other.told == b"told" and other.flags == RESENDS
    assert list(other.files()) == [(3, OpenFile(5, 1, 2, 4))]
    memory.answered(1)
    memory.put_file(3, None)
    assert other.unanswered() == [9] and not list(other.files())
    assert all(memory.add(each) for each in range(100, 100 + MOST_UNANSWERED - 1)) and not memory.add(1)
    other.begin()
    assert not memory.unanswered() and other.add(1)
    with pytest.raises(ValueError, match="too much"):
        memory.tell(bytes(5000))
    with pytest.raises(ValueError, match="another version"):
        Memory(os.memfd_create("short"))
    memory.close()
    other.close()
