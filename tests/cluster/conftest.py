"""What tests of a whole cluster need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import needed_module


@pytest.fixture
def cluster_folder() -> Iterator[Path]:
    """One that the user of Postgres may enter, too."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def cluster_programs(postgres_programs: Path) -> None:
    """Postgres, and the modules of the extra."""
    needed_module("dagster_celery", "cluster")
    needed_module("dagster_postgres", "cluster")
