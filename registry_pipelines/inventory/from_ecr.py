"""ECR by its API: one DescribeImages for each 1,000 images, active, archived and being restored ones.

The lists name neither the manifests of an index nor layers. BatchGetImage, a hundred at once, has the manifests: those
of indexes are read unless told otherwise, since without them nobody knows what is still listed. Reading a manifest
counts as a pull (``lastRecordedPullTime``), unless our role is excluded (RegisterPullTimeUpdateExclusion).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Literal

from registry_pipelines.errors import ContentError
from registry_pipelines.inventory.parts import Parts, RepositoryFacts
from registry_pipelines.inventory.reader import made_row
from registry_pipelines.inventory.rows import Row
from registry_pipelines.inventory.survey import blobs_of
from registry_pipelines.inventory.value import now
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, ManifestBytes, descriptors
from registry_pipelines.oci.referrers import read_fallback
from registry_pipelines.registry.ecr.calls import MAX_BATCH
from registry_pipelines.registry.ecr.images import EcrImage, EcrImages

Manifests = Literal["none", "indexes", "all"]


class EcrReader:
    """A registry of ECR. manifests: which are read. See :class:`~registry_pipelines.inventory.reader.Reader`."""

    kind = "ecr"
    facts: Mapping[str, RepositoryFacts] = MappingProxyType({})

    def __init__(self, registry: str, images: EcrImages, *, manifests: Manifests = "indexes") -> None:
        self._registry, self._images, self._manifests = registry, images, manifests
        self._before = images.calls.sent.value
        self.notes: Sequence[str] = (
            *(() if manifests == "all" else ("layers are not counted: ECR's lists do not tell them",)),
            *(() if manifests != "none" else ("manifests of indexes were not read",)),
        )

    def repositories(self) -> Iterator[str]:
        """See Reader."""
        return (each.name for each in self._images.list_repositories())

    def images(self, repository: str) -> Iterator[Row]:
        """See Reader. A manifest that is archived cannot be read; its index's children are then not known."""
        found = self._images.list_images(repository)
        while taken := list(islice(found, MAX_BATCH * 10)):
            parts = self._parts(repository, taken)
            made = made_row(self._registry, repository, now())
            for each in taken:
                children, layers, below = parts.get(each.digest, (None, None, None))
                if each.media_type and each.media_type not in media_types.INDEXES:
                    children = ()
                yield made(
                    each.digest,
                    tags=each.tags,
                    size_bytes=each.size,
                    layers=layers,
                    media_type=each.media_type,
                    artifact_type=each.artifact_type,
                    subject=each.subject,
                    children=children,
                    pushed=each.pushed,
                    pulled=each.pulled,
                    status=each.status,
                    archived=each.archived,
                    activated=each.activated,
                    parts=below,
                )

    def calls(self) -> int:
        """See Reader."""
        return self._images.calls.sent.value - self._before

    def _parts(self, repository: str, images: Iterable[EcrImage]) -> dict[str, Below]:
        """By digest what is below those that are read."""
        wanted = [each.digest for each in images if self._reads(each)]
        parts: dict[str, Below] = {}
        for start in range(0, len(wanted), MAX_BATCH):
            found, _ = self._images.manifests(repository, wanted[start : start + MAX_BATCH])
            for digest, manifest in found.items():
                parts[digest] = read_parts(ManifestBytes(manifest.raw, manifest.media_type, Digest(digest)))
        return parts

    def _reads(self, image: EcrImage) -> bool:
        if image.status != "ACTIVE" or self._manifests == "none":
            return False
        return self._manifests == "all" or image.media_type in media_types.INDEXES


Below = tuple[tuple[str, ...] | None, int | None, Parts | None]
"""Children of an index, number of layers of an image, and blobs."""


def read_parts(manifest: ManifestBytes) -> Below:
    """What is below a manifest; None where that is not known (no manifest of ours)."""
    try:
        content = manifest.content()
    except ContentError:
        return None, None, None
    parts = Parts(blobs_of(manifest, content), is_list=not read_fallback(manifest, "").refused)
    if isinstance(content, Index):
        return tuple(one.digest for one in descriptors(content)), None, parts
    return (), len(content.layers), parts
