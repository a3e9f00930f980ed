"""Images put into container runtimes: each runs what it was given, and compares its own unpacking with ours."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import DigestMismatch, LayerInvalid, LocalError, ToolMissing
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.pull.pulling import pull_to_folder
from registry_pipelines.stream.pull.runtimes import Containerd, Docker, pull_to_runtime
from tests.doubles.containerd import Containerd as Client
from tests.doubles.containerd import containerd
from tests.doubles.docker_daemon import own_docker
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt
from tests.evidence.parts import Counted
from tests.needs import missing
from tests.stream.layers import pack
from tests.stream.lazy.parts import noise
from tests.stream.lazy.stacks import described, entry
from tests.stream.releases import Layer, program, push, push_index

CONFIG = {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"]}
STACK = [
    [
        entry("bin", tarfile.DIRTYPE, mode=0o755, mtime=1_600_000_000),
        entry("bin/hello", content=program(b"hello\n"), mode=0o755),
        entry("gone", content=b"gone"),
        *(entry(f"d/{number}", content=noise(number, 5000), uid=number) for number in range(5)),
        entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    ],
    [
        entry(".wh.gone"),
        entry("d/.wh..wh..opq"),
        entry("d/new", content=b"new", mode=0o4711),
        entry("link", tarfile.SYMTYPE, linkname="d/new"),
        entry("hard", tarfile.LNKTYPE, linkname="d/new"),
        entry("big", content=noise(9, 3 << 20)),
    ],
]
VERSIONS = pytest.mark.parametrize(
    "programs",
    [
        pytest.param(("containerd", "ctr"), id="the system's"),
        pytest.param(("../containerd2/containerd", "../containerd2/ctr"), id="2", marks=pytest.mark.long),
    ],
)


def pushed(place: Place) -> None:
    layers = [Layer(gzip.compress(pack(entries), 1), pack(entries)) for entries in STACK]
    image = push(place, *layers, config=CONFIG)
    push_index(place, {"amd64": image, "arm64": image}, tag="v1", attested=True)


@contextmanager
def started(peer: Callable[[str], str], programs: tuple[str, str]) -> Iterator[tuple[Client, Containerd]]:
    if os.geteuid() != 0:
        missing("containerd needs root")
    found = [peer(each) for each in programs]
    with tempfile.TemporaryDirectory(prefix="ctrd-") as folder, containerd(found[0], found[1], Path(folder)) as client:
        yield client, Containerd(address=f"{folder}/grpc.sock", namespace="mine", program=found[1])


@VERSIONS
def test_containerd_runs_what_it_was_given_and_has_unpacked_the_same(
    counted: Counted, peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path
) -> None:
    place = counted.place
    pushed(place)
    name, image = f"{place}:v1", image_for(place, "v1")
    with started(peer, programs) as (client, runtime):
        pulled = pull_to_runtime(image, name, runtime)
        assert pulled.fetched_bytes > 2 << 20 and pulled.notes == ["containerd had no namespace 'mine', and has it now"]
        mine = ("--namespace", "mine")
        top = place.registry.resolve(place.repository, "v1").digest
        [_, row] = client(*mine, "images", "check").splitlines()
        assert row.split()[0] == name and row.split()[2] == top and row.endswith("true")  # unpacked
        assert client(*mine, "run", "--rm", "--net-host", name, "one") == "hello\n"
        again = pull_to_runtime(image, name, runtime)
        assert (again.fetched_bytes, again.stored_layers, again.notes) == (0, 2, [])
        # What containerd unpacked by itself is what a folder gets.
        pull_to_folder(image, tmp_path / "made")
        mount = tmp_path / "mount"
        mount.mkdir()
        client(*mine, "images", "mount", name, str(mount))
        try:
            ours, theirs = (
                {path: about(folder / path) for path in paths(folder)} for folder in (tmp_path / "made", mount)
            )
        finally:
            client(*mine, "images", "unmount", "--rm", str(mount))
        assert ours == theirs
        client(*mine, "images", "rm", "--sync", name)


def paths(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def about(path: Path) -> tuple[object, ...]:
    """Without the time of directories: those that no entry tells of have that of the unpacking."""
    mode, uid, gid, time, *rest = described(path)
    return mode, uid, gid, 0 if path.is_dir() and not path.is_symlink() else time, *rest


@pytest.mark.parametrize("damage", ["compressed", "unpacked"])
def test_a_damaged_layer_names_nothing_in_containerd(counted: Counted, peer: Callable[[str], str], damage: str) -> None:
    tar = pack(STACK[1])
    push(counted.place, Layer(gzip.compress(tar, 1), tar if damage == "compressed" else b"other"), tag="v1")
    with FaultRegistry(counted.server.address) as faults, started(peer, ("containerd", "ctr")) as (client, runtime):
        place = Place(DistributionRegistry(faults.address), "team/app")
        image = image_for(place, "v1")
        if damage == "compressed":
            faults.play("GET", rf"/v2/team/app/blobs/{image.manifest.layers[0].digest}", Corrupt(100_000))
        with pytest.raises((DigestMismatch, LayerInvalid)):
            pull_to_runtime(image, f"{place}:v1", runtime)
        assert client("--namespace", "mine", "images", "ls", "-q") == ""


def test_docker_runs_what_it_was_given(
    counted: Counted, peer: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(counted.place)
    with own_docker(peer) as client:
        monkeypatch.setenv("DOCKER_HOST", client.environment["DOCKER_HOST"])
        name = f"{counted.place}:v1"
        ran = CliRunner().invoke(main, ["stream", "pull", name, "--to", "docker", "--quiet"])
        assert ran.exit_code == 0, ran.output
        assert client("run", "--rm", "--network", "host", name) == "hello\n"
        client("rmi", name)


def test_a_runtime_that_is_not_there_is_named(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Callable[[str], str]
) -> None:
    pushed(counted.place)
    image, name = image_for(counted.place, "v1"), f"{counted.place}:v1"
    with pytest.raises(LocalError, match="containerd does not answer"):
        pull_to_runtime(image, name, Containerd(address=str(tmp_path / "none.sock"), program=peer("ctr")))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none.sock'}")
    with pytest.raises(LocalError, match="docker does not answer"):
        pull_to_runtime(image, name, Docker(program=peer("docker")))
    monkeypatch.setenv("PATH", str(tmp_path))
    for runtime in (Containerd(), Docker()):
        with pytest.raises(ToolMissing, match="is not here"):
            pull_to_runtime(image, name, runtime)


def test_what_a_runtime_says_when_it_ends_is_told(counted: Counted, tmp_path: Path) -> None:
    pushed(counted.place)
    fake = tmp_path / "ctr"
    fake.write_text('#!/bin/sh\ncase "$*" in *import*) echo "no space left" >&2; exit 1;; esac\n')
    fake.chmod(0o755)
    with pytest.raises(LocalError, match="containerd did not take the image: no space left"):
        pull_to_runtime(image_for(counted.place, "v1"), "a/b:v1", Containerd(address=str(fake), program=str(fake)))
    assert subprocess.run([fake, "version"], check=True).returncode == 0
