"""A private and a public index: both have ``acme-core``, the public one with version 99."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.packages.sources import Asking
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's pip settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asking]:
    asking = Asking(tmp_path / "state")
    yield asking
    asking.cache.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(user="robot:hunter2") as index:
        index.add(make_wheel(tmp_path / "ours", "acme-core", "1.0", requires=("leaf",)))
        yield index


@pytest.fixture
def public(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex() as index:
        index.add(make_wheel(tmp_path / "public", "acme-core", "99.0"))
        index.add(make_wheel(tmp_path / "public", "leaf", "2.0"))
        yield index
