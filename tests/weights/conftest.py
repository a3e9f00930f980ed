"""Models as folders of shards, and registries that count what passes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from registry_pipelines.cli import main
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.answers import answered
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.conftest import make_key

__all__ = ["make_key"]

SHARD_VALUES = 8192
"""Of 4 bytes; the shards of tests about many of them."""


def noise(size: int, seed: int = 0) -> bytes:
    """Content that no two seeds share."""
    return random.Random(seed).randbytes(size)


def shard(path: Path, seed: int, values: int = SHARD_VALUES) -> None:
    """A safetensors file with two tensors, written by the safetensors package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = numpy.random.default_rng(seed)
    tensors = {
        f"layer.{seed}.weight": made.standard_normal((values // 64, 64)).astype("float32"),
        f"layer.{seed}.bias": made.standard_normal(16).astype("float16"),
    }
    save_file(tensors, str(path))


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model: shards with an index, and what stands beside them."""

    def write(name: str, shards: int = 3, seed: int = 1, *, values: int = SHARD_VALUES) -> Path:
        folder, named = tmp_path / name, {}
        for number in range(1, shards + 1):
            file = f"model-{number:05}-of-{shards:05}.safetensors"
            shard(folder / file, seed * 10_000 + number, values)
            named[f"layer.{seed * 10_000 + number}.weight"] = file
            named[f"layer.{seed * 10_000 + number}.bias"] = file
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
        (folder / "config.json").write_text('{"model_type": "test"}')
        (folder / "README.md").write_text("# A model\n")
        return folder

    return write


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The embedded registry."""
    with EmbeddedServer(tmp_path / "registry") as server:
        yield server.address


@pytest.fixture
def docker_address(tmp_path: Path, peer: Callable[[str], str]) -> Iterator[str]:
    """The CNCF registry, which has no referrers API."""
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as registry:
        yield registry.address


@pytest.fixture
def faults(address: str) -> Iterator[FaultRegistry]:
    """The embedded registry behind what counts bytes and plays faults."""
    with FaultRegistry(address) as proxy:
        yield proxy


@pytest.fixture
def client() -> Iterator[Callable[[str], DistributionRegistry]]:
    made: list[DistributionRegistry] = []

    def connect(address: str) -> DistributionRegistry:
        made.append(DistributionRegistry(address))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def call(*words: object) -> Result:
    """``weights`` with these words."""
    return CliRunner().invoke(main, ["weights", *map(str, words), "--quiet"])


def done(*words: object) -> dict[str, Any]:
    """The one result of a call that ends well."""
    ran = call(*words, "--json")
    assert ran.exit_code == 0, ran.output
    return dict(answered(ran.stdout))


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder has, without our list and what a pull keeps meanwhile."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "weights.json" and ".registry-pipelines" not in path.parts
    }
