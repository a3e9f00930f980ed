"""Images that the kernel reads itself: holes are filled when they are read, and never read, whatever is killed."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.arrivals import is_ready
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.holder import DONE, TAKE, words
from registry_pipelines.stream.lazy.mounting import mount, mounts, unmount
from registry_pipelines.stream.lazy.notes import read_notes
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.lazy.serving import Mounted
from registry_pipelines.stream.lazy.sockets import connect
from tests.answers import answered
from tests.doubles.faults import HoldAnswer
from tests.evidence.parts import Key
from tests.patience import patient, until
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.stacks import Entry, described, layers, unpack
from tests.stream.lazy.test_commands import BLOBS, COMMAND, Node, node
from tests.stream.lazy.test_stacks import INDEXED_ALL
from tests.stream.releases import Layer, Streamer, push

__all__ = ["node"]

CARRIER = ("--carrier", "fanotify")


@pytest.fixture(autouse=True)
def _can_watch(tmp_path: Path) -> None:
    need_fanotify(tmp_path / "test")


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
        found: list[tuple[int, int]] = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if any(b"lazy.holder" in word for word in words) and os.fsencode(self.top) in words:
                    # Numbers begin again after 32768; when it started counts (proc(5): the 22nd field).
                    started = int(path.with_name("stat").read_text().rpartition(")")[2].split()[19])
                    found.append((started, int(path.parent.name)))
        return [number for _, number in sorted(found)]

    def kill_holders(self, *more: int) -> None:
        """All at once: one that sees the other's end starts another. more: the filler, which does so; it goes first."""
        holders = self.holders()
        for number in holders:
            os.kill(number, signal.SIGSTOP)
        for number in (*more, *holders):
            os.kill(number, signal.SIGKILL)
        until(lambda: not set(holders) & set(self.holders()))

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
            with suppress(ProcessLookupError):  # it ends by itself once nothing is mounted
                os.kill(number, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.end()


def test_who_waits_when_the_filler_is_killed_is_served_by_the_next(machine: Machine) -> None:
    first = machine.fill()
    readers = {offset: machine.read(offset) for offset in range(0, 4 << 20, 1 << 20)}
    until(lambda: all(_waits(reader.pid) for reader in readers.values()))
    machine.asked()
    first.kill()
    late = machine.read(500_000)
    until(lambda: _waits(late.pid))
    second = machine.fill()
    machine.asked()
    second.kill()  # the kernel tries again what fails once
    third = machine.fill()
    assert all(reader.poll() is None for reader in (*readers.values(), late))
    machine.go()
    assert all(machine.gets_right_bytes(reader, offset) for offset, reader in readers.items())
    assert machine.gets_right_bytes(late, 500_000)
    unmount(machine.top)
    assert third.wait(patient(20)) == 0
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


def test_a_holder_that_may_open_nothing_more_lets_nobody_through(machine: Machine) -> None:
    filler = machine.fill(0.2)
    held_open = os.open(machine.top / "file", os.O_RDONLY)
    first, twin = machine.holders()
    resource.prlimit(first, resource.RLIMIT_NOFILE, (3, 1024))
    os.kill(twin, signal.SIGKILL)
    until(lambda: machine.holders() == [first])
    [path] = (machine.folder / "holders").iterdir()
    asked = connect(path, 1)
    asked.send(TAKE)
    with pytest.raises(TimeoutError):
        asked.recv(1)
    asked.close()
    reader = machine.read(0)
    machine.asked()
    filler.kill()
    output, errors = reader.communicate(timeout=patient(60))
    assert not output and "Error" in errors
    with pytest.raises(OSError, match=r"error|permitted"):
        os.pread(held_open, 4096, 2 << 20)
    assert machine.holders() == [first]
    resource.prlimit(first, resource.RLIMIT_NOFILE, (1024, 1024))
    until(lambda: len(machine.holders()) == 2 and not machine.is_mounted)
    os.close(held_open)
    until(lambda: not machine.holders())


def test_a_holder_hears_that_it_is_done_from_a_filler_that_did_not_listen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (tmp_path / "file").open("r+b") as data, (tmp_path / "file").open("rb"), theirs, ours:
        number = data.fileno()
        given = [str(theirs.fileno()), str(tmp_path / "top"), ""]
        socket.send_fds(ours, [words(600, "")], [number] * 5)
        script = "import sys; from registry_pipelines.stream.lazy.holder import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", script, *given]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            try:
                assert is_ready(ours, patient(20))
                process.send_signal(signal.SIGSTOP)
                ours.send(DONE)
                ours.close()
                process.send_signal(signal.SIGCONT)
                assert process.wait(patient(5)) == 0
            finally:
                process.kill()


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


def data(tag: str) -> list[str]:
    """Digests of the files of the image with a tag; see ``starts.image``."""
    noise = random.Random(tag)
    return [hashlib.sha256(noise.randbytes(1 << 20)).hexdigest() for _ in range(8)]


def test_a_detached_mount_that_is_killed_is_gone_on_with_and_another_image_takes_its_place(node: Node) -> None:
    reference, other, top = node.image("v1"), node.image("v2"), node.folder / "top"
    command = ("mount", reference, "top", *node.believed, *CARRIER, "--no-fill", "--detach", "--json")
    code, output, _ = node.run(*command)
    first = answered(output)["mount"]
    assert (code, first["carrier"], first["lazy"]) == (0, "fanotify", True)
    good = hashlib.sha256((top / "data" / "1").read_bytes()).hexdigest()
    release = threading.Event()
    node.faults.play("GET", BLOBS, HoldAnswer(release))
    with subprocess.Popen(["sha256sum", top / "data" / "5"], text=True, stdout=subprocess.PIPE) as reader:
        until(lambda: _waits(reader.pid))
        os.kill(first["process"], signal.SIGKILL)
        release.set()
        [told] = node.status()
        assert not told["alive"] and told["folder"] == str(top) and reader.poll() is None
        assert node.run(*command)[0] == 0
        code, _, errors = node.run(*command)
        assert code == 8 and "mounted there already" in errors
        assert reader.communicate(timeout=patient(60))[0].split()[0] == data("v1")[5]
        assert reader.returncode == 0
    assert hashlib.sha256((top / "data" / "1").read_bytes()).hexdigest() == good == data("v1")[1]
    notes = node.folder / "state" / "registry-pipelines" / "lazy" / "mounts"
    [second] = read_notes(notes)
    assert second.alive and second.note.process != first["process"] and second.note.failed_reads == 0
    os.kill(second.note.process, signal.SIGKILL)
    code, output, _ = node.run("mount", other, "top", *node.believed, *CARRIER, "--detach", "--json")
    told = answered(output)["mount"]
    assert code == 0 and hashlib.sha256((top / "data" / "1").read_bytes()).hexdigest() == data("v2")[1]
    until(lambda: any(each.note.carrier_why.startswith("the file is complete") for each in read_notes(notes)))
    shown = [hashlib.sha256((top / "data" / str(number)).read_bytes()).hexdigest() for number in range(8)]
    assert shown == data("v2")
    subprocess.run(["umount", str(top)], check=True)
    until(lambda: not Path(f"/proc/{told['process']}").exists())
    assert not list(read_notes(notes)) and not top.is_mount()


def test_where_files_cannot_be_watched_fuse_serves_or_it_is_said(node: Node) -> None:
    reference, memory = node.image("v1"), node.folder / "state"
    memory.mkdir()
    mount("none", memory, "tmpfs")
    try:
        code, _, errors = node.run("run", reference, *node.believed, *CARRIER)
        assert code == 9 and "the file system cannot be watched" in errors and "ext4" in errors
        code, output, errors = node.run("run", reference, *node.believed, "--carrier", "auto")
        assert (code, output) == (0, "hello\n") and "fanotify is not used: the file system cannot be" in errors
    finally:
        unmount(memory, detach=True)


# A kernel without fanotify: ENOSYS for fanotify_init (seccomp(2)).
WITHOUT = """
import ctypes, errno, os, struct, sys
number = {"x86_64": 300, "aarch64": 262}[os.uname().machine]
rows = (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000)
rows = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
filter = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(rows)))
libc = ctypes.CDLL(None)
assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, filter, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITHOUT_FUSE = """
set -e; mkdir "$1"; mount -t tmpfs none "$1"
for name in null zero full random urandom tty; do touch "$1/$name"; mount --bind "/dev/$name" "$1/$name"; done
mount --move "$1" /dev; shift; exec "$@"
"""


def test_where_nothing_can_serve_all_is_fetched_first(node: Node) -> None:
    reference = node.image("v1")
    inner = ["sh", "-c", WITHOUT_FUSE, "sh", str(node.folder / "dev"), sys.executable, "-c", WITHOUT, *COMMAND]
    ran = subprocess.run(
        ["unshare", "-m", "--propagation", "private", *inner, "run", reference, "--carrier", "auto", "--json"],
        env={**os.environ, "XDG_STATE_HOME": str(node.folder / "state"), "HOME": str(node.folder)},
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )
    told = answered(ran.stdout)["mount"]
    assert ran.returncode == 0 and "hello" in ran.stderr and "all is fetched first" in ran.stderr
    assert told["carrier"] == "none" and "cannot be watched" in told["carrier_why"]
    assert "no /dev/fuse" in told["carrier_why"] and told["filled_bytes"] == told["size_bytes"]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(layers(), min_size=1, max_size=3))
def test_a_mounted_image_is_what_unpacking_it_makes(place: Place, key: Key, stack: list[list[Entry]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, top = Path(name), Path(name, "top")
        top.mkdir()
        tars = [pack(entries) for entries in stack]
        image = push(place, *(Layer(gzip.compress(tar, 1), tar) for tar in tars))
        Streamer(place, folder / "state", key.signer).index(image, INDEXED_ALL)
        expected = unpack(stack, folder / "unpacked")
        lazy = folder / "node" / "lazy"
        with open_image(place, image.digest, state=folder / "node", verifier=key.verifier, log=print) as opened:
            note = opened.note("an image", top)
            with Mounted(opened, top, lazy / "mounts", note, opened.count, carrier="fanotify", log=print) as mounted:
                assert mounted.note.carrier == "fanotify"
                found = {path.relative_to(top).as_posix(): described(path) for path in top.rglob("*")}
        assert found == expected
