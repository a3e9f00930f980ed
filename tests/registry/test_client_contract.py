"""DistributionRegistry fulfils the contract before the embedded server and before docker-registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.certificates import make_certificates
from tests.doubles.docker_registry import DockerRegistry
from tests.registry.contract import RegistryContract


class TestEmbedded(RegistryContract):
    @pytest.fixture(scope="class")
    @classmethod
    def registry(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DistributionRegistry]:
        with EmbeddedServer(tmp_path_factory.mktemp("embedded")) as server:
            client = DistributionRegistry(server.address)
            yield client
            client.close()


class TestEmbeddedWithTokens(RegistryContract):
    @pytest.fixture(scope="class")
    @classmethod
    def registry(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DistributionRegistry]:
        with EmbeddedServer(tmp_path_factory.mktemp("tokens"), users={"ci": "pass:word"}, tokens=True) as server:
            client = DistributionRegistry(server.address, username="ci", password="pass:word")
            yield client
            client.close()


@pytest.mark.peer("docker-registry")
class TestDockerRegistry(RegistryContract):
    """With htpasswd and TLS under an authority of our own; it has neither a referrers API nor tag deletes."""

    deletes_tags = False
    keeps_sha512_manifests = False

    @pytest.fixture(scope="class")
    @classmethod
    def registry(
        cls, peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[DistributionRegistry]:
        folder = tmp_path_factory.mktemp("distribution")
        made = make_certificates(folder)
        with DockerRegistry(
            peer("docker-registry"), folder, certificate=made.certificate, key=made.key, users={"ci": "pass:word"}
        ) as server:
            client = DistributionRegistry(server.address, username="ci", password="pass:word", ca_file=made.ca)
            yield client
            client.close()
