"""``stream bench pull`` with real clients, and what it makes of the kernel's counters."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench import pullers
from registry_pipelines.stream.bench.counters import Spent, read_counters, spent
from tests.answers import answered
from tests.doubles.containerd import containerd
from tests.doubles.docker_daemon import own_docker
from tests.needs import missing, needed_module
from tests.stream.releases import layer, push


def invoked(place: Place, *words: str, ok: bool = True) -> dict[str, object]:
    names = [f"{place}:{tag}" for tag in ("a", "b")]
    ran = CliRunner().invoke(main, ["stream", "bench", "pull", *names, "--json", "--quiet", *words])
    assert (ran.exit_code == 0) is ok, ran.output
    found: dict[str, object] = answered(ran.stdout)
    return found


@pytest.fixture
def images(place: Place) -> Place:
    push(place, layer("one", 600_000), layer("two", 600_000), tag="a")
    push(place, layer("one", 600_000), tag="b")
    return place


def test_each_client_is_measured_and_keeps_nothing(
    images: Place, peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("docker", "docker")
    if os.geteuid() != 0:
        missing("containerd needs root")
    programs = peer("containerd"), peer("ctr")
    with (
        own_docker(peer) as docker,
        tempfile.TemporaryDirectory(prefix="ctrd-") as folder,
        containerd(*programs, Path(folder)) as ctr,
    ):
        monkeypatch.setenv("DOCKER_HOST", docker.environment["DOCKER_HOST"])
        words = ["--iterations", "1", "--address", f"{folder}/grpc.sock", "--work", str(tmp_path)]
        found = invoked(images, *words, "--out", str(tmp_path / "out"))["pulls"]
        assert docker("images", "-q") == "" and ctr("--namespace", pullers.NAMESPACE, "images", "ls", "-q") == ""
    assert isinstance(found, dict)
    assert [(row["client"], row["image"], row["why"]) for row in found["rows"]] == [
        (client, image, "") for client in ("ours", "docker", "containerd") for image in "AB"
    ]
    for row in found["rows"]:
        assert row["min_s"] <= row["median_s"] <= row["max_s"] and row["min_s"] <= row["mean_s"] <= row["max_s"]
        assert (row["speed_up"] is None) is (row["image"] == "A")
        assert row["received_bytes"] > 300_000  # each time: nothing was kept
    assert sorted(path.name for path in tmp_path.iterdir() if "bench" in path.name or path.name == "out") == ["out"]
    page = (tmp_path / "out" / "pull.md").read_text()
    assert page.count("\n| A |") == 3 and "<svg" in (tmp_path / "out" / "pull.svg").read_text()


def test_a_client_that_is_not_here_is_a_row_that_says_so(
    images: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("docker", "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none.sock'}")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = invoked(images, "--iterations", "1", "--work", str(tmp_path / "made" / "for it"))["pulls"]
    assert isinstance(found, dict)
    why = {row["client"]: row["why"] for row in found["rows"]}
    assert why["ours"] == "" and not any("--link" in note for note in found["notes"])  # there is none to a local one
    assert "no Docker engine answers" in why["docker"] and "ctr is not here" in why["containerd"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = invoked(images, "--iterations", "1", "--client", "docker", "--work", str(tmp_path))["pulls"]
    assert isinstance(found, dict)
    assert {row["why"] for row in found["rows"]} == {"the package docker is not installed (registry-pipelines[docker])"}
    ran = CliRunner().invoke(main, ["stream", "bench", "pull", *2 * [f"{images}:a"], "--client", "podman"])
    assert ran.exit_code == InputError.exit_code and "is no client" in ran.stderr
    (tmp_path / "file").touch()
    for bench in (["pull", f"{images}:a"], ["start", "--way", "pull"]):
        command = ["stream", "bench", *bench, f"{images}:a", "--work", str(tmp_path / "file")]
        ran = CliRunner().invoke(main, command)
        assert ran.exit_code == LocalError.exit_code and "files cannot be kept there" in ran.stderr


def test_an_image_that_an_engine_had_before_is_not_deleted(
    images: Place, peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("docker", "docker")
    with own_docker(peer) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.environment["DOCKER_HOST"])
        docker("pull", f"{images}:b")
        found = invoked(images, "--client", "docker", "--work", str(tmp_path))["pulls"]
        assert isinstance(found, dict)
        assert all("would be deleted" in row["why"] for row in found["rows"])
        assert docker("images", "-q") != ""


@pytest.mark.parametrize(
    ("cpu", "bytes_", "disk", "bound"),
    [
        (0.9, 1, 0.1, "processor"),
        (0.1, 110, 0.1, "network"),
        (0.1, 1, 9.5, "disk"),
        (0.1, 1, 0.1, "none of them"),
    ],
)
def test_what_is_used_up_binds(cpu: float, bytes_: int, disk: float, bound: str) -> None:
    cores = os.cpu_count() or 1
    assert Spent(10.0, cpu * cores * 10, bytes_ * 10_000_000, 0, disk).bound(120e6) == bound


def test_the_kernels_counters_grow_with_what_is_done(tmp_path: Path) -> None:
    before = read_counters()
    (tmp_path / "file").write_bytes(os.urandom(32 << 20))
    with (tmp_path / "file").open("rb") as file:
        os.fsync(file.fileno())
    found = spent(before, read_counters(), loopback=False)
    assert found.seconds > 0 and found.cpu_s > 0 and found.disk_busy_s <= found.seconds + 1
