"""A registry to pull from, with keys, and what indexes."""

from __future__ import annotations

from tests.stream.conftest import any_place, counted, key, make_key, other_key, place, streamer

__all__ = ["any_place", "counted", "key", "make_key", "other_key", "place", "streamer"]
