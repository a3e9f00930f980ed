"""A foreign image as it is judged: with the platforms that are taken, and with evidence that lies beside its registry.

Both are registries in front of another one, for who asks about evidence; the copies themselves are made of what is
really there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Sequence
from typing import Any, cast

from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import BlobReader, Place, Readable, Registry
from registry_pipelines.transfer.closure.platforms import rewrite


def only_platforms(place: Place, root: Digest, platforms: Sequence[Platform]) -> Place:
    """The place, where the index ``root`` seems to name those children alone that are taken for ``platforms``: a copy
    that left the others out (``selection: sparse``) has the index's own digest, and its signatures, but only them. What
    is said about it is said about what comes, and bound to that digest."""
    if not platforms:
        return place
    return Place(cast(Registry, _OnlyPlatforms(place.registry, root, tuple(platforms))), place.repository)


_OTHER_OBJECTS = frozenset({"observed", "leaving_stalls"})
"""Rare abilities that give the registry behind again, without the view."""

_OF_THE_SOURCE_ALONE = _OTHER_OBJECTS | {"blob_sizes", "manifests_there", "begin_upload", "append_upload"}
"""Rare abilities that would ask the source alone; one that misses a method is not there for who asks."""


class _OnlyPlatforms:
    """What is not written here is the registry's own."""

    def __init__(self, registry: Registry, root: Digest, platforms: Sequence[Platform]) -> None:
        self._registry, self._root, self._platforms = registry, root, platforms

    def __getattr__(self, name: str) -> Any:
        if name in _OTHER_OBJECTS:
            raise AttributeError(name)
        return getattr(self._registry, name)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry; of the one index with the digest it really has."""
        stored = self._registry.get_manifest(repository, reference)
        if stored.digest != self._root:
            return stored
        chosen = rewrite(stored, self._platforms, where=f"{self._registry.name}/{repository}@{stored.digest}")
        return stored if chosen is None else ManifestBytes(chosen.raw, stored.media_type, stored.digest)


def with_evidence_aside(place: Place, aside: Registry) -> Place:
    """The place, of which evidence is written to another registry, for a source that is only read: what is attached
    there is found beside what the source lists, and a copy takes both. aside: its repositories have the names that the
    source's have; what is about a digest is the same in any."""
    return Place(cast(Registry, _Aside(place.registry, aside)), place.repository)


class _Aside:
    """Reads both, writes to the one beside. What is not written here is the source's own."""

    def __init__(self, source: Registry, aside: Registry) -> None:
        self._source, self._aside = source, aside
        self.name = source.name

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_SOURCE_ALONE:
            raise AttributeError(name)
        return getattr(self._source, name)

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry; the source's word comes first."""
        try:
            return self._source.resolve(repository, reference)
        except NotFound:
            return self._aside.resolve(repository, reference)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        if ":" in str(reference):
            with contextlib.suppress(NotFound):
                return self._aside.get_manifest(repository, reference)
        return self._source.get_manifest(repository, reference)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry; beside the source."""
        self._aside.put_manifest(repository, manifest, tag=tag)

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry."""
        with contextlib.suppress(NotFound):
            if (size := self._aside.blob_size(repository, digest)) is not None:
                return size
        return self._source.blob_size(repository, digest)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        with contextlib.suppress(NotFound):
            return self._aside.open_blob(repository, digest, start=start, stop=stop)
        return self._source.open_blob(repository, digest, start=start, stop=stop)

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry; beside the source."""
        self._aside.upload_blob(repository, descriptor, content)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry; nothing is mounted into what lies beside."""
        return False

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry; of both, each once."""
        listed = self._source.referrers(repository, digest, artifact_type=artifact_type, tags=tags)
        with contextlib.suppress(NotFound):
            listed = [*listed, *self._aside.referrers(repository, digest, artifact_type=artifact_type)]
        return list({each.digest: each for each in listed}.values())
