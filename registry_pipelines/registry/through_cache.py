"""An upstream that is read through a cache: tags by the upstream's own word, content from the cache alone.

A cache may name an old digest: ECR's pull-through looks at a tag again when 24 hours are over, an immutable tag never
moves there, and any cache serves what it has while the upstream is down. So a tag is resolved by a HEAD at the
upstream, which no quota counts, and its content is asked of the cache by digest: the digests are the upstream's, or it
fails. Where the upstream cannot be asked, the cache's word is taken, and said.

Referrers: ECR brings those of the upstream only for who asks it for them (ECR user guide, "Sync an upstream registry",
2026), so both are asked, and what the upstream lists comes through the cache. Nothing is written this way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from typing import Protocol, runtime_checkable

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Readable, Registry, Repeating

_CANNOT_ASK = (Unavailable, Unauthorized, Forbidden)
"""What an upstream fails with that a node behind a cache never needs: no way there, no log-in."""


@runtime_checkable
class Served(Protocol):
    """Rare ability: content comes from another place than its name says."""

    def served_by(self, repository: str) -> str:
        """The place, ``host/repository``."""
        ...

    def by_cache(self, repository: str) -> list[str]:
        """Tags that the cache alone could be asked for, each with what it named: perhaps old."""
        ...


class ReadOnly(ABC):
    """The writing half of Registry for places that are only read: it raises Unsupported. Who inherits says why in
    :meth:`refusal`."""

    @abstractmethod
    def refusal(self, repository: str) -> Unsupported:
        """Why nothing is written, and what to do instead."""

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry. Raises Unsupported, as all that writes."""
        raise self.refusal(repository)

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry."""
        raise self.refusal(repository)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry."""
        raise self.refusal(repository)

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        raise self.refusal(repository)


class ThroughCache(ReadOnly):
    """A registry with the upstream's name. prefix: before the upstream's repositories at the cache; empty for none."""

    def __init__(self, upstream: Registry, cache: Registry, prefix: str) -> None:
        self.name = upstream.name
        self._upstream, self._cache, self._prefix = upstream, cache, prefix.strip("/")
        self._both = (upstream, cache)
        self._unsure: dict[tuple[str, str], Digest] = {}

    def leaving_stalls(self) -> ThroughCache:
        """See Repeating."""
        upstream, cache = (each.leaving_stalls() if isinstance(each, Repeating) else each for each in self._both)
        return ThroughCache(upstream, cache, self._prefix)

    def served_by(self, repository: str) -> str:
        """See Served."""
        return f"{self._cache.name}/{self._there(repository)}"

    def by_cache(self, repository: str) -> list[str]:
        """See Served."""
        return [f"{tag} ({digest.short})" for (name, tag), digest in self._unsure.items() if name == repository]

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry. A tag: by the upstream. A digest: by the cache, which brings it on the first question."""
        if ":" in reference:
            return self._cached(repository, reference)
        try:
            return self._upstream.resolve(repository, reference)
        except _CANNOT_ASK:
            found = self._cache.resolve(self._there(repository), reference)
            self._unsure[repository, reference] = found.digest
            return found

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry. Raises NotFound where the cache does not bring what the upstream names."""
        digest = reference if ":" in reference else str(self.resolve(repository, reference).digest)
        try:
            return self._cache.get_manifest(self._there(repository), digest)
        except NotFound as error:
            raise self._not_brought(repository, digest, error) from error

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry."""
        return self._cache.blob_size(self._there(repository), digest)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        return self._cache.open_blob(self._there(repository), digest, start=start, stop=stop)

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry: the upstream's; a cache lists what was pulled through it."""
        try:
            listed = list(self._upstream.tags(repository))
        except _CANNOT_ASK:
            listed = list(self._cache.tags(self._there(repository)))
        yield from listed

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry: what either lists. Raises the upstream's error when neither can be asked."""
        found: dict[Digest, Descriptor] = {}
        failed: list[RegistryPipelinesError] = []
        for registry, name in zip(self._both, (repository, self._there(repository)), strict=True):
            try:
                listed = registry.referrers(name, digest, artifact_type=artifact_type, tags=tags)
            except (*_CANNOT_ASK, NotFound, Unsupported) as error:
                failed.append(error)
            else:
                found |= {each.digest: each for each in listed if each.digest not in found}
        if len(failed) == 2:
            raise failed[0]
        return list(found.values())

    @property
    def requests_sent(self) -> int:
        """See CountsRequests: to both."""
        return sum(int(getattr(each, "requests_sent", 0)) for each in self._both)

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry: those of the cache, which is read."""
        return self._cache.capabilities(self._there(repository))

    def repositories(self) -> Iterator[str]:
        """See Registry: the upstream's."""
        return self._upstream.repositories()

    def refusal(self, repository: str) -> Unsupported:
        """See ReadOnly."""
        return Unsupported(
            "it is read through a cache, and nothing is written that way",
            where=f"{self.name}/{repository}",
            do="Write it as a registry of the configuration, and name that: such a registry is asked itself",
        )

    def _there(self, repository: str) -> str:
        return f"{self._prefix}/{repository}" if self._prefix else repository

    def _cached(self, repository: str, digest: str) -> Descriptor:
        try:
            return self._cache.resolve(self._there(repository), digest)
        except NotFound as error:
            raise self._not_brought(repository, digest, error) from error

    def _not_brought(self, repository: str, digest: str, error: NotFound) -> NotFound:
        return NotFound(
            f"the cache {self.served_by(repository)} does not bring {digest} of {self.name}/{repository}: {error.what}",
            where=f"{self.name}/{repository}",
            do="Check the cache's rule: its prefix, the upstream's address, and the secret with the log-in there; an "
            "immutable tag at the cache is never brought anew",
            status=error.status,
            code=error.code,
        )
