"""Which images are below a manifest or index: everything that a container runtime could start."""

from __future__ import annotations

from registry_pipelines.errors import ClosureIncomplete, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    Descriptor,
    Manifest,
    ManifestBytes,
    read_image_config,
)
from registry_pipelines.oci.media_types import IN_TOTO
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.interface import Place

MAX_MANIFESTS = 512
"""Manifests and indexes below one release that are opened; official images have about 40 with their attestations."""


def platform_images(place: Place, top: ManifestBytes) -> dict[Digest, Platform]:
    """Each platform manifest's digest and platform, in the index's order; a plain manifest is its own only one.

    The platform comes from the index, else from the image's config. Left out are manifests no runtime starts: artifacts
    (a SOCI index has no image config) and BuildKit's attestation manifests. Raises ClosureIncomplete (a child is
    missing, too many, too deep), ManifestInvalid, RegistryError.
    """
    walk = _Walk(place)
    walk.visit(top, None, depth=0)
    return walk.found


class _Walk:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._opened: set[Digest] = set()
        self.found: dict[Digest, Platform] = {}

    def visit(self, stored: ManifestBytes, announced: Platform | None, *, depth: int) -> None:
        self._opened.add(stored.digest)
        content = stored.content()
        if isinstance(content, Manifest):
            if _is_image(content):
                self.found[stored.digest] = announced or _configured(self._place, content)
            return
        if depth == MAX_DEPTH:
            raise ClosureIncomplete(f"indexes are nested more than {MAX_DEPTH} deep", where=str(stored.digest))
        for child in content.manifests:
            if child.is_manifest and child.digest not in self._opened:
                if len(self._opened) > MAX_MANIFESTS:
                    raise ClosureIncomplete(f"more than {MAX_MANIFESTS} manifests below it", where=str(self._place))
                self.visit(_child(self._place, child), child.platform, depth=depth + 1)


def _is_image(manifest: Manifest) -> bool:
    """Whether a runtime could start it. BuildKit's attestation manifests have an image config too; only their layers
    tell, because an unknown platform and an annotation could be put on a real image to keep it from being looked at."""
    attestation = bool(manifest.layers) and all(layer.media_type == IN_TOTO for layer in manifest.layers)
    return manifest.is_image and not attestation


def _child(place: Place, child: Descriptor) -> ManifestBytes:
    try:
        return place.registry.get_manifest(place.repository, child.digest)
    except NotFound as error:
        raise ClosureIncomplete(f"the child manifest {child.digest} does not exist", where=str(place)) from error


def _configured(place: Place, content: Manifest) -> Platform:
    try:
        raw = read_blob(place, content.config, limit=MAX_CONFIG_BYTES)
    except NotFound as error:
        raise ClosureIncomplete(f"the image config {content.config.digest} is missing", where=str(place)) from error
    return read_image_config(raw, where=content.config.digest).platform
