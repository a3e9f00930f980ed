"""What applying a plan costs: requests for each image that goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.quarantine import Quarantine
from registry_pipelines.evidence.keys import generate_key, load_signer, verifier_of
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from tests.collect.test_retention import KEEP_ONE, NOW, plan, push
from tests.doubles.fault_registry import FaultRegistry

IMAGES = 20
"""More than are set aside at once."""


def test_an_image_that_goes_takes_two_dozen_requests(tmp_path: Path) -> None:
    """What is read of it before it is set aside is not asked again, and a layer of many images is looked for once."""
    generate_key(tmp_path / "key")
    signer = load_signer(tmp_path / "key")
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as between:
        registry = DistributionRegistry(between.address)
        place = Place(registry, "team/app")
        for number in range(IMAGES + 1):
            push(place, f"v{number}", days_ago=100 + number, layers=(b"of all", b"of all, too"))
        found = plan(registry, KEEP_ONE)
        before = len(between.seen)
        aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW)
        assert len(apply_plan(registry, found, now=NOW, aside=aside).deleted) == IMAGES
        asked = Counter((one.method, one.target.partition("?")[0]) for one in between.seen[before:])
    assert sum(asked.values()) <= 24 * IMAGES
    kept = quarantine_of(place).repository
    for method, one in asked:
        if method == "HEAD" and f"/{kept}/blobs/" in one:
            assert asked[method, one] <= 2, "a blob that all images share is looked for again"
    gone = [one for method, one in asked if method == "DELETE" and "/team/app/manifests/" in one and kept not in one]
    assert len(gone) == IMAGES and all(asked["GET", one] == 1 for one in gone), "a manifest is read once"
