"""Mirrors that keep the upstream's host in the path, so that clusters find an image under the name they know."""

from __future__ import annotations

from registry_pipelines.mirror.model import host_path
from registry_pipelines.oci.references import check_repository
from registry_pipelines.registry.protocol import Place
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet, push

__all__ = ["fleet"]


def test_a_host_is_the_first_part_of_a_repository() -> None:
    assert host_path("docker.io") == "docker.io"
    for host in ("Registry.example.com:5000", "[fd00::1]:5000", "[fd00::1]", "localhost:1"):
        assert check_repository(f"{host_path(host)}/app") == f"{host_path(host)}/app" and ":" not in host_path(host)
    assert host_path("Registry.example.com:5000") == "registry.example.com-5000"


def test_the_repository_keeps_the_host_unless_it_is_told(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    digest = push(upstream, "1.0", provenance=False).digest
    chain = fleet.reload(
        ("    prefix: in\n", "    prefix: in\n    keep_host: true\n"),
        ("    upstreams:\n", "    upstreams:\n      - {image: us/up/stream, repository: told/app}\n"),
    )
    assert chain.mirror("airgap").ok
    path = f"in/{host_path(upstream.registry.name)}/up/stream"
    for name in ("dmz", "private"):
        for repository in (path, "in/told/app"):
            assert chain.registry(name).resolve(repository, "1.0").digest == digest
    config = chain.config
    hub = type(config.mirrors["airgap"].upstreams[0])(image="python")
    assert config.mirrored_repository(config.mirrors["airgap"], hub) == "in/docker.io/library/python"
