"""Images that a far registry may delete by itself, because they ask for it: what copies of them say."""

from __future__ import annotations

from registry_pipelines.errors import ContentError, RegistryError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.image_warnings import expiry_of
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place


def expiry_notes(place: Place, digest: Digest, name: str = "") -> list[str]:
    """A sentence where an image, or one of its platforms, has a label by which Quay deletes the tag, wherever it is
    pushed: a mirror of it is gone after that time, and comes back with the next run. name: what it is called in the
    sentence, the place unless told. Also where that could not be read: then it is not known.

    Asked after something was copied: one request for each manifest and config.
    """
    called = name or str(place)
    try:
        entries = read_entries(place, place.registry.get_manifest(place.repository, digest))
    except (RegistryError, ContentError) as error:
        return [f"{called}: whether a label lets a registry delete it could not be read: {error.what}"]
    labels = list(dict.fromkeys(filter(None, (expiry_of(entry) for entry in entries if entry.kind == "image"))))
    return [f"{called} has the label {label}: Quay deletes its tag after that, at a copy too" for label in labels[:1]]
