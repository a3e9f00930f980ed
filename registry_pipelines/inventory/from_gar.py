"""Artifact Registry by its API: ListDockerImages gives 1,000 versions a page, with the manifests of an index.

It tells no pull time (audit logs have it), no layers and no subject of a referrer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from registry_pipelines.errors import NotFound
from registry_pipelines.inventory.parts import RepositoryFacts
from registry_pipelines.inventory.reader import made_row
from registry_pipelines.inventory.rows import Row
from registry_pipelines.inventory.value import now
from registry_pipelines.oci import media_types
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import GarRepository, read_name
from registry_pipelines.registry.gar.images import list_images, list_repositories

NOTES = (
    "when an image was pulled, its layers and its subject are not known: Artifact Registry's lists do not tell them",
)


class GarReader:
    """The Docker repositories of one project in one location; what is read at once is such a repository, and rows have
    the name of the image (``PROJECT/REPOSITORY/IMAGE``). See :class:`~registry_pipelines.inventory.reader.Reader`."""

    kind = "gar"
    facts: Mapping[str, RepositoryFacts] = MappingProxyType({})
    notes: Sequence[str] = NOTES

    def __init__(self, registry: str, calls: GoogleCalls, project: str, location: str) -> None:
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
        for each in list_images(self._calls, there):
            if image and each.name != image:
                continue
            is_index = each.media_type in media_types.INDEXES
            made = made_row(self._registry, there.host(each.name)[1], now())
            yield made(
                each.digest,
                tags=each.tags,
                size_bytes=each.size,
                media_type=each.media_type,
                artifact_type=each.artifact_type,
                children=tuple(one.digest for one in each.platforms) if is_index else (),
                created=each.built,
                pushed=each.uploaded,
            )

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
