"""Starts that a node records: the pages that a program reads, on either carrier, sent to an inbox within limits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.cli.context import Options
from registry_pipelines.cli.node_recording import settings_of
from registry_pipelines.errors import NotFound
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.model import RecordStarts
from registry_pipelines.node.recording import FILE, StartRecorder
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration, Size
from registry_pipelines.stream.hot.inbox import Message, of_images, read_message, waiting
from registry_pipelines.stream.hot.recording import PAGE_BYTES, Recording
from registry_pipelines.stream.hot.touched import WINDOW_BYTES
from registry_pipelines.stream.hot.watched import WatchedImage
from registry_pipelines.stream.lazy.carriers import Kind
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.lazy.serving import Mounted
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.node.test_images import REFERENCE, SERVING, chain, found, ours
from tests.patience import patient, until
from tests.stream.hot.packing import cut, recording
from tests.stream.hot.pythons import python_image
from tests.stream.lazy.mounts import need_fanotify, need_fuse, read_ahead
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_pipelines.node.recording.LOOK_EVERY_S", 0.02)


def box(counted: Counted) -> Place:
    return Place(counted.place.registry, "inbox")


def settings(**more: object) -> RecordStarts:
    return msgspec.structs.replace(RecordStarts(inbox="registry.example/inbox"), **more)


class RecordingNode(NamedTuple):
    """A node that records, what it says and counts, and what a test sets when the start is over."""

    images: NodeImages
    said: list[str]
    counts: Counts
    over: threading.Event


@contextmanager
def recording_node(
    counted: Counted,
    state: Path,
    key: Key,
    *,
    said: list[str] | None = None,
    inbox: Place | None = None,
    gpu: bool = False,
    fill: bool = False,
    carrier: Kind = "fuse",
    **more: object,
) -> Iterator[RecordingNode]:
    said, counts, over = [] if said is None else said, Counts(), threading.Event()
    recorder = StartRecorder(
        settings(**more),
        lambda: inbox or box(counted),
        state=state,
        log=said.append,
        counts=counts,
        is_over=lambda quiet_s: over.is_set(),
        has_gpu=gpu,
    )
    with NodeImages(
        lambda reference: counted.place,
        state=state,
        verifier=key.verifier,
        log=said.append,
        fill=fill,
        carrier=carrier,
        wait_s=patient(60),
        recorder=recorder,
    ) as images:
        yield RecordingNode(images, said, counts, over)


def messages(counted: Counted) -> list[Message]:
    inbox = box(counted)
    return [read_message(inbox, each) for _, group in of_images(waiting(inbox)) for each in group]


def pages(found: Recording) -> set[tuple[str, int]]:
    return {(found.files[n].path, first + more) for n, first, count in found.touches for more in range(count)}


def test_what_an_image_s_first_start_reads_is_sent_and_nothing_else(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=3)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with recording_node(counted, tmp_path / "node", key, gpu=True, fill=True) as (images, said, counts, over):
        folder = found(images, release, top).mount(top)
        assert read_ahead(folder) == PAGE_BYTES
        with (folder / "data/1").open("rb") as file:
            file.seek(5 * PAGE_BYTES)
            assert len(file.read(1)) == 1
        assert (folder / "etc/motd").read_text() == "hello\n"
        (tmp_path / "of-the-machine").write_text("a driver's file")
        # by a program between: this process, which serves the mount, holds its lock until what it starts has begun
        command = ["env", folder / "bin/cat", tmp_path / "of-the-machine"]
        subprocess.run(command, check=True, capture_output=True)
        over.set()
        until(lambda: counts.value("recordings", result="sent") == 1)
        until(lambda: read_ahead(folder) >= READ_AHEAD_BYTES)
        assert (folder / "data/2").read_bytes() and len(messages(counted)) == 1, "it is over"
        until(lambda: read_ahead(folder) > READ_AHEAD_BYTES)  # the rest is fetched once it is
    [message] = messages(counted)
    told = message.recording
    assert (told.image, told.gpu, told.command, told.until) == (release.digest, True, (), "quiet")
    here = pages(told)
    assert {each for each in here if each[0].startswith("data/")} == {("data/1", 5)}
    assert ("etc/motd", 0) in here and ("bin/cat", 0) in here and not any("machine" in path for path, _ in here)
    assert not any(file.sha256 for file in told.files) and 0 <= told.seconds < patient(60)
    assert message.note.carrier == "fuse" and message.note.kernel and len(message.note.node) == 32
    raw = counted.place.registry.get_manifest("inbox", message.descriptor.digest).raw
    for secret in (REFERENCE, str(tmp_path), "registry.example"):
        assert secret.encode() not in raw and secret not in str(told)
    assert any("was recorded: " in line and "sent to registry.example/inbox" in line for line in said)


def test_on_the_kernel_s_own_carrier_it_is_recorded_too_and_complete_afterwards(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fanotify(tmp_path)
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with recording_node(counted, tmp_path / "node", key, fill=True, carrier="fanotify") as (images, _, counts, over):
        folder = found(images, release, top).mount(top)
        with (folder / "data/1").open("rb") as file:
            file.seek(5 * PAGE_BYTES)
            assert len(file.read(1)) == 1
        assert (folder / "etc/motd").read_text() == "hello\n"
        over.set()
        until(lambda: counts.value("recordings", result="sent") == 1)
    [message] = messages(counted)
    told = pages(message.recording)
    assert message.note.carrier == "fanotify" and {each for each in told if "data" in each[0]} == {("data/1", 5)}
    assert ("etc/motd", 0) in told
    with recording_node(counted, tmp_path / "node", key, carrier="fanotify") as (images, _, counts, _):
        assert (found(images, release, top).mount(top) / "data/0").read_bytes() and not counts.value("recordings")


def test_an_image_is_recorded_once_by_a_node_also_after_a_restart(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    for again in (False, True):
        with recording_node(counted, tmp_path / "node", key) as (images, _, counts, over):
            folder = found(images, release, top).mount(top)
            assert (folder / "etc/motd").read_text() == "hello\n"
            assert read_ahead(folder) == (READ_AHEAD_BYTES if again else PAGE_BYTES)
            if not again:
                over.set()
                until(lambda: counts.value("recordings") == 1)
    kept = json.loads((tmp_path / "node/lazy" / FILE).read_bytes())
    assert list(kept["images"]) == [release.digest] and len(kept["begun"]) == 1 and len(messages(counted)) == 1


def test_limits_hold_for_the_node_and_say_so_once(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    releases = [image(counted.place, tag=f"v{number}", more_mib=1) for number in range(3)]
    for each in releases:
        streamer.index(each, INDEXED)
    with recording_node(counted, tmp_path / "node", key, per_hour=1) as (images, said, counts, over):
        for each in releases:
            *_, top = chain(counted.place, each)
            (found(images, each, top).mount(top) / "etc/motd").read_text()
        over.set()
        until(lambda: counts.value("recordings", result="sent") == 1)
        assert len([line for line in said if "not recorded, nor are others" in line]) == 1
    with recording_node(counted, tmp_path / "big", key, max_bytes=Size(1 << 20)) as (images, said, counts, over):
        *_, top = chain(counted.place, releases[2])
        folder = found(images, releases[2], top).mount(top)
        for path in ("data/0", "bin/cat"):
            (folder / path).read_bytes()
        until(lambda: counts.value("recordings", result="dropped") == 1)
        assert any("it read more than 1MiB" in line for line in said)
    with recording_node(counted, tmp_path / "big", key, max_bytes=Size(1 << 20)) as (images, *_):
        folder = found(images, releases[2], top).mount(top)
        assert read_ahead(folder) == READ_AHEAD_BYTES, "it would be as much again"
    none = settings(images=("registry.example/other/*", "elsewhere.example/*"))
    with recording_node(counted, tmp_path / "other", key, images=none.images) as (images, *_):
        folder = found(images, releases[2], top).mount(top)
        assert read_ahead(folder) == READ_AHEAD_BYTES
    assert len(messages(counted)) == 1


def test_a_start_whose_pack_knows_enough_is_not_recorded(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    told = recording(release.digest, {"etc/motd": 6, "data/0": 1 << 20})
    cut(counted.place, tmp_path / "indexer", key, told)
    for gpu in (False, True):
        with recording_node(counted, tmp_path / f"node-{gpu}", key, gpu=gpu) as (images, _, counts, over):
            folder = found(images, release, top).mount(top)
            assert read_ahead(folder) == (PAGE_BYTES if gpu else WINDOW_BYTES)
            assert (folder / "data/0").read_bytes()[:1] and (folder / "etc/motd").read_text() == "hello\n"
            if gpu:
                over.set()
                until(lambda: counts.value("recordings", result="sent") == 1)
    [message] = messages(counted)
    assert pages(message.recording) == {("etc/motd", 0), *(("data/0", page) for page in range(256))}
    cut(counted.place, tmp_path / "indexer", key, msgspec.structs.replace(message.recording, gpu=True))
    with recording_node(counted, tmp_path / "node-again", key, gpu=True) as (images, *_):
        assert read_ahead(found(images, release, top).mount(top)) == WINDOW_BYTES


@pytest.mark.parametrize("trouble", ["denied", "unmounted", "down"])
def test_a_start_that_cannot_be_sent_is_said_and_fails_nothing(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_fuse()
    monkeypatch.setattr("registry_pipelines.node.recording.AGAIN_S", 0.01)
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with FaultRegistry(counted.server.address) as faults:
        if trouble == "denied":
            faults.play("POST", r"/v2/inbox/.*", Status(403))
        if trouble == "down":
            for method in ("GET", "HEAD", "POST", "PUT"):
                faults.play(method, r"/v2/.*", Status(503))
        inbox = Place(DistributionRegistry(faults.address, retries=NEVER), "inbox")
        with recording_node(counted, tmp_path / "node", key, inbox=inbox) as (images, said, counts, over):
            served = found(images, release, top)
            folder = served.mount(top)
            assert (folder / "etc/motd").read_text() == "hello\n"
            if trouble == "unmounted":
                served.release()
            else:
                over.set()
            until(lambda: counts.value("recordings", result="dropped") == 1)
            assert any("recorded for nothing" in line for line in said), said
            if trouble != "unmounted":
                assert (folder / "data/0").read_bytes()
        kept = json.loads((tmp_path / "node/lazy" / FILE).read_bytes())
        assert not kept["images"], "another time"
        inbox.registry.close()  # type: ignore[attr-defined]
    assert not ours(tmp_path)


def test_an_agent_that_ends_meanwhile_sends_nothing(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with recording_node(counted, tmp_path / "node", key) as (images, said, counts, _):
        (found(images, release, top).mount(top) / "etc/motd").read_text()
    assert not [line for line in said if "recorded" in line] and not counts.value("recordings")
    until(lambda: not [each for each in threading.enumerate() if each.name == "record_start"])


HALF = SERVING.replace(
    "import sys, time\n", "import sys, time\nfrom tests.node.test_recording import StartRecorder, settings\n"
).replace(
    "log=sys.stderr.write)",
    "log=sys.stderr.write, recorder=StartRecorder(settings(), lambda: place, state=Path(state), log=print))",
)
"""A node that is killed while it records."""


def test_a_start_that_a_killed_agent_recorded_goes_on_as_any_other_under_the_next_one(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    words = [counted.server.address, str(tmp_path / "node"), str(key.public), release.digest, top, REFERENCE]
    killed = subprocess.Popen(
        [sys.executable, "-c", HALF, *words], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert killed.stdout is not None and killed.stdout.readline() == b"hello\n"
    [folder] = ours(tmp_path)
    assert read_ahead(folder) == PAGE_BYTES
    killed.kill()
    killed.communicate()
    with recording_node(counted, tmp_path / "node", key) as (images, _, counts, over):
        over.set()
        assert found(images, release, top).mount(top) == folder
        until(lambda: read_ahead(folder) == READ_AHEAD_BYTES)
        assert (folder / "data/0").read_bytes() and not counts.value("recordings")
    with pytest.raises(NotFound):
        messages(counted)


@pytest.mark.long  # a traced start on either carrier is among the quick ones
def test_both_carriers_and_each_time_tell_the_same_pages_of_a_real_start(counted: Counted, tmp_path: Path) -> None:
    need_fanotify(tmp_path)
    release = python_image(counted.place)
    told = []
    for number, carrier in enumerate(("fuse", "fuse", "fanotify")):
        state = tmp_path / str(number)
        (state / "top").mkdir(parents=True)
        with open_image(counted.place, release.digest, state=state, log=print) as opened:
            watched, folder = WatchedImage(opened), state / "top"
            watched.begin()
            note = opened.note("x", folder)
            with Mounted(watched, folder, state / "lazy/mounts", note, opened.count, carrier=carrier, log=print) as it:
                assert carrier == "fanotify" or read_ahead(folder) == PAGE_BYTES
                shown = subprocess.run(
                    [shutil.which("chroot") or "chroot", folder, *opened.config["Entrypoint"], "-c", START],  # type: ignore[index]
                    env={"PYTHONHOME": "/opt/py", "PYTHONDONTWRITEBYTECODE": "1"},
                    capture_output=True,
                    text=True,
                )
                assert shown.stdout == "{}\n", shown.stderr
                watched.finish()
                it.read_ahead()
            files, touches = watched.found()
            told.append(Recording(image=release.digest, files=files, touches=touches))
    assert pages(told[0]) == pages(told[1]) and told[0].pages > 1000
    more = pages(told[2]) - pages(told[0])
    assert pages(told[0]) <= pages(told[2]) and len(more) < 20, "small files that share a page of the layer with others"
    assert any("json" in path for path, _ in pages(told[0]))


START = "import json, decimal; print(json.dumps({}), flush=True)"


def test_timeouts(counted: Counted, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    """A program that reads something new all the time has started at some time, too."""
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with recording_node(counted, tmp_path / "node", key, timeout=Duration(seconds=1)) as (images, _, counts, _):
        file = (found(images, release, top).mount(top) / "data/0").open("rb")
        ended = threading.Event()

        def read_on() -> None:
            while not ended.wait(0.05):
                file.seek(PAGE_BYTES, 1)
                file.read(1)

        reader = threading.Thread(target=read_on)
        reader.start()
        until(lambda: counts.value("recordings", result="sent") == 1)
        ended.set()
        reader.join()
        file.close()
    assert messages(counted)[0].recording.pages


def test_where_recordings_go_is_said_by_the_option_and_else_by_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("inbox", "registry.example/inbox:v1", "registry.example/Inbox"):
        shown = CliRunner().invoke(main, ["node", "serve", "--record-to", wrong, "--socket", str(tmp_path / "s")])
        assert shown.exit_code == 8 and "--record-to" in shown.stderr and "without a tag" in shown.stderr
    options = Options(None)
    assert settings_of(options, None) is None
    told = settings_of(options, "registry.example/inbox")
    assert told is not None and (told.inbox, told.per_hour) == ("registry.example/inbox", 4)
    text = "registries: {here: {kind: embedded, port: 5999}}\nnode: {record: {inbox: here/recorded, per_hour: 9}}\n"
    (tmp_path / "registry-pipelines.yaml").write_text(text)
    assert [
        (each.inbox, each.per_hour)
        for each in (settings_of(Options(None), None), settings_of(Options(None), "a.b/c"))
        if each
    ] == [
        ("here/recorded", 9),
        ("a.b/c", 9),
    ]
