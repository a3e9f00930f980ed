"""Which platform images a release consists of: everything a container runtime could start below the top digest."""

from __future__ import annotations

from registry_pipelines.errors import ClosureIncomplete, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    read_image_config,
)
from registry_pipelines.oci.media_types import IMAGE_CONFIGS
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.interface import Place

MAX_PLATFORMS = 256
"""Manifests below one index; official images have about 20."""

_BUILDKIT_KIND = "vnd.docker.reference.type"


def platform_images(place: Place, top: ManifestBytes) -> dict[Digest, Platform]:
    """Each platform manifest's digest and platform, in the index's order; a plain manifest is its own only one.

    The platform comes from the index, else from the image's config. Left out are manifests no runtime starts: artifacts
    (a SOCI index has no image config), and BuildKit's attestation manifests, when they say both that they are one *and*
    that their platform is unknown. Raises ClosureIncomplete (a child is missing, too many, too deep), ManifestInvalid,
    RegistryError.
    """
    found: dict[Digest, Platform] = {}
    _collect(place, top, None, found, depth=0)
    return found


def _collect(
    place: Place, stored: ManifestBytes, announced: Platform | None, found: dict[Digest, Platform], *, depth: int
) -> None:
    content = stored.content()
    if isinstance(content, Manifest):
        if not content.artifact_type and content.config.media_type in IMAGE_CONFIGS:
            found[stored.digest] = announced or _configured(place, content)
        return
    if depth == MAX_DEPTH:
        raise ClosureIncomplete(f"indexes are nested more than {MAX_DEPTH} deep", where=str(stored.digest))
    for child in _startable(content):
        if len(found) >= MAX_PLATFORMS:
            raise ClosureIncomplete(f"more than {MAX_PLATFORMS} manifests below the release", where=str(stored.digest))
        _collect(place, _child(place, child), child.platform, found, depth=depth + 1)


def _startable(index: Index) -> list[Descriptor]:
    return [child for child in index.manifests if not _is_buildkit_attestation(child)]


def _is_buildkit_attestation(child: Descriptor) -> bool:
    says_so = (child.annotations or {}).get(_BUILDKIT_KIND) == "attestation-manifest"
    return (
        says_so
        and child.platform is not None
        and (child.platform.os, child.platform.architecture)
        == (
            "unknown",
            "unknown",
        )
    )


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
