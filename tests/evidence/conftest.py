"""A registry, keys, and an image to sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.docker_registry import DockerRegistry
from tests.evidence.parts import Cosign, Counted, Key, push_image


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Key]:
    """A key pair by name; the same name gives the same pair."""
    folder = tmp_path_factory.mktemp("keys")
    made: dict[str, Key] = {}

    def make(name: str) -> Key:
        if name not in made:
            files = generate_key(folder / f"{name}.key")
            made[name] = Key(files.private, files.public, load_signer(files.private), load_verifier([files.public]))
        return made[name]

    return make


@pytest.fixture
def key(make_key: Callable[[str], Key]) -> Key:
    """Our key."""
    return make_key("ours")


@pytest.fixture
def other_key(make_key: Callable[[str], Key]) -> Key:
    """A key nobody trusts."""
    return make_key("other")


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    """An embedded registry with a repository."""
    with EmbeddedServer(tmp_path / "registry") as server:
        registry = DistributionRegistry(server.address)
        yield Counted(Place(registry, "team/app"), server)
        registry.close()


@pytest.fixture
def place(counted: Counted) -> Place:
    """A repository of an embedded registry."""
    return counted.place


@pytest.fixture
def image(place: Place) -> Descriptor:
    """An image in the place."""
    return push_image(place, tag="v1")


@pytest.fixture(params=["embedded", "docker-registry"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path, peer: Callable[[str], str]) -> Iterator[Place]:
    """A repository of the embedded server, then one of docker-registry, which knows fallback tags only."""
    if request.param == "embedded":
        yield request.getfixturevalue("place")
        return
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as server:
        registry = DistributionRegistry(server.address)
        yield Place(registry, "team/app")
        registry.close()


@pytest.fixture
def cosign(peer: Callable[[str], str], tmp_path: Path) -> Cosign:
    """cosign 3.1.1."""
    return Cosign(peer("cosign"), tmp_path / "cosign-home")


@pytest.fixture
def cosign2(peer: Callable[[str], str], tmp_path: Path) -> Cosign:
    """cosign 2.5.0."""
    return Cosign(peer("cosign2"), tmp_path / "cosign2-home")
