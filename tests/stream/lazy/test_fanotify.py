"""Images that the kernel reads itself: holes are filled when they are read, and never read, whatever is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.errors import LocalError
from registry_pipelines.stream.lazy.fanotify import self_test
from registry_pipelines.stream.lazy.mounting import mounts, unmount
from tests.answers import answered
from tests.needs import missing
from tests.patience import patient
from tests.stream.lazy.parts import until
from tests.stream.lazy.test_commands import Node, node
from tests.stream.lazy.test_erofs import need_erofs

__all__ = ["node"]

CARRIER = ("--carrier", "fanotify")


@pytest.fixture(autouse=True)
def need_fanotify(tmp_path: Path) -> None:
    """Root, a kernel that asks, and a file system that takes part."""
    need_erofs()
    try:
        self_test(tmp_path / "test")
    except LocalError as error:
        missing(error.what)


def test_a_program_prints_what_it_prints_on_fuse(node: Node) -> None:
    reference = node.image("v1")
    script = "echo $WORD in $(pwd); cat /motd; ls -l /data; sha256sum /data/3; echo new >/etc/motd; cat /motd"
    before = node.faults.bytes_down
    command = ("run", reference, *node.believed, "--no-fill", "--json")
    code, output, errors = node.run(*command, *CARRIER, "--", "sh", "-c", script)
    told = answered(output)["mount"]
    assert (code, told["carrier"], told["carrier_why"], told["failed_reads"]) == (0, "fanotify", "", 0)
    assert node.faults.bytes_down - before < 6 << 20 and told["copied_bytes"] < 6 << 20
    assert node.run(*command, "--", "sh", "-c", script)[2].splitlines()[:-1] == errors.splitlines()[:-1]


class Machine:
    """A folder with a file of 4 MiB that processes mount, readers of it, and who may be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.content = folder, os.urandom(4 << 20)
        (folder / "content").write_bytes(self.content)
        self.top = folder / "top"
        self._started: list[subprocess.Popen[str]] = []

    def fill(self, patience_s: float = 600, *words: str) -> subprocess.Popen[str]:
        """A process that has mounted the file."""
        command = [sys.executable, "-m", "tests.stream.lazy.watched", str(self.folder), str(patience_s), *words]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        self._started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "mounted\n"
        return process

    def read(self, offset: int, size: int = 4096) -> subprocess.Popen[str]:
        """A process that reads; it prints a digest."""
        script = (
            "import hashlib, os, sys; file = os.open(sys.argv[1], os.O_RDONLY); "
            "print(hashlib.sha256(os.pread(file, int(sys.argv[3]), int(sys.argv[2]))).hexdigest())"
        )
        command = [sys.executable, "-I", "-S", "-c", script, str(self.top / "file"), str(offset), str(size)]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._started.append(process)
        return process

    def asked(self) -> None:
        """Wait until a reader waits."""
        until((self.folder / "asked").exists)
        (self.folder / "asked").unlink()

    def go(self) -> None:
        """From now on what is read comes."""
        (self.folder / "go").touch()

    def gets_right_bytes(self, reader: subprocess.Popen[str], offset: int, size: int = 4096) -> bool:
        output, errors = reader.communicate(timeout=patient(60))
        return output.strip() == hashlib.sha256(self.content[offset : offset + size]).hexdigest() and not errors

    @staticmethod
    def gets_an_error(reader: subprocess.Popen[str]) -> bool:
        output, errors = reader.communicate(timeout=patient(60))
        return not output and "Input/output error" in errors

    def holders(self) -> list[int]:
        """Processes that hold, the first one first."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if any(b"lazy.holder" in word for word in words) and os.fsencode(self.top) in words:
                    found.append(int(path.parent.name))
        return sorted(found)

    def kill_holders(self, *more: int) -> None:
        """All at once: one that sees the other's end starts another."""
        holders = self.holders()
        for number in holders:
            os.kill(number, signal.SIGSTOP)
        for number in (*holders, *more):
            os.kill(number, signal.SIGKILL)

    @property
    def is_mounted(self) -> bool:
        return any(each.folder == self.top for each in mounts())

    def end(self) -> None:
        """Kill what is left."""
        for process in self._started:
            process.kill()
            process.communicate()
        while self.is_mounted:
            unmount(self.top, detach=True)
        for number in self.holders():
            os.kill(number, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.end()


def test_who_waits_when_the_filler_is_killed_is_served_by_the_next(machine: Machine) -> None:
    first = machine.fill()
    readers = {offset: machine.read(offset) for offset in range(0, 4 << 20, 1 << 20)}
    machine.asked()
    first.kill()
    late = machine.read(500_000)
    second = machine.fill()
    assert all(reader.poll() is None for reader in (*readers.values(), late))
    machine.go()
    assert all(machine.gets_right_bytes(reader, offset) for offset, reader in readers.items())
    assert machine.gets_right_bytes(late, 500_000)
    unmount(machine.top)
    assert second.wait(patient(20)) == 0
    until(lambda: not machine.holders())


def test_when_nobody_follows_the_filler_readers_fail_and_the_mount_goes(machine: Machine) -> None:
    filler = machine.fill(0.2)
    held_open = os.open(machine.top / "file", os.O_RDONLY)
    reader = machine.read(0)
    machine.asked()
    filler.kill()
    assert machine.gets_an_error(reader)
    until(lambda: not machine.is_mounted)
    with pytest.raises(OSError, match="Input/output error"):  # also long after
        os.pread(held_open, 4096, 2 << 20)
    assert len(machine.holders()) == 2
    os.close(held_open)
    until(lambda: not machine.holders())


def test_a_holder_that_is_killed_has_a_twin_and_a_filler_starts_another(machine: Machine) -> None:
    filler = machine.fill(0.2)
    reader = machine.read(0)
    machine.asked()
    holders = machine.holders()
    filler.kill()
    os.kill(holders[0], signal.SIGKILL)
    assert machine.gets_an_error(reader)
    until(lambda: not machine.is_mounted and not machine.holders())
    filler = machine.fill(0.2)
    machine.kill_holders()
    until(lambda: len(machine.holders()) == 2)
    reader = machine.read(1 << 20)
    machine.asked()
    filler.kill()
    assert machine.gets_an_error(reader)


def test_after_a_loss_of_all_the_mount_is_made_anew(machine: Machine) -> None:
    filler = machine.fill()
    with (machine.top / "file").open("rb") as before:
        machine.kill_holders(filler.pid)
        filler.wait()
        until(lambda: not machine.holders())
        assert before.read(4096) == bytes(4096)  # as the kernel does it
        machine.go()
        machine.fill()
        assert machine.top.stat().st_dev != os.fstat(before.fileno()).st_dev  # nothing that was seen is kept
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)


def test_no_queue_is_too_long(machine: Machine) -> None:
    limit = Path("/proc/sys/fs/fanotify/max_queued_events")
    before = limit.read_text()
    limit.write_text("2")
    try:
        filler = machine.fill()
    finally:
        limit.write_text(before)
    filler.send_signal(signal.SIGSTOP)
    offsets = range(0, 4 << 20, 1 << 18)
    readers = [machine.read(offset) for offset in offsets]
    until(lambda: all(_waits(reader.pid) for reader in readers))
    machine.go()
    filler.send_signal(signal.SIGCONT)
    assert all(machine.gets_right_bytes(*pair) for pair in zip(readers, offsets, strict=True))


def _waits(process: int) -> bool:
    return "fanotify" in Path(f"/proc/{process}/wchan").read_text()


def test_a_reader_that_waits_can_be_killed(machine: Machine) -> None:
    machine.fill()
    reader = machine.read(0)
    machine.asked()
    reader.kill()
    assert reader.wait(patient(20)) == -signal.SIGKILL


def test_what_is_complete_needs_nobody(machine: Machine) -> None:
    machine.go()
    filler = machine.fill(600, "complete")
    readers = {offset: machine.read(offset, 1 << 20) for offset in range(0, 4 << 20, 1 << 18)}
    assert all(machine.gets_right_bytes(reader, offset, 1 << 20) for offset, reader in readers.items())
    until(lambda: not machine.holders())
    filler.kill()
    filler.wait()
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)
    (machine.folder / "blocks").rename(machine.folder / "gone")
    machine.fill()
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)


def test_what_a_crash_of_the_machine_may_have_undone_is_filled_again(machine: Machine) -> None:
    machine.go()
    filler = machine.fill()
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)
    machine.kill_holders(filler.pid)
    filler.wait()
    unmount(machine.top)
    [path] = (machine.folder / "backing").rglob("data")
    (path.parent / "boot").write_text("another")
    size = path.stat().st_size
    path.write_bytes(b"")
    os.truncate(path, size)
    machine.fill()
    assert machine.gets_right_bytes(machine.read(0, 4 << 20), 0, 4 << 20)
