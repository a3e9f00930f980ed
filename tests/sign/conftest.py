"""The registry, keys and programs that evidence is tested with."""

from __future__ import annotations

from tests.evidence.conftest import any_place, cosign, cosign2, counted, image, key, make_key, other_key, place

__all__ = ["any_place", "cosign", "cosign2", "counted", "image", "key", "make_key", "other_key", "place"]
