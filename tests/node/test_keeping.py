"""What is mounted outlives the agent: served on by the next one, or an error; never zeros, never lost."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import LocalError
from registry_pipelines.node.served import Left, left_by_fuse
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.lazy import keeping
from registry_pipelines.stream.lazy.fuse_memory import Memory
from registry_pipelines.stream.lazy.keeping import Keeping, Kept
from registry_pipelines.stream.lazy.mounting import end_mount, mount, unmount
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer
from tests.evidence.parts import Counted, Key
from tests.node.lives import Lives, keepers
from tests.node.test_images import chain
from tests.patience import patient, until
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import file
from tests.stream.releases import INDEXED, Layer, Streamer, push

READER = """
import json, mmap, os, random, select, sys
top, truth, how, seed, least = sys.argv[1:]
chance, counts = random.Random(seed), {"served": 0, "wrong": 0}
names = sorted(os.listdir(truth))
while not select.select([sys.stdin], [], [], 0.0005)[0] or counts["served"] < int(least):
    name = chance.choice(names)
    start, size = chance.randrange(os.stat(f"{truth}/{name}").st_size), chance.choice([1, 700, 4096, 70_000, 1 << 20])
    with open(f"{truth}/{name}", "rb") as file:
        good = os.pread(file.fileno(), size, start)
    try:
        with open(f"{top}/data/{name}", "rb") as file:
            if how == "map":
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    found = mapped[start : start + size]
            else:
                found = b""
                while piece := os.pread(file.fileno(), size - len(found), start + len(found)):
                    found += piece
            if chance.random() < 0.5:  # so that it is asked for again
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        counts[str(error.errno)] = counts.get(str(error.errno), 0) + 1
        print(name, start, size, error, file=sys.stderr)
        continue
    counts["served" if found == good else "wrong"] += 1
print(json.dumps(counts))
"""
"""Reads parts of files until its input ends, and at least so many, and compares."""

VICTIMS = ("agent", "keeper", "twin", "both", "end", "next")

OLDER_KERNEL = """
from registry_pipelines.stream.lazy import fuse_wire
fuse_wire.HAS_RESEND_2 = 0
"""
"""What a kernel before 6.9 does not say."""


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


def contents(chance: random.Random, count: int = 40) -> dict[str, bytes]:
    sizes = (1, 511, 5000, 40_000, 300_000)
    return {f"{number}": chance.randbytes(chance.choice(sizes)) for number in range(count)}


def pushed(counted: Counted, streamer: Streamer, files: dict[str, bytes]) -> Descriptor:
    """An image of two layers, indexed."""
    base = pack([file("etc/motd", b"old\n")] + [file(f"data/{name}", raw) for name, raw in files.items()])
    above = pack([file("etc/motd", b"hello\n"), file("more", random.Random(1).randbytes(100_000))])
    release = push(counted.place, *(Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in (base, above)), tag="v1")
    streamer.index(release, INDEXED)
    return release


@contextmanager
def overlay(lower: Path, folder: Path) -> Iterator[Path]:
    """As a container has it."""
    names = ("upper", "work", "merged")
    for name in names:
        (folder / name).mkdir(parents=True)
    upper, work, merged = (folder / name for name in names)
    mount("overlay", merged, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    try:
        yield merged
    finally:
        unmount(merged, detach=True)


@contextmanager
def reading(
    top: Path, truth: Path, seeds: list[int], told: Counter[str], *, least: int, may_fail: bool = False
) -> Iterator[None]:
    """Programs that read all the while, each so often at least, and every second one by mappings; then what they saw is
    told. may_fail: with EIO, a mapping by SIGBUS."""
    command = [sys.executable, "-ISc", READER, str(top), str(truth)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(
            [*command, "map" if number % 2 else "part", str(seed), str(least)], stdin=pipe, stdout=pipe, stderr=pipe
        )
        for number, seed in enumerate(seeds)
    ]
    try:
        yield
        for each in started:
            output, errors = each.communicate(timeout=patient(60))
            if may_fail and each.returncode == -signal.SIGBUS:
                continue
            assert each.returncode == 0 and (may_fail or not errors), (each.returncode, errors)
            told.update(json.loads(output))
    finally:
        for each in started:
            each.kill()
            each.communicate()


LONG = (pytest.mark.long, pytest.mark.timeout(1800))


@pytest.mark.parametrize(
    ("kills", "older"),
    [(4, ""), pytest.param(100, "", marks=LONG), pytest.param(40, OLDER_KERNEL, marks=LONG)],
    ids=["few", "many", "older kernel"],
)
def test_agents_and_keepers_are_killed_at_random_points_and_every_read_is_served(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, kills: int, older: str
) -> None:
    """On an older kernel: or ends with an error."""
    chance = random.Random(kills)
    files = contents(chance)
    truth = tmp_path / "truth"
    truth.mkdir()
    for name, raw in files.items():
        (truth / name).write_bytes(raw)
    release = pushed(counted, streamer, files)
    *_, top = chain(counted.place, release)
    told = Counter[str]()
    with ExitStack() as stack:
        lives = Lives(tmp_path / "node", counted.server.address, key, release.digest)
        stack.callback(lives.close)
        [folder] = lives.begin(top, before=older)
        merged = stack.enter_context(overlay(folder, tmp_path / "container"))
        seeds = [chance.randrange(1 << 30) for _ in range(3)]
        with reading(merged, truth, seeds, told, least=10 * kills, may_fail=bool(older)):
            for number in range(kills):
                time.sleep(chance.uniform(0, 0.15))
                victim = VICTIMS[number % len(VICTIMS)]
                told[victim] += 1
                if victim in ("keeper", "twin", "both"):
                    until(lambda: len(lives.keepers()) == 2)  # all three at once is what nobody survives
                    lives.kill_keeper(0 if victim == "keeper" else -1)
                if victim in ("agent", "both", "end"):
                    (lives.end if victim == "end" else lives.kill)()
                    time.sleep(chance.uniform(0, 0.1))
                    assert lives.begin(top, before=older) == [folder]
                if victim == "next":  # the one that takes over
                    lives.kill()
                    for _ in range(3):
                        lives.kill_at_start(top, before=older, after_s=chance.uniform(0.3, 2))
                    assert lives.begin(top, before=older) == [folder]
        assert {path.name: path.read_bytes() for path in (merged / "data").iterdir()} == files
    print(dict(told))
    assert told["served"] >= 20 * kills and set(told) <= {"served", "wrong", "5", *VICTIMS}
    assert not told["wrong"] and (older or not told["5"])


def test_an_image_that_was_released_is_served_on_by_the_next_agent_as_long_as_it_is_in_use(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = pushed(counted, streamer, {"a": os.urandom(300_000)})
    base, top = chain(counted.place, release)
    lives = Lives(tmp_path / "node", counted.server.address, key, release.digest)
    with ExitStack() as stack:
        stack.callback(lives.close)
        below, folder = lives.begin(base, top)
        opened = stack.enter_context((folder / "more").open("rb", buffering=0))
        lives.tell("release")
        assert not folder.exists() and not below.exists()
        lives.kill()
        lives.begin()
        assert hashlib.sha256(opened.read()).digest() == hashlib.sha256(random.Random(1).randbytes(100_000)).digest()
        lives.end()
        again = lives.begin(top)  # a new mount, beside the one that is in use
        assert (again[0] / "etc/motd").read_text() == "hello\n"
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(opened.fileno(), 10, 0) == random.Random(1).randbytes(100_000)[:10]
        opened.close()
        end_mount(again[0])
        until(lambda: "is served on" in lives.said())
        lives.end()
        until(lambda: not lives.keepers())


@pytest.mark.parametrize(
    "older", [pytest.param("", marks=pytest.mark.long), OLDER_KERNEL], ids=["resends", "older kernel"]
)
def test_who_waits_for_a_registry_when_the_agent_is_killed_is_served_or_gets_an_error(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, older: str
) -> None:
    raw = os.urandom(300_000)
    release = pushed(counted, streamer, {"a": raw})
    *_, top = chain(counted.place, release)
    answer = threading.Event()
    with FaultRegistry(counted.server.address) as faults, ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        lives = Lives(tmp_path / "node", faults.address, key, release.digest)
        stack.callback(lives.close)
        stack.callback(answer.set)
        [folder] = lives.begin(top, before=older)
        seen = len(faults.seen)
        faults.play("GET", r"/v2/team/app/blobs/.*", HoldAnswer(answer))
        waits = pool.submit((folder / "data/a").read_bytes)
        until(lambda: len(faults.seen) > seen)
        lives.kill()
        answer.set()
        assert lives.begin(top, before=older) == [folder]
        assert (folder / "data/a").read_bytes() == raw
        try:  # of what was read ahead nobody gets an error: the kernel asks for a page again that it did not get
            assert waits.result(patient(30)) == raw
        except OSError as error:
            assert older and error.errno == errno.EIO


@pytest.mark.long
def test_who_waits_for_an_agent_that_is_gone_can_be_killed(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = pushed(counted, streamer, {"a": os.urandom(300_000)})
    *_, top = chain(counted.place, release)
    answer = threading.Event()
    with FaultRegistry(counted.server.address) as faults, ExitStack() as stack:
        lives = Lives(tmp_path / "node", faults.address, key, release.digest)
        stack.callback(lives.close)
        stack.callback(answer.set)
        [folder] = lives.begin(top)
        seen = len(faults.seen)
        faults.play("GET", r"/v2/team/app/blobs/.*", HoldAnswer(answer))
        with subprocess.Popen(["cat", str(folder / "data/a")], stdout=subprocess.DEVNULL) as waits:
            until(lambda: len(faults.seen) > seen)
            lives.kill()
            waits.kill()
            assert waits.wait(patient(30)) == -signal.SIGKILL


def test_when_no_agent_comes_reads_end_with_errors_until_one_does(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    raw = os.urandom(300_000)
    release = pushed(counted, streamer, {"a": raw})
    *_, top = chain(counted.place, release)
    lives = Lives(tmp_path / "node", counted.server.address, key, release.digest, patience_s=0.1)
    with ExitStack() as stack:
        stack.callback(lives.close)
        [folder] = lives.begin(top)
        opened = stack.enter_context((folder / "data/a").open("rb", buffering=0))
        lives.kill()
        with pytest.raises(OSError) as raised:
            opened.read()
        assert raised.value.errno == errno.EIO
        until(lambda: "nobody serves a mount any more" in lives.said())
        assert '"folder":' in lives.said()
        assert lives.begin(top) == [folder]
        assert opened.read() == raw and (folder / "data/a").read_bytes() == raw


def test_a_keeper_that_is_slow_to_hand_over_is_waited_for(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with too much to do nothing may be taken for lost."""
    release = pushed(counted, streamer, {"a": b"1"})
    *_, top = chain(counted.place, release)
    lives = Lives(tmp_path / "node", counted.server.address, key, release.digest)
    with ExitStack() as stack:
        stack.callback(lives.close)
        lives.begin(top)
        [first, _] = lives.keepers()
        lives.kill()
        os.kill(first, signal.SIGSTOP)
        stack.callback(os.kill, first, signal.SIGCONT)
        monkeypatch.setattr(keeping, "ANSWER_S", 0.01)  # else it would have to be stopped for longer
        folder, said = tmp_path / "node/lazy/keeper", list[str]()
        with monkeypatch.context() as hurried:
            hurried.setattr(keeping, "TAKE_S", 0.5)
            with pytest.raises(LocalError, match="does not hand it over"):
                Keeping(folder, log=said.append)
        threading.Timer(0.5, os.kill, (first, signal.SIGCONT)).start()
        taken = Keeping(folder, log=said.append)
        assert len(taken.left) == 1 and not said
        taken.close(end=False)
        assert lives.begin(top)


@pytest.mark.long
def test_a_large_file_is_read_by_its_copy_on_either_side_of_a_restart(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    raw = random.Random(3).randbytes(17 << 20)
    release = pushed(counted, streamer, {"large": raw})
    *_, top = chain(counted.place, release)
    with ExitStack() as stack:
        lives = Lives(tmp_path / "node", counted.server.address, key, release.digest)
        stack.callback(lives.close)
        [folder] = lives.begin(top)
        large = folder / "data/large"
        assert large.read_bytes() == raw
        copies = tmp_path / "node/lazy/blocks"
        until(lambda: any(each.stat().st_size == len(raw) for each in copies.rglob("*") if each.is_file()))
        first = stack.enter_context(large.open("rb"))
        lives.kill()
        lives.begin(top)
        assert first.read(5) == raw[:5]
        for _ in range(2):  # it is open by its copy, and may not be opened in another way
            assert large.read_bytes() == raw
        first.close()
        assert large.read_bytes() == raw


class Systemd:
    """Keeps descriptors, as a unit has them with FileDescriptorStoreMax."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.kept: dict[str, int] = {}

    def hear(self) -> None:
        """What was told until now."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                said, numbers, _, _ = socket.recv_fds(self._socket, 4096, 1)
                lines = dict(line.split("=", 1) for line in said.decode().splitlines())
                if "FDSTORE" in lines:
                    self.kept[lines["FDNAME"]] = numbers[0]
                if "FDSTOREREMOVE" in lines:
                    os.close(self.kept.pop(lines["FDNAME"]))

    def close(self) -> None:
        self._socket.close()
        for each in self.kept.values():
            os.close(each)


GIVEN = """
import os, sys
names, numbers = sys.argv[1], [int(each) for each in sys.argv[2].split(",")]
high = [os.dup2(number, 200 + place) for place, number in enumerate(numbers)]
for place, number in enumerate(high):
    os.dup2(number, 3 + place)
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Start a program as systemd does that has descriptors for it."""


def test_what_systemd_keeps_outlives_agent_and_keepers(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = os.urandom(300_000)
    release = pushed(counted, streamer, {"a": raw})
    *_, top = chain(counted.place, release)
    with ExitStack() as stack:
        systemd = Systemd(tmp_path)
        stack.callback(systemd.close)
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        lives = Lives(tmp_path / "node", counted.server.address, key, release.digest)
        stack.callback(lives.close)
        [folder] = lives.begin(top)
        systemd.hear()
        assert len(systemd.kept) == 2
        opened = stack.enter_context((folder / "data/a").open("rb", buffering=0))
        lives.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]  # it would begin another keeper
        while found := lives.keepers():
            for number in (signal.SIGSTOP, signal.SIGKILL):  # none begins a twin meanwhile
                for each in found:
                    with suppress(ProcessLookupError):
                        os.kill(each, number)
        lives.kill()
        names, numbers = ":".join(systemd.kept), ",".join(map(str, systemd.kept.values()))
        given = [sys.executable, "-ISc", GIVEN, names, numbers]
        assert lives.begin(top, through=given, fds=list(systemd.kept.values())) == [folder]
        assert opened.read() == raw
        end_mount(folder)
        opened.close()
        until(lambda: systemd.hear() is None and not systemd.kept)


def test_a_keeper_is_there_before_it_is_needed_and_goes_without_mounts(tmp_path: Path) -> None:
    said: list[str] = []
    keeping = Keeping(tmp_path / "keeper", log=said.append)
    assert not keepers(tmp_path)
    for _ in range(2):
        keeping.begin()
    until(lambda: len(keepers(tmp_path)) == 2)  # with its twin
    keeping.close(end=False)
    until(lambda: not keepers(tmp_path))
    assert said == []


@given(st.binary(max_size=4080) | st.text().map(lambda text: json.dumps({"reference": text}).encode()))
def test_what_another_program_told_of_a_mount_is_understood_or_not(told: bytes) -> None:
    memory = Memory()
    memory.tell(told)
    found = left_by_fuse(Kept("name", -1, memory))
    memory.close()
    assert found.left is None or isinstance(found.left, Left)
