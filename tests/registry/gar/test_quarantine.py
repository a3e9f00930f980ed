"""What retention deletes is set aside below the same repository of Artifact Registry, and comes back."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.registry.gar.registry import GarRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from tests.collect.test_quarantine import apply, content_of, furnish, records, undo
from tests.collect.test_retention import plan, rule
from tests.registry.gar.conftest import APP


def test_what_went_comes_back_byte_for_byte(registry: GarRegistry, tmp_path: Path) -> None:
    generate_key(tmp_path / "promoter.key")
    signer = load_signer(tmp_path / "promoter.key")
    place = Place(registry, APP)
    furnish(place)
    before = content_of(place)
    found = plan(registry, rule((APP,), keep_newest=1, keep_days=0))
    done, _ = apply(registry, found, signer)
    assert done.ok, done.refused
    assert quarantine_of(place).repository == "ml-prod/models/rp-quarantine/team/app"
    assert sorted(registry.tags(APP)) == ["v9"] and len(records(place, signer)) == 3
    for tag in ("v1", "v2", "v3"):
        assert undo(place, signer, tag).problems == []
    assert content_of(place) == before
