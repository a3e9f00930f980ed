"""A place for images, and the shipped advisories indexed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisories import AdvisoryStore
from tests.scan.images import ADVISORIES


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


@pytest.fixture(scope="session")
def pypa(tmp_path_factory: pytest.TempPathFactory) -> AdvisoryStore:
    return AdvisoryStore.load(ADVISORIES, tmp_path_factory.mktemp("advisories"))
