"""A registry, keys, and what indexes and converts."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.registry.protocol import Place
from tests.evidence.conftest import any_place, counted, key, make_key, other_key, place
from tests.evidence.parts import Key
from tests.stream.releases import Streamer

__all__ = ["any_place", "counted", "key", "make_key", "other_key", "place"]


@pytest.fixture
def streamer(place: Place, key: Key, tmp_path: Path) -> Streamer:
    """With a fresh state folder, at the place."""
    return Streamer(place, tmp_path / "state", key.signer)
