"""How many pulls reading an image will be, before it is read: what a registry's quota counts.

Docker Hub counts a pull for each architecture (docs.docker.com, "Docker Hub pull usage and limits"); a HEAD is free,
and so is what is known by digest already, here or at the target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.manifests import ManifestFolder


def pulls_of(top: Descriptor, platforms: Sequence[Platform], known: ManifestFolder | None) -> tuple[int, bool]:
    """Pulls that reading an image costs, and whether that is exact. top: what a HEAD said. platforms: those that are
    taken, all when empty."""
    manifest = known.manifest(top.digest) if known else None
    if manifest is None:
        if top.media_type not in media_types.INDEXES:
            return 1, True
        return max(1, len(platforms)), bool(platforms)
    content = manifest.content()
    if not isinstance(content, Index):
        return 0, True
    children = [each for each in content.manifests if _taken(each, platforms)]
    return sum(known is None or known.manifest(each.digest) is None for each in children), True


def _taken(child: Descriptor, platforms: Sequence[Platform]) -> bool:
    if not platforms or child.platform is None or child.platform.unknown:
        return True
    return any(each.matches(child.platform) for each in platforms)


def learn_from(place: Place, digest: Digest, known: ManifestFolder) -> None:
    """Fetch an image's manifests from where they are already, as a target that an earlier run filled: what is named by
    a digest is the same everywhere, and this place has no quota. What is not there is passed over."""
    if known.manifest(digest) is not None:
        return
    with contextlib.suppress(RegistryPipelinesError):
        top = place.registry.get_manifest(place.repository, digest)
        known.keep_manifest(top)
        content = top.content()
        for child in content.manifests if isinstance(content, Index) else ():
            with contextlib.suppress(RegistryPipelinesError):
                if known.manifest(child.digest) is None:
                    known.keep_manifest(place.registry.get_manifest(place.repository, child.digest))
