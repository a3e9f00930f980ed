"""Artifact Registry by its API: ListDockerImages gives 1,000 versions a page, with the manifests of an index.

It tells no pull time (audit logs have it), no layers and no subject of a referrer. Manifests, which do, are read one by
one over the distribution protocol where that is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.inventory.from_ecr import Below, read_parts
from registry_pipelines.inventory.parts import RepositoryFacts
from registry_pipelines.inventory.reader import made_row
from registry_pipelines.inventory.rows import Row
from registry_pipelines.inventory.value import now
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import GarRepository, read_name
from registry_pipelines.registry.gar.images import list_images, list_repositories
from registry_pipelines.registry.protocol import Registry
from registry_pipelines.threads import Pool

NOTES = (
    "when an image was pulled, its layers and its subject are not known: Artifact Registry's lists do not tell them",
)
READ_NOTES = ("when an image was pulled is not known: Artifact Registry's lists do not tell it",)
MANIFESTS_AT_ONCE = 500
READERS = 8


class GarReader:
    """The Docker repositories of one project in one location; what is read at once is such a repository, and rows have
    the name of the image (``PROJECT/REPOSITORY/IMAGE``). See :class:`~registry_pipelines.inventory.reader.Reader`.
    manifests: where all of them are read from; none unless told."""

    kind = "gar"
    facts: Mapping[str, RepositoryFacts] = MappingProxyType({})

    def __init__(
        self, registry: str, calls: GoogleCalls, project: str, location: str, *, manifests: Registry | None = None
    ) -> None:
        self.notes: Sequence[str] = NOTES if manifests is None else READ_NOTES
        self._manifests = manifests
        self._registry, self._calls, self._project, self._location = registry, calls, project, location
        self._before, self._lock = calls.sent.value, threading.Lock()

    def repositories(self) -> Iterator[str]:
        """``PROJECT/REPOSITORY`` of each Docker repository. Virtual ones hold nothing themselves."""
        for each in list_repositories(self._calls, self._project, self._location):
            if each.format_.name == "DOCKER" and each.mode.name != "VIRTUAL_REPOSITORY":
                found = read_name(each.name)
                yield f"{found.project.replace(':', '/')}/{found.repository}"

    def images(self, repository: str) -> Iterator[Row]:
        """See Reader. repository: ``PROJECT/REPOSITORY``, or an image below it."""
        there, image = self._locate(repository)
        listed = (each for each in list_images(self._calls, there) if not image or each.name == image)
        while taken := list(islice(listed, MANIFESTS_AT_ONCE)):
            places = [(there.host(each.name)[1], Digest(each.digest)) for each in taken]
            for each, (name, _), ((_, layers, parts), subject) in zip(taken, places, self._read(places), strict=True):
                is_index = each.media_type in media_types.INDEXES
                made = made_row(self._registry, name, now())
                yield made(
                    each.digest,
                    tags=each.tags,
                    size_bytes=each.size,
                    layers=layers,
                    media_type=each.media_type,
                    artifact_type=each.artifact_type,
                    subject=subject,
                    children=tuple(one.digest for one in each.platforms) if is_index else (),
                    created=each.built,
                    pushed=each.uploaded,
                    parts=parts,
                )

    def _read(self, places: Sequence[tuple[str, Digest]]) -> Sequence[_Read]:
        """What is below manifests, and what each refers to; where none is read nothing is known."""
        if self._manifests is None:
            return [_NOT_READ] * len(places)
        with Pool(READERS, "manifests") as pool:
            return list(pool.map(partial(_read_one, self._manifests), places))

    def calls(self) -> int:
        """See Reader."""
        return self._calls.sent.value - self._before

    def _locate(self, repository: str) -> tuple[GarRepository, str]:
        project = self._project.replace(":", "/")
        rest = repository.removeprefix(f"{project}/")
        name, _, image = rest.partition("/")
        if not name or rest == repository:
            raise NotFound(f"{repository} is no repository of project {self._project}", where=self._registry)
        return GarRepository(self._project, self._location, name), image


_Read = tuple[Below, str]
_NOT_READ: _Read = ((None, None, None), "")


def _read_one(registry: Registry, place: tuple[str, Digest]) -> _Read:
    """Of one manifest; nothing is known of one that went meanwhile, or is none of ours. Raises RegistryError."""
    repository, digest = place
    try:
        manifest = registry.get_manifest(repository, digest)
        content = manifest.content()
    except (NotFound, ContentError):
        return _NOT_READ
    subject = content.subject.digest if isinstance(content, Manifest) and content.subject else ""
    return read_parts(manifest), subject
