"""Names of repositories that hold what was set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import is_quarantine, is_set_aside, origin_of, quarantine_of


@pytest.mark.parametrize(
    ("host", "repository", "aside"),
    [
        ("registry.example.com", "team/app", "rp-quarantine/team/app"),
        ("registry.example.com", "app", "rp-quarantine/app"),
        ("europe-west1-docker.pkg.dev", "project/images/team/app", "project/images/rp-quarantine/team/app"),
        ("gcr.io", "project/team/app", "project/rp-quarantine/team/app"),
        ("eu.gcr.io", "project/app", "project/rp-quarantine/app"),
    ],
)
def test_where_content_is_set_aside(host: str, repository: str, aside: str) -> None:
    found = quarantine_of(Place(DistributionRegistry(host), repository))
    assert found.repository == aside
    assert is_quarantine(aside) and not is_quarantine(repository)
    assert origin_of(aside) == repository


def test_folders_have_it_too(tmp_path: Path) -> None:
    assert quarantine_of(Place(LayoutRegistry(tmp_path), "app")).repository == "rp-quarantine/app"
    assert not is_quarantine("team/not-rp-quarantine-app")
    assert is_set_aside("in/rp-mirrored/airgap") and not is_set_aside("in/not-rp-mirrored/x")
