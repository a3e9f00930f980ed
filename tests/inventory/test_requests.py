"""What a survey costs: requests for each image, by what the registry offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.inventory.survey import SURVEY_THREADS, survey
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.collect.test_retention import push
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry

IMAGES = 20


def requests(address: str) -> Counter[str]:
    """By method and kind, for IMAGES images with a tag each, one of them with two."""
    with FaultRegistry(address) as between:
        registry = DistributionRegistry(between.address)
        place = Place(registry, "team/app")
        for number in range(IMAGES):
            push(place, f"v{number}", days_ago=number)
        registry.put_manifest("team/app", registry.get_manifest("team/app", "v0"), tag="latest")
        before = len(between.seen)
        assert len(survey(place).nodes) == IMAGES
        kinds = ("manifests", "blobs", "referrers", "tags/list")
        return Counter(
            f"{one.method} {next((kind for kind in kinds if f'/{kind}' in one.target), one.target)}"
            for one in between.seen[before:]
        )


def test_an_image_takes_three_requests_where_referrers_are_asked_for(tmp_path: Path) -> None:
    """Its manifest by the tag, its config for its age, and who refers to it; a further tag takes one."""
    with EmbeddedServer(tmp_path) as server:
        found = requests(server.address)
    assert found["GET manifests"] == IMAGES + 1 and found["HEAD manifests"] == 0
    assert found["GET blobs"] <= IMAGES + 1 and found["GET referrers"] <= IMAGES + 1
    assert found["GET tags/list"] == 1


@pytest.mark.peer("docker-registry")
def test_an_image_takes_two_at_docker_registry(tmp_path: Path, peer: Callable[[str], str]) -> None:
    """It has no referrers API, and the list of tags shows which lists of referrers there are."""
    with DockerRegistry(peer("docker-registry"), tmp_path) as other:
        found = requests(other.address)
    assert found["GET manifests"] == IMAGES + 1 and found["HEAD manifests"] == 0
    assert found["GET blobs"] <= IMAGES + 1
    asked = "each thread at most asks once whether it has one, and once what is said of a manifest that nobody has"
    assert found["GET referrers"] <= 2 * SURVEY_THREADS < IMAGES, asked
