"""What a host name of Google's registries says, and what Artifact Registry's API calls the same repository.

Sources: cloud.google.com/artifact-registry/docs, "Repository and image names" and "Transition from Container Registry"
(the repositories behind the old hosts have those hosts as names, in the multi-regions that are written here).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from registry_pipelines.errors import ReferenceInvalid

LEGACY = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
"""Hosts of the former Container Registry, and where the repository of Artifact Registry that now answers there is."""

_HOST = re.compile(r"(?P<location>[a-z]+(-[a-z]+[0-9]{1,2})?)-docker\.pkg\.dev")


@dataclass(frozen=True)
class GarHost:
    """A host of Artifact Registry. legacy: the host itself where it is one of Container Registry's, else empty."""

    location: str
    legacy: str = ""


@dataclass(frozen=True)
class GarRepository:
    """A repository of Artifact Registry, as its API has it. project: with a domain ``example.com:project``."""

    project: str
    location: str
    repository: str

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.parent}/repositories/{self.repository}"

    @property
    def parent(self) -> str:
        """The resource name of its location."""
        return f"projects/{self.project}/locations/{self.location}"

    def package(self, image: str) -> str:
        """The resource name of an image, whose slashes are escaped there."""
        return f"{self.name}/packages/{quote(image, safe='')}"

    def host(self, image: str) -> tuple[str, str]:
        """(host, repository) that an image of it is pulled by, as a reference has them."""
        project = self.project.replace(":", "/")
        if self.repository in LEGACY:
            return self.repository, f"{project}/{image}"
        return f"{self.location}-docker.pkg.dev", f"{project}/{self.repository}/{image}"


def read_host(host: str) -> GarHost | None:
    """Read ``LOCATION-docker.pkg.dev``, ``gcr.io`` and its like; None for any other host."""
    if host in LEGACY:
        return GarHost(LEGACY[host], host)
    match = _HOST.fullmatch(host)
    return GarHost(match["location"]) if match else None


def locate(host: GarHost, repository: str) -> tuple[GarRepository, str]:
    """What ``PROJECT/REPOSITORY/IMAGE`` (``PROJECT/IMAGE`` at Container Registry's hosts) means: (repository, image).
    A project with a domain is written ``example.com/project``. Raises ReferenceInvalid for what is too short."""
    parts = repository.split("/")
    project = parts.pop(0)
    if "." in project and parts:
        project = f"{project}:{parts.pop(0)}"
    name = host.legacy or (parts.pop(0) if parts else "")
    if not name or not parts:
        form = "PROJECT/IMAGE" if host.legacy else "PROJECT/REPOSITORY/IMAGE"
        raise ReferenceInvalid(
            f"{repository[:200]!r} names no image of Artifact Registry",
            do=f"Write {host.legacy or host.location + '-docker.pkg.dev'}/{form}",
        )
    return GarRepository(project, host.location, name), "/".join(parts)


def read_name(name: str) -> GarRepository:
    """Read ``projects/P/locations/L/repositories/R``. Raises ReferenceInvalid."""
    match = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)/repositories/([^/]+)", name)
    if not match:
        raise ReferenceInvalid(
            f"{name[:200]!r} is no repository of Artifact Registry", do="Write projects/P/locations/L/repositories/R"
        )
    return GarRepository(match[1], match[2], match[3])


def package_name(resource: str) -> str:
    """The image that a resource name below ``packages/`` or ``dockerImages/`` is about."""
    last = resource.partition("/packages/")[2] or resource.partition("/dockerImages/")[2]
    return unquote(last.partition("/")[0].partition("@")[0])


__all__ = ["LEGACY", "GarHost", "GarRepository", "locate", "package_name", "read_host", "read_name"]
