"""A process beside the one that fills answers what is there; whichever of them is killed, no hole is read."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.stream.lazy import answering
from registry_pipelines.stream.lazy.answering import Apart
from registry_pipelines.stream.lazy.mounting import unmount
from tests.patience import patient, until
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.test_fanotify import Machine, machine

__all__ = ["machine"]


@pytest.fixture(autouse=True)
def _can_watch(tmp_path: Path) -> None:
    need_fanotify(tmp_path / "test")


def answerers(machine: Machine) -> list[int]:
    """Those of the machine's mount."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(b"lazy.answerer" in word for word in words) and os.fsencode(machine.top) in words:
                found.append(int(path.parent.name))
    return found


def forget(machine: Machine) -> None:
    """What the kernel has of the mounted file: it asks again."""
    with (machine.top / "file").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_what_is_there_is_read_while_the_filler_does_nothing(machine: Machine) -> None:
    machine.go()
    filler = machine.fill(600, "apart")
    assert machine.gets_right_bytes(machine.read(0, 1 << 20), 0, 1 << 20)
    forget(machine)
    filler.send_signal(signal.SIGSTOP)
    assert machine.gets_right_bytes(machine.read(4096, 1 << 19), 4096, 1 << 19)
    late = machine.read(2 << 20)
    until(lambda: "fanotify" in Path(f"/proc/{late.pid}/wchan").read_text())
    filler.send_signal(signal.SIGCONT)
    assert machine.gets_right_bytes(late, 2 << 20)
    unmount(machine.top)
    assert filler.wait(patient(20)) == 0
    assert not answerers(machine)
    until(lambda: not machine.holders())


def test_when_it_is_killed_the_filler_answers_who_waits_and_all_others(machine: Machine) -> None:
    filler = machine.fill(600, "apart")
    readers = {offset: machine.read(offset) for offset in range(0, 4 << 20, 1 << 20)}
    machine.asked()
    [number] = answerers(machine)
    os.kill(number, signal.SIGKILL)
    late = machine.read(500_000)
    machine.go()
    assert all(machine.gets_right_bytes(reader, offset) for offset, reader in readers.items())
    assert machine.gets_right_bytes(late, 500_000)
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)
    until(lambda: not answerers(machine))
    unmount(machine.top)
    assert filler.wait(patient(20)) == 0


def test_when_the_filler_is_killed_it_ends_and_who_waits_is_served_by_the_next(machine: Machine) -> None:
    machine.go()
    first = machine.fill(600, "apart")
    assert machine.gets_right_bytes(machine.read(0), 0)
    (machine.folder / "go").unlink()
    machine.kill_holders()
    until(lambda: len(machine.holders()) == 2)
    readers = {offset: machine.read(offset) for offset in range(1 << 20, 4 << 20, 1 << 20)}
    machine.asked()
    first.kill()
    first.wait()
    machine.fill()
    assert not answerers(machine) and all(reader.poll() is None for reader in readers.values())
    machine.go()
    assert all(machine.gets_right_bytes(reader, offset) for offset, reader in readers.items())
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)


def test_when_nobody_follows_the_filler_readers_fail_and_all_ends(machine: Machine) -> None:
    filler = machine.fill(0.2, "apart")
    held_open = os.open(machine.top / "file", os.O_RDONLY)
    reader = machine.read(0)
    machine.asked()
    filler.kill()
    assert machine.gets_an_error(reader)
    until(lambda: not machine.is_mounted and not answerers(machine))
    with pytest.raises(OSError, match="Input/output error"):
        os.pread(held_open, 4096, 2 << 20)
    os.close(held_open)
    until(lambda: not machine.holders())


def test_it_ends_at_once_while_another_thread_waits_for_what_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who polls a socket keeps the kernel from closing it: half a second at the end of each start."""
    monkeypatch.setattr(answering, "END_S", patient(10))  # then it would be killed
    killed, kill = list[int](), signal.pidfd_send_signal
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *given: (killed.append(given[1]), kill(*given)))
    apart = Apart(tmp_path)
    poll = select.poll()
    poll.register(apart, select.POLLIN)
    waiting = threading.Thread(target=poll.poll)
    waiting.start()
    until(lambda: "poll" in Path(f"/proc/self/task/{waiting.native_id}/wchan").read_text())
    apart.end()
    waiting.join(patient(30))
    assert not waiting.is_alive() and not killed
