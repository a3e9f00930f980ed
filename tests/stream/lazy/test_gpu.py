"""What a program sees of the machine's GPU driver. The driver is files that are named as its own are: none of this was
run on a GPU."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.gpu import driver_files
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.lazy.test_rootless import Person

KIND = {"x86_64": "x86-64", "aarch64": "AArch64"}[os.uname().machine]
VERSION = "550.54.15"
TREE = {"usr", "usr/bin", "usr/lib64"}


def kinds(path: str) -> tuple[int, int, int] | None:
    return (stat.S_IFDIR | 0o755, 0, 0) if path in TREE else None


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's driver, and an ldconfig that lists it."""
    folder = tmp_path / "driver"
    folder.mkdir()
    lines = []
    for name, short in (
        ("libcuda.so", "libcuda.so.1"),
        ("libnvidia-ml.so", "libnvidia-ml.so.1"),
        ("libnvcuvid.so", "libnvcuvid.so.1"),
        ("libnvidia-ptxjitcompiler.so", "libnvidia-ptxjitcompiler.so.1"),
        ("libc.so", "libc.so.6"),
    ):
        (folder / f"{name}.{VERSION}").write_text(name)
        (folder / short).symlink_to(f"{name}.{VERSION}")
        lines.append(f"\t{short} (libc6,{KIND}) => {folder}/{short}")
    (folder / "libcuda.so").symlink_to("libcuda.so.1")
    lines.append(f"\tlibcuda.so.1 (libc6) => {folder}/32-bit")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("ldconfig", "\n".join(lines)), ("nvidia-smi", "GPU 0")):
        (programs / name).write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


def names(environment: dict[str, str]) -> set[str]:
    return set(driver_files(environment, kinds, print))


COMPUTE = {f"libcuda.so.{VERSION}", "libcuda.so.1", "libcuda.so", f"libnvidia-ptxjitcompiler.so.{VERSION}"}
COMPUTE |= {"libnvidia-ptxjitcompiler.so.1"}
UTILITY = {f"libnvidia-ml.so.{VERSION}", "libnvidia-ml.so.1"}
VIDEO = {f"libnvcuvid.so.{VERSION}", "libnvcuvid.so.1"}


@pytest.mark.parametrize(
    ("environment", "libraries"),
    [
        ({}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": ""}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, COMPUTE | UTILITY),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, COMPUTE | UTILITY),
        ({"CUDA_VERSION": "12.4"}, COMPUTE | UTILITY),
        ({"NVIDIA_VISIBLE_DEVICES": "0", "NVIDIA_DRIVER_CAPABILITIES": "compute"}, COMPUTE),
        ({"NVIDIA_VISIBLE_DEVICES": "0", "NVIDIA_DRIVER_CAPABILITIES": "all"}, COMPUTE | UTILITY | VIDEO),
    ],
)
def test_an_image_gets_what_it_asks_for(driver: Path, environment: dict[str, str], libraries: set[str]) -> None:
    programs = {"usr/bin/nvidia-smi"} if UTILITY & libraries else set()
    assert names(environment) == {f"usr/lib64/{name}" for name in libraries} | programs


def test_the_list_of_nvidia_s_own_tool_comes_first_and_one_that_fails_does_not_count(driver: Path) -> None:
    tool = driver.with_name("programs") / "nvidia-container-cli"
    tool.write_text(f"#!/bin/sh\necho {driver}/libcuda.so.{VERSION}\necho /dev/nvidia0\n")
    tool.chmod(0o755)
    assert names({"NVIDIA_VISIBLE_DEVICES": "all"}) == {f"usr/lib64/{name}" for name in COMPUTE if "cuda" in name}
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert f"usr/lib64/libnvidia-ml.so.{VERSION}" in names({"NVIDIA_VISIBLE_DEVICES": "all"})


def test_a_program_sees_the_driver_and_cannot_change_it(driver: Path, tmp_path: Path) -> None:
    need_fuse()
    script = "cat /usr/lib64/libcuda.so.1 /usr/lib64/libnvidia-ml.so.1; ls /usr/lib64; cat /usr/bin/nvidia-smi >&2; "
    with EmbeddedServer(tmp_path / "registry") as server:
        registry = DistributionRegistry(server.address)
        image(Place(registry, "team/app"), tag="gpu", more_mib=1, gpu="all")
        image(Place(registry, "team/app"), tag="cpu", more_mib=1)
        registry.close()
        person = Person(tmp_path, server.address, root=True)
        code, output, errors = person.sh("gpu", script + "echo >/usr/lib64/libcuda.so.1")
        assert output.startswith("libcuda.solibnvidia-ml.so") and "own" in output and "GPU 0" in errors
        assert code == 2 and "Read-only file system" in errors
        assert (driver / f"libcuda.so.{VERSION}").read_text() == "libcuda.so"
        code, output, _ = person.sh("cpu", "echo /usr/lib64/*")
        assert (code, output) == (0, "/usr/lib64/own\n")
