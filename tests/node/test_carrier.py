"""Images of a node that the kernel reads by itself: mounted once, taken over when the agent is killed, never a hole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.errors import LocalError, Unavailable
from registry_pipelines.node import images as images_module
from registry_pipelines.node.carrier import usable_carrier
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.room import Room
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import disk_bytes
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, mount, mounts, unmount
from registry_pipelines.stream.lazy.notes import read_notes
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.node.lives import Lives
from tests.node.test_images import REFERENCE, SERVING, chain, labels, node
from tests.node.test_keeping import contents, overlay, pushed, reading
from tests.patience import patient, until
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

KILLED = SERVING.replace("log=sys.stderr.write)", 'log=sys.stderr.write, carrier="auto")')


@pytest.fixture(autouse=True)
def _can_watch(tmp_path: Path) -> None:
    need_fanotify(tmp_path / "test")


def erofs(state: Path) -> list[Path]:
    return [each.folder for each in mounts() if each.kind == EROFS_KIND and state in each.folder.parents]


def holders(state: Path) -> list[int]:
    """Processes that hold mounts below a folder."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if b"lazy.holder" in words and os.fsencode(state) in words:
                found.append(int(each.name))
    return found


def test_trees_of_an_image_are_mounted_once_and_go_with_the_agent(
    place: Place, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(place, more_mib=2)
    streamer.index(release, INDEXED)
    chains = chain(place, release)
    with node(place, tmp_path, key, carrier="auto") as images:
        served = images.find(labels(release), chains[-1])
        assert served is not None
        top = served.mount(chains[-1])
        assert served.mount(chains[-1]) == top and (top / "etc/motd").read_text() == "hello\n"
        below = served.mount(chains[0])
        assert sorted(erofs(tmp_path)) == sorted([top, below]) and not (below / "motd").is_symlink()
        assert {each.note.carrier for each in read_notes(tmp_path / "lazy/mounts")} == {"fanotify"}
    assert erofs(tmp_path) == []
    until(lambda: holders(tmp_path) == [])


def test_the_file_of_an_image_goes_with_the_image_and_gives_way_where_nobody_has_it_mounted(
    place: Place, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(place, more_mib=2)
    streamer.index(release, INDEXED)
    chains, files = chain(place, release), tmp_path / "lazy" / "backing"
    with node(place, tmp_path, key, carrier="auto") as images:
        served = images.find(labels(release), chains[-1])
        assert served is not None
        top = served.mount(chains[-1])
        with (top / "etc/motd").open() as file:
            served.release()
            time.sleep(0.1)
            assert file.read() == "hello\n" and disk_bytes(files)
        until(lambda: not disk_bytes(files) and not disk_bytes(tmp_path / "lazy" / "blocks"))
        again = images.find(labels(release), chains[-1])
        assert again is not None and (again.mount(chains[-1]) / "etc/motd").read_text() == "hello\n"
        room = Room(tmp_path / "lazy", counts=Counts(), log=print, max_bytes=1, kept_free=0)
        room.make()
        assert disk_bytes(files)  # it is mounted
    until(lambda: holders(tmp_path) == [])
    room.make()
    assert not disk_bytes(files)


def test_a_new_agent_serves_on_what_the_killed_one_did_without_the_registry(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    state = tmp_path / "node"
    with FaultRegistry(counted.server.address) as faults:
        words = [faults.address, str(state), str(key.public), release.digest, top, REFERENCE]
        killed = subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE)
        assert killed.stdout is not None and killed.stdout.readline() == b"hello\n"
        [folder] = erofs(state)
        killed.kill()
        killed.communicate()
        assert len(holders(state)) == 2 and erofs(state) == [folder]
        gone = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit((folder / "data/1").read_bytes)
            with node(Place(DistributionRegistry(faults.address), "team/app"), state, key, carrier="auto") as images:
                served = images.find(labels(release), top)
                assert served is not None and served.mount(top) == folder and erofs(state) == [folder]
                assert len(waits.result(patient(60))) == 1 << 20
        until(lambda: holders(state) == [])
        for method in ("GET", "HEAD"):
            faults.play(method, r"/v2/.*", Status(503))
        with node(gone, state, key, carrier="fuse") as images:
            served = images.find({}, top)
            assert served is not None and (served.mount(top) / "etc/motd").read_text() == "hello\n"
        gone.registry.close()  # type: ignore[attr-defined]


def test_an_agent_that_ends_leaves_its_mounts_to_the_next_and_what_was_released_too(
    place: Place, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(place, release)
    with node(place, tmp_path, key, carrier="auto", end_mounts=False) as images:
        served = images.find(labels(release), top)
        assert served is not None
        folder = served.mount(top)
    assert erofs(tmp_path) == [folder]
    opened = os.open(folder / "data/1", os.O_RDONLY)
    try:
        with node(place, tmp_path, key, carrier="auto", end_mounts=False) as images:
            served = images.find(labels(release), top)
            assert served is not None and served.mount(top) == folder
            assert os.pread(opened, 4096, 1 << 19)
            served.release()
            assert erofs(tmp_path) == [] and not folder.exists()
        assert len(holders(tmp_path)) == 2  # of the one without a name
        with node(place, tmp_path, key, carrier="auto") as images:
            assert os.pread(opened, 4096, 0)
            again = images.find(labels(release), top)
            assert again is not None and again.mount(top) == folder
            assert (folder / "data/0").read_bytes() and os.pread(opened, 1 << 20, 0) == (folder / "data/1").read_bytes()
    finally:
        os.close(opened)
    until(lambda: holders(tmp_path) == [])


def test_when_no_agent_follows_readers_get_errors_and_the_mount_goes(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    state = tmp_path / "node"
    words = [counted.server.address, str(state), str(key.public), release.digest, top, REFERENCE]
    script = KILLED.replace('carrier="auto"', 'carrier="auto", patience_s=0.2')
    killed = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE)
    assert killed.stdout is not None and killed.stdout.readline() == b"hello\n"
    [folder] = erofs(state)
    opened = os.open(folder / "data/1", os.O_RDONLY)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    try:
        with pytest.raises(OSError, match="Input/output"):
            os.pread(opened, 4096, 0)
        until(lambda: erofs(state) == [])
    finally:
        os.close(opened)
    until(lambda: holders(state) == [])
    with node(counted.place, state, key, carrier="auto") as images:
        served = images.find(labels(release), top)
        assert served is not None and served.mount(top) == folder and len((folder / "data/1").read_bytes()) == 1 << 20


def test_readers_do_not_wait_for_ever_for_an_agent_that_cannot_open_their_image(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "RESUME_AGAIN_S", 0.1)
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    state = tmp_path / "node"
    lives = Lives(state, counted.server.address, key, release.digest, carrier="auto")

    def nobody(reference: str) -> Place:
        raise Unavailable("the registry is away", where=reference)

    with ExitStack() as stack:
        stack.callback(lives.close)
        [folder] = lives.begin(top)
        opened = stack.enter_context((folder / "data/1").open("rb"))
        lives.kill()
        said = list[str]()
        with NodeImages(nobody, state=state, verifier=key.verifier, log=said.append, carrier="auto", patience_s=0.5):
            with pytest.raises(OSError, match="Input/output"):
                opened.read(4096)
            until(lambda: erofs(state) == [])
            until(lambda: "it cannot be opened" in said[-1])  # which is said once the mount is gone
            assert "cannot be served on yet" in said[0]


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_agents_and_holders_are_killed_at_random_points_and_every_read_is_served(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, kills: int
) -> None:
    """One holder at a time: all at once is what nobody survives."""
    chance = random.Random(kills)
    files, truth, state = contents(chance), tmp_path / "truth", tmp_path / "node"
    truth.mkdir()
    for name, raw in files.items():
        (truth / name).write_bytes(raw)
    release = pushed(counted, streamer, files)
    *_, top = chain(counted.place, release)
    told = Counter[str]()
    with ExitStack() as stack:
        lives = Lives(state, counted.server.address, key, release.digest, carrier="auto")
        stack.callback(lives.close)
        [folder] = lives.begin(top)
        assert erofs(state) == [folder]
        merged = stack.enter_context(overlay(folder, tmp_path / "container"))
        with reading(merged, truth, [chance.randrange(1 << 30) for _ in range(3)], told, least=kills):
            for number in range(kills):
                time.sleep(chance.uniform(0, 0.4))
                victim = ("agent", "holder", "both", "end")[number % 4]
                told[victim] += 1
                if victim in ("holder", "both"):
                    until(lambda: len(holders(state)) == 2)  # the one before has another twin
                    os.kill(chance.choice(holders(state)), signal.SIGKILL)
                if victim in ("agent", "both", "end"):
                    (lives.end if victim == "end" else lives.kill)()
                    time.sleep(chance.uniform(0, 0.1))
                    assert lives.begin(top) == [folder] and erofs(state) == [folder]
        assert {path.name: path.read_bytes() for path in (merged / "data").iterdir()} == files
    print(dict(told))
    assert told["served"] > kills and not told["wrong"]
    until(lambda: holders(state) == [])


def test_where_fanotify_does_not_work_auto_is_fuse_and_who_insists_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    assert usable_carrier("fuse", tmp_path, said.append) == "fuse"
    assert usable_carrier("fanotify", tmp_path, said.append) == usable_carrier("auto", tmp_path, said.append) == "auto"
    assert not said
    memory = tmp_path / "memory"
    memory.mkdir()
    mount("none", memory, "ramfs")  # which cannot be watched
    try:
        assert usable_carrier("auto", memory, said.append) == "fuse"
        with pytest.raises(LocalError, match="fanotify") as error:
            usable_carrier("fanotify", memory, said.append)
    finally:
        unmount(memory)
    assert len(said) == 1 and said[0].startswith("images are mounted by FUSE: ") and "node probe" in str(error.value)
