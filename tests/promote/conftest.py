"""A registry, keys, and releases to judge."""

from __future__ import annotations

import pytest

from registry_pipelines.registry.protocol import Place
from tests.evidence.conftest import any_place, cosign, cosign2, counted, key, make_key, other_key, place
from tests.evidence.parts import Key
from tests.promote.parts import Candidate, candidate

__all__ = ["any_place", "cosign", "cosign2", "counted", "key", "make_key", "other_key", "place"]


@pytest.fixture
def bare(place: Place, key: Key) -> Candidate:
    """A release without any evidence."""
    return candidate(place, key)


@pytest.fixture
def good(bare: Candidate) -> Candidate:
    """A release with everything the default policy asks for, signed."""
    bare.attach_everything()
    bare.sign()
    return bare
