"""Google's cloud as these tests meet it: a project with a repository, a registry of one location, and who logs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.registry.client import Retries
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import GarRepository
from registry_pipelines.registry.gar.registry import GarRegistry
from tests.needs import needed_module

REPOSITORY = GarRepository("ml-prod", "europe-west1", "models")
HOST = "europe-west1-docker.pkg.dev"
APP = "ml-prod/models/team/app"
QUICK = Retries(attempts=3, sleep=lambda _: None)


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Any]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud

    with GoogleCloud(tmp_path / "google") as cloud:
        cloud.repository("ml-prod", "europe-west1", "models")
        yield cloud


@pytest.fixture
def plane(google: Any) -> Any:
    """``europe-west1-docker.pkg.dev``."""
    return google.registry("europe-west1")


@pytest.fixture
def key_file(google: Any, tmp_path: Path) -> Path:
    from tests.doubles.google.accounts import service_account_file

    return service_account_file(google.world, tmp_path / "key.json", google.endpoint)


@pytest.fixture
def access(google: Any, key_file: Path) -> GoogleAccess:
    return GoogleAccess("ml-prod", "europe-west1", credentials_file=key_file, endpoint=google.endpoint)


@pytest.fixture
def calls(access: GoogleAccess) -> GoogleCalls:
    return GoogleCalls(access, retries=QUICK)


@pytest.fixture
def registry(plane: Any, access: GoogleAccess) -> GarRegistry:
    return GarRegistry(HOST, access=access, dial=plane.address, retries=QUICK)
