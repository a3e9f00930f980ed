"""A registry whose verified content is asked for once, for as long as one piece of work takes.

Only what has a digest is kept, after it was held against it: what a tag names, which referrers a manifest has, and
whether anything is still there is asked each time. Who decides that a release may ship begins with an empty memory.
A sweep that looks at one release for a tenth of a second, and attaches at most a report to it, also asks once what
refers to it (``whole``).
"""

from __future__ import annotations

import threading
from collections.abc import Container
from typing import Any, Protocol, cast, runtime_checkable

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import Registry

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Of blobs and manifests together; SBOMs and reports of a usual image have 2 MiB. What comes after it is not kept."""


@runtime_checkable
class Remembers(Protocol):
    """Rare ability: keeps whole blobs that were verified."""

    def recall_blob(self, repository: str, digest: Digest) -> bytes | None:
        """The bytes, where they are kept."""
        ...

    def keep_blob(self, repository: str, digest: Digest, content: bytes) -> None:
        """Keep bytes that were held against the digest."""
        ...


def remembered(registry: Registry, *, whole: bool = False) -> Registry:
    """The same registry with a memory of its own, empty now. Safe to use from many threads. whole: what refers to a
    manifest is asked once, too, and whether a small blob is there, until something is put by way of it."""
    return cast(Registry, _WhollyRemembered(registry) if whole else _Remembered(registry))


class _Remembered:
    """What is not written here is the registry's own."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._kept_bytes = 0
        self._blobs: dict[tuple[str, str], bytes] = {}
        self._manifests: dict[tuple[str, str], ManifestBytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry; of a digest once."""
        key = repository, str(reference)
        if (kept := self._manifests.get(key)) is None:
            kept = self._registry.get_manifest(repository, reference)
            if key[1] == kept.digest and self._has_room(len(kept.raw)):
                self._manifests[key] = kept
        return kept

    def recall_blob(self, repository: str, digest: Digest) -> bytes | None:
        """See Remembers."""
        return self._blobs.get((repository, digest))

    def keep_blob(self, repository: str, digest: Digest, content: bytes) -> None:
        """See Remembers."""
        if self._has_room(len(content)):
            self._blobs[repository, digest] = content

    def _has_room(self, byte_count: int) -> bool:
        with self._lock:
            fits = self._kept_bytes + byte_count <= MAX_KEPT_BYTES
            self._kept_bytes += byte_count if fits else 0
            return fits


class _WhollyRemembered(_Remembered):
    """For one release, by who alone writes there."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._lists: dict[tuple[str, str], list[Descriptor]] = {}
        self._sizes: dict[tuple[str, str], int] = {}

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry; once until something is put."""
        key = repository, str(digest)
        if (kept := self._lists.get(key)) is None:
            kept = self._lists[key] = self._registry.referrers(repository, digest, tags=tags)
        return [each for each in kept if artifact_type in ("", each.artifact_type)]

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry."""
        try:
            self._registry.put_manifest(repository, manifest, tag=tag)
        finally:
            self._lists.clear()

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry; of one that is there once."""
        key = repository, str(digest)
        size = self._sizes.get(key)
        if size is None:
            size = self._registry.blob_size(repository, digest)
            if size is not None:
                self._sizes[key] = size
        return size
