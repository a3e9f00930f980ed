"""Which children of an index stay when only some platforms are copied, and the index that names only these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform

Selection = Literal["sparse", "rewritten"]
"""How platforms are selected. ``sparse``: the index keeps its bytes, digest and signatures, other children are left
out (some registries, docker-registry among them, refuse such an index). ``rewritten``: a new index with the selected
children only; it has a new digest, so what referred to the old index does not come along. Where nothing is left out the
index stays what it is."""

_COMPANION_ANNOTATIONS = ("vnd.docker.reference.digest", "com.amazon.soci.image-manifest-digest")
"""An index child with one of these belongs to the child it names: BuildKit's attestations, SOCI v2's index."""


def select(children: Sequence[Descriptor], platforms: Sequence[Platform], *, where: str) -> tuple[Descriptor, ...]:
    """The children of an index for the platforms, with the companions that name them; all of them without platforms, or
    where no child names one (an index of artifacts). Raises ManifestInvalid when there is none for a platform."""
    if not platforms or not any(child.platform for child in children):
        return tuple(children)
    chosen: set[Digest] = set()
    for wanted in platforms:
        matching = [child.digest for child in children if child.platform and wanted.matches(child.platform)]
        if not matching:
            there = ", ".join(str(child.platform) for child in children if child.platform) or "none named"
            raise ManifestInvalid(f"no manifest for platform {wanted}; there are: {there}", where=where)
        chosen.update(matching)
    companions = {
        child.digest
        for child in children
        if any((child.annotations or {}).get(key) in chosen for key in _COMPANION_ANNOTATIONS)
    }
    return tuple(child for child in children if child.digest in chosen | companions)


def rewrite(root: ManifestBytes, platforms: Sequence[Platform], *, where: str) -> ManifestBytes | None:
    """An index with the chosen children only; None where nothing is left out, or the root is no index. Raises
    ManifestInvalid as :func:`select`."""
    content = root.content()
    if not isinstance(content, Index):
        return None
    kept = select(content.manifests, platforms, where=where)
    if kept == content.manifests:
        return None
    return manifest_bytes(
        Index(
            schema_version=2,
            media_type=content.media_type or root.media_type,
            artifact_type=content.artifact_type,
            manifests=kept,
            subject=content.subject,
            annotations=content.annotations,
        )
    )
