"""Agents on machines that are not as they should be: each says what, where and what to do, and pulls go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.serving import served
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.needs import missing, needed_module
from tests.node.agent import SERVE, Agent
from tests.node.test_agent import told_json
from tests.node.test_images import chain, labels, node
from tests.node.test_service import Client
from tests.patience import patient, until
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer


@pytest.fixture(autouse=True)
def _root() -> None:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        yield Path(name)


def refused(folder: Path, *, before: str = "", socket: str = "s") -> str:
    """What an agent says that does not begin. before: what its mounts are changed by; empty: it is not root."""
    words = [*SERVE, "--socket", str(folder / socket), "--root", str(folder / "node")]
    changed = ["unshare", "--mount", "sh", "-c", f'cd "{folder}" && {before} && exec "$@"', "sh"]
    alone = changed if before else ["unshare", "--user"]
    own = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
    ran = subprocess.run([*alone, *words], capture_output=True, text=True, env=own, timeout=patient(60))
    assert ran.returncode == LocalError.exit_code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


def test_without_root_it_says_so_and_touches_nothing(folder: Path) -> None:
    assert "mounted by root" in refused(folder)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("mkdir node && mount -t tmpfs -o ro none node", "Read-only file system"),
        pytest.param(
            "mkdir node && mount -t tmpfs -o size=16k,nr_inodes=20 none node",
            "No space left|cannot be kept|full",
            marks=pytest.mark.long,
        ),
        pytest.param("mkdir sub && mount -t tmpfs -o ro none sub", "Read-only file system", marks=pytest.mark.long),
        ("touch sub", "Not a directory|File exists"),
    ],
)
def test_where_its_folders_cannot_be_used_it_says_which(folder: Path, before: str, said: str) -> None:
    line = refused(folder, before=before, socket="sub/s" if "sub" in before else "s")
    assert re.search(said, line) and str(folder) in line, line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--announce", "UPPER//", "--announce", "a.example/b:v1", "--announce", "x y"], "'UPPER//' is not.*'x y'"),
        (["--metrics", "nowhere", "--no-lazy"], "no address to listen on"),
        (["--record-to", "a.example/inbox", "--no-lazy"], "Leave out --no-lazy"),
        (["--metrics-file", "numbers.txt", "--no-lazy"], "reads no such file.*.prom"),
    ],
)
def test_options_that_mean_nothing_end_it_at_once(
    folder: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.chdir(folder)
    command = ["node", "serve", "--socket", str(folder / "s"), "--root", str(folder / "node"), *words]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == InputError.exit_code, done.output
    assert re.search(said, done.output), done.output


def test_two_agents_of_one_folder_are_told_what_to_do(folder: Path) -> None:
    with served(folder / "s", folder / "node", log=print):
        line = refused(folder, before="true")
        assert "another process serves" in line and "End it first" in line


def test_a_socket_folder_that_is_missing_is_made(folder: Path) -> None:
    with served(folder / "deep" / "er" / "s", folder / "node", log=print):
        assert Client(folder / "deep" / "er" / "s").prepare("a")


def test_a_folder_of_hosts_files_that_is_missing_is_said(folder: Path) -> None:
    (folder / "own.yaml").write_text(
        f"version: 1\nstate: {folder}/state\nnode: {{hosts: [/nowhere/certs.d]}}\n"
        "registries:\n  own: {kind: distribution, host: registry.example.com}\n"
    )
    agent = Agent(folder, "--config", str(folder / "own.yaml"))
    agent.start()
    try:
        assert "/nowhere/certs.d is not there" in agent.said()
    finally:
        agent.close()


def test_a_registry_that_is_down_at_the_start_keeps_no_agent_from_starting(folder: Path) -> None:
    agent = Agent(folder, "--announce", "127.0.0.1:1/team/app:v1")
    agent.start()
    try:
        until(lambda: "127.0.0.1:1/team/app:v1" in agent.said())
        assert Client(folder / "snap.sock").prepare("a")
    finally:
        assert agent.end() == 0


class Odd(Agent):
    """An agent whose machine is changed before it starts."""

    def __init__(self, folder: Path, before: str, *options: str) -> None:
        super().__init__(folder, *options)
        self.before = before

    def start(self) -> None:
        words = ["unshare", "--mount", "sh", "-c", f'{self.before} && exec "$@"', "sh"]
        SERVE[:0] = words
        try:
            super().start()
        finally:
            del SERVE[: len(words)]


def test_without_fuse_images_are_pulled_and_that_is_said(folder: Path) -> None:
    agent = Odd(folder, "mount --bind /dev/null /dev/fuse")
    agent.start()
    try:
        until(lambda: "all images are pulled as usual" in agent.said())
        client = Client(folder / "snap.sock")
        said = {
            "containerd.io/snapshot.ref": "sha256:1",
            **{
                "containerd.io/snapshot/cri.image-ref": "registry.example/app:v1",
                "containerd.io/snapshot/cri.manifest-digest": "sha256:" + "0" * 64,
            },
        }
        assert client.prepare("default/7/extract-1 sha256:1", "", **said)
        until(lambda: bool(told_json(agent.root, "status")["fallbacks"]))
        [fallback] = told_json(agent.root, "status")["fallbacks"]
        assert fallback["reason"] == "this-machine" and "registry.example/app:v1@" in fallback["image"]
    finally:
        assert agent.end() == 0


def test_a_disk_that_fills_up_fails_a_pull_and_the_agent_goes_on(folder: Path) -> None:
    agent = Odd(folder, f'mkdir "{folder}/node" && mount -t tmpfs -o size=3m none "{folder}/node"', "--no-lazy")
    agent.start()
    try:
        client = Client(folder / "snap.sock")
        client.prepare("a")
        inside = Path(f"/proc/{agent.process.pid}/root{agent.root}")
        with pytest.raises(OSError, match="No space"), (inside / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for number in range(200):
            try:
                client.prepare(f"more {number}")
            except client.errors as error:
                assert "disk" in error.details() or "space" in error.details(), error.details()
                break
        else:
            pytest.fail("it found room on a full disk")
        (inside / "filler").unlink()
        assert client.prepare("after") and "a" in client.names()
    finally:
        assert agent.end() == 0


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("down", "registry"),
        ("unauthorized", "credentials"),
        ("broken", "registry"),
        ("unknown", "not-found"),
        ("unsigned", "not-indexed"),
        ("another's key", "not-trusted"),
    ],
)
def test_why_an_image_is_pulled_as_usual_has_a_word(
    counted: Counted, streamer: Streamer, key: Key, other_key: Key, tmp_path: Path, trouble: str, reason: str
) -> None:
    release = image(counted.place, more_mib=1)
    ids = chain(counted.place, release)
    if trouble != "unsigned":
        streamer.index(release, INDEXED)
    said, counts = labels(release), Counts()
    if trouble == "unknown":
        said = {name: value.replace(release.digest, "sha256:" + "0" * 64) for name, value in said.items()}
    with FaultRegistry(counted.server.address) as faults:
        if status := {"unauthorized": 401, "broken": 500}.get(trouble):
            faults.play("GET", r"/v2/.*", Status(status))
        where = "127.0.0.1:1" if trouble == "down" else faults.address
        place = Place(DistributionRegistry(where, retries=NEVER), "team/app")
        with node(place, tmp_path / "n", other_key if trouble == "another's key" else key, counts=counts) as images:
            assert images.find(said, ids[0]) is None
        place.registry.close()  # type: ignore[attr-defined]
    [found] = counts.fallbacks()
    assert found.reason == reason and counts.value("images", served="none") == 1, found


def test_a_machine_that_mounts_nothing_asks_no_registry(tmp_path: Path, key: Key) -> None:
    def locate(reference: str) -> Place:
        raise AssertionError("it was asked")

    counts = Counts()
    with NodeImages(
        locate, state=tmp_path / "n", verifier=key.verifier, log=print, counts=counts, fault="there is no /dev/fuse"
    ) as images:
        told = {
            "containerd.io/snapshot/cri.image-ref": "a/b:c",
            "containerd.io/snapshot/cri.manifest-digest": "sha256:" + "1" * 64,
        }
        assert images.find(told, "sha256:2") is None and images.find({}, "sha256:2") is None
    [found] = counts.fallbacks()
    assert found.reason == "this-machine" and found.why == "there is no /dev/fuse"


@pytest.mark.parametrize("name", ["h2", "google.protobuf"])
def test_an_extra_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        monkeypatch.setitem(sys.modules, each, None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ToolMissing, match="is not installed") as raised, served(tmp_path / "s", tmp_path, log=print):
        pass
    assert "registry-pipelines[node]" in raised.value.do
