"""Expired images whose tags are immutable: a tag that never moves is no image that lives for ever.

ECR deletes them by their digest, tags and all, and takes the tags again; Artifact Registry deletes nothing that has
such a tag, and a plan says so instead of trying.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.gar.registry import GarRegistry
from registry_pipelines.registry.protocol import Place
from tests.collect.test_quarantine import apply, content_of, furnish, records, undo
from tests.collect.test_retention import ECR_HOST, KEEP_ONE, NOW, going, judged, plan, push, rule
from tests.doubles.aws.ecr import EcrDouble
from tests.registry.gar.conftest import access as access
from tests.registry.gar.conftest import google as google
from tests.registry.gar.conftest import key_file as key_file
from tests.registry.gar.conftest import plane as plane
from tests.registry.gar.conftest import registry as registry


def test_ecr_lets_them_go_by_digest_and_takes_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_key(tmp_path / "promoter.key")
    signer = load_signer(tmp_path / "promoter.key")
    with EmbeddedServer(tmp_path / "behind") as server, EcrDouble(server.address) as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        ecr = EcrRegistry(ECR_HOST, plain_http=True, environ={"HTTP_PROXY": f"http://{double.proxy_address}"})
        place = Place(ecr, "team/app")
        furnish(place)
        double.here.open("team/app").mode = "IMMUTABLE"
        before, found = content_of(place), plan(ecr, KEEP_ONE)
        assert going(found) == {"v1", "old", "v2", "v3"}
        done, _ = apply(ecr, found, signer)
        assert done.ok, done.refused
        assert sorted(ecr.tags("team/app")) == ["v9"] and len(records(place, signer)) == 3
        for tag in ("v1", "v2", "v3"):
            assert undo(place, signer, tag).problems == []
        assert content_of(place) == before


def test_artifact_registry_keeps_them_and_the_plan_says_why(registry: GarRegistry, google: Any) -> None:
    google.repository("ml-prod", "europe-west1", "fixed", immutable=True)
    place = Place(registry, "ml-prod/fixed/app")
    for tag in ("v1", "v2"):
        push(place, tag, days_ago=300)
    before = content_of(place)
    found = plan(registry, rule((place.repository,), keep_newest=0, keep_days=0))
    assert going(found) == set() and found.freed_bytes == 0
    for why in judged(found, place.repository).values():
        assert "immutable, and the registry deletes nothing that has one" in why
    assert apply_plan(registry, found, now=NOW).refused == []
    assert content_of(place) == before
