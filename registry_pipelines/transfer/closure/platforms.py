"""Which children of an index stay when only some platforms are copied, and the index that names only these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from registry_pipelines.errors import ManifestInvalid
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
    """The children of an index that some client could start for one of the platforms, with the companions that name
    them: linux/amd64 takes plain entries and every variant, and entries for which no platform is named, because clients
    differ in which of them they start. All of them without platforms, or where no child names one (an index of
    artifacts). Raises ManifestInvalid when there is none for a platform."""
    if not platforms or not any(child.platform for child in children):
        return tuple(children)
    unnamed = {child.digest for child in children if not child.platform and not _companion_of(child)}
    chosen = set(unnamed)
    for wanted in platforms:
        matching = [child.digest for child in children if child.platform and wanted.matches(child.platform)]
        if not matching and not unnamed:
            there = ", ".join(str(child.platform) for child in children if child.platform)
            raise ManifestInvalid(f"no manifest for platform {wanted}; there are: {there}", where=where)
        chosen.update(matching)
    return tuple(child for child in children if child.digest in chosen or _companion_of(child) & chosen)


def _companion_of(child: Descriptor) -> set[str]:
    notes = child.annotations or {}
    return {notes[key] for key in _COMPANION_ANNOTATIONS if key in notes}


def rewrite(root: ManifestBytes, platforms: Sequence[Platform], *, where: str) -> ManifestBytes | None:
    """An index with the chosen children only; None where nothing is left out, or the root is no index. Raises
    ManifestInvalid as :func:`select`."""
    content = root.content()
    if not isinstance(content, Index):
        return None
    chosen = select(content.manifests, platforms, where=where)
    if chosen == content.manifests:
        return None
    return manifest_bytes(
        Index(
            schema_version=2,
            media_type=content.media_type or root.media_type,
            artifact_type=content.artifact_type,
            manifests=chosen,
            subject=content.subject,
            annotations=content.annotations,
        )
    )
