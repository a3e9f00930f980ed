"""Tags that move, of a repository whose own tags may not: they are kept in another repository of the same registry.

ECR and Artifact Registry can make all tags of a repository immutable. A channel tag moves by design, and so do cosign's
``sha256-<hex>.sig`` (a second signature is written under the same tag) and the lists of referrers of registries
without the API for them. Artifact Registry permits no exclusion, and no deletion of a tag. So such tags are set, read,
listed and deleted in a repository of their own, and whoever works with the first one notices nothing. Cosign finds its
signatures there by COSIGN_REPOSITORY.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import BlobReader, Registry

_NAMED_AFTER_DIGEST = re.compile(r"(?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64,128})(?:\.\w+)?")

R = TypeVar("R", bound=Registry)


class Elsewhere(NamedTuple):
    """Where the moving tags of a repository are. channels: those that a promotion moves; tags named after digests
    always are."""

    repository: str
    channels: frozenset[str]

    def has(self, tag: str) -> bool:
        """Whether a tag is kept there."""
        return tag in self.channels or bool(_NAMED_AFTER_DIGEST.fullmatch(tag))


Bring = Callable[[Registry, str, str, Digest], object]
"""Brings everything that a manifest needs from one repository of a registry to another."""


def with_moving_tags(registry: R, elsewhere: Mapping[str, Elsewhere], bring: Bring) -> R:
    """The same registry, with all that it learns and keeps open, which has moving tags of some repositories elsewhere.

    elsewhere: by repository. A tag is set there only after ``bring`` has brought its content: with mounts, where the
    registry makes them, that costs a few requests.
    """
    moved: Any = object.__new__(_kind(type(registry)))
    moved.__dict__.update(copy(registry).__dict__, _elsewhere=dict(elsewhere), _bring=bring)
    return cast(R, moved)


@cache
def _kind(kind: type) -> type:
    """A class and not a wrapper: rare abilities are asked for by isinstance, and copies of a registry stay what they
    are."""
    return type(f"Moving{kind.__name__}", (_Moving, kind), {})


class _Moving:
    _elsewhere: Mapping[str, Elsewhere]
    _bring: Bring

    @property
    def _plain(self) -> Registry:
        """The registry as it is without this class."""
        return cast(Registry, super())

    def _repository(self, repository: str, tag: str) -> str:
        there = self._elsewhere.get(repository)
        return there.repository if there and tag and there.has(tag) else repository

    def resolve(self, repository: str, reference: str) -> Descriptor:
        return self._plain.resolve(self._repository(repository, reference), reference)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        try:
            return self._plain.get_manifest(self._repository(repository, reference), reference)
        except NotFound:
            if repository not in self._elsewhere or ":" not in reference:
                raise
            return self._plain.get_manifest(self._elsewhere[repository].repository, reference)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        try:
            return self._plain.open_blob(repository, digest, start=start, stop=stop)
        except NotFound:
            if repository not in self._elsewhere:
                raise
            return self._plain.open_blob(self._elsewhere[repository].repository, digest, start=start, stop=stop)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        there = self._repository(repository, tag)
        if there == repository:
            return self._plain.put_manifest(repository, manifest, tag=tag)
        self._plain.put_manifest(repository, manifest)
        self._bring(cast(Registry, self), repository, there, manifest.digest)
        return self._plain.put_manifest(there, manifest, tag=tag)

    def tags(self, repository: str) -> Iterator[str]:
        there = self._elsewhere.get(repository)
        if there is None:
            yield from self._plain.tags(repository)
            return
        yield from (tag for tag in self._plain.tags(repository) if not there.has(tag))
        try:
            yield from (tag for tag in self._plain.tags(there.repository) if there.has(tag))
        except NotFound:
            return  # it is made by the first tag that moves

    def delete_tag(self, repository: str, tag: str) -> None:
        self._plain.delete_tag(self._repository(repository, tag), tag)


__all__ = ["Bring", "Elsewhere", "with_moving_tags"]
