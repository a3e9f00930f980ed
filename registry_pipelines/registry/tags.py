"""What a tag or digest names in a repository."""

from __future__ import annotations

from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place


def digest_at(place: Place, reference: str) -> Digest | None:
    """The digest of the manifest that a tag or digest names at a place; None without one. Asked by whoever takes "not
    there" for an answer. One request; raises the RegistryError family but NotFound."""
    try:
        return place.registry.resolve(place.repository, reference).digest
    except NotFound:
        return None
