from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.cloud import Cloud, cloud
from tests.needs import needed_module


@pytest.fixture
def ecr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    needed_module("boto3", "aws")
    with cloud(tmp_path, monkeypatch) as made:
        yield made
