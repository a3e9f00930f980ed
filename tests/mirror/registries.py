"""What registries of a mirror name."""

from __future__ import annotations

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place


def named(place: Place, tag: str) -> Digest:
    """What a tag names."""
    return place.registry.resolve(place.repository, tag).digest
