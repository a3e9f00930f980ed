"""Fixtures of the registry room: real registries behind the fault registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import (
    FaultRegistry,
)
from tests.registry.faulty import CONTENT, DIGEST


@pytest.fixture(params=["embedded", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))])
def kind(request: pytest.FixtureRequest) -> str:
    """Which real registry is behind the fault registry."""
    return str(request.param)


@pytest.fixture
def faults(kind: str, tmp_path: Path, peer: Callable[[str], str]) -> Iterator[FaultRegistry]:
    """The fault registry before each of two real registries."""
    if kind == "embedded":
        with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
            yield faults
    else:
        program = peer("docker-registry")
        with DockerRegistry(program, tmp_path / "registry") as other, FaultRegistry(other.address) as faults:
            yield faults


@pytest.fixture
def waits() -> list[float]:
    """The seconds the client wanted to wait, instead of waiting."""
    return []


@pytest.fixture
def registry(faults: FaultRegistry, waits: list[float]) -> Iterator[DistributionRegistry]:
    client = DistributionRegistry(faults.address, retries=Retries(attempts=3, sleep=waits.append))
    yield client
    client.close()


@pytest.fixture
def stored(registry: DistributionRegistry, faults: FaultRegistry) -> DistributionRegistry:
    """The registry with CONTENT in repository ``a``; nothing counted yet."""
    content = Descriptor(media_type="application/octet-stream", digest=DIGEST, size=len(CONTENT))
    registry.upload_blob("a", content, BytesSource(CONTENT))
    faults.reset_counts()
    return registry
