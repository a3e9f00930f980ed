"""What Artifact Registry has, by its own API: repositories, images, versions, tags; and their deletion.

The distribution protocol lists tags alone; here are the images without one too, with sizes and times. **When an image
was last pulled Artifact Registry does not say** (it is in audit logs, where those are on), so it is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import GarRepository, package_name, read_name

PAGE = 1000
"""Items of one page: the API's largest ("Maximum page size is 1,000", its client's types)."""


class GarPlatform(msgspec.Struct, frozen=True):
    """A manifest of an index, as far as the API tells of it."""

    digest: str
    os: str = ""
    architecture: str = ""
    variant: str = ""


class GarImage(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an image. Times are UTC; None is what the registry does not know."""

    name: str
    """Of the image below its repository, as ``team/app``."""
    digest: str
    uri: str
    """Host, repository and digest, as it is pulled."""
    tags: tuple[str, ...] = ()
    size: int = 0
    """Bytes, as the registry counts them: compressed, config and layers; of an index not those of its children."""
    uploaded: datetime | None = None
    updated: datetime | None = None
    """When it or its tags changed."""
    built: datetime | None = None
    pulled: None = None
    media_type: str = ""
    artifact_type: str = ""
    platforms: tuple[GarPlatform, ...] = ()
    """The entries of an index; empty for all else."""


class GarTag(msgspec.Struct, frozen=True):
    """A tag of an image, and the digest it names."""

    tag: str
    digest: str


def _client(calls: GoogleCalls) -> Any:
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

    return calls.client(ArtifactRegistryClient)


def list_images(calls: GoogleCalls, repository: GarRepository | str) -> Iterator[GarImage]:
    """Every version in a repository (``projects/P/locations/L/repositories/R``), a page of 1,000 in memory at a time.
    Signatures, attestations and other referrers are versions, too. Raises the RegistryError family, ReferenceInvalid.
    """
    found = read_name(repository) if isinstance(repository, str) else repository
    request = {"parent": found.name, "page_size": PAGE}
    client = _client(calls)
    for image in calls.pages(
        client.list_docker_images, request, "docker_images", where=found.name, doing="listing images"
    ):
        yield _image(type(image).pb(image))


def get_image(calls: GoogleCalls, repository: GarRepository, image: str, digest: Digest | str) -> GarImage:
    """One version. Raises NotFound."""
    name = f"{repository.package(image).replace('/packages/', '/dockerImages/')}@{digest}"
    answer = calls.call(
        _client(calls).get_docker_image, {"name": name}, where=repository.name, doing="asking for an image"
    )
    return _image(type(answer).pb(answer))


def _image(raw: Any) -> GarImage:
    """From the protocol buffer: proto-plus would make an object for each access, which tripled the time of a list."""
    return GarImage(
        name=package_name(raw.name),
        digest=raw.name.rpartition("@")[2],
        uri=raw.uri,
        tags=tuple(raw.tags),
        size=raw.image_size_bytes,
        uploaded=_time(raw, "upload_time"),
        updated=_time(raw, "update_time"),
        built=_time(raw, "build_time"),
        media_type=raw.media_type,
        artifact_type=raw.artifact_type,
        platforms=tuple(
            GarPlatform(each.digest, each.os, each.architecture, each.variant) for each in raw.image_manifests
        ),
    )


def _time(raw: Any, field: str) -> datetime | None:
    return getattr(raw, field).ToDatetime(tzinfo=UTC) if raw.HasField(field) else None


def list_repositories(calls: GoogleCalls, project: str, location: str) -> Iterator[Any]:
    """Repositories of all formats in one location, as google.cloud.artifactregistry_v1.Repository: mode, immutability,
    cleanup policies and all that ``infra`` compares. Raises the RegistryError family."""
    parent = f"projects/{project}/locations/{location}"
    request = {"parent": parent, "page_size": PAGE}
    return calls.pages(
        _client(calls).list_repositories, request, "repositories", where=parent, doing="listing repositories"
    )


def get_repository(calls: GoogleCalls, repository: GarRepository) -> Any:
    """The settings of a repository, as google.cloud.artifactregistry_v1.Repository. Raises NotFound."""
    return calls.call(
        _client(calls).get_repository,
        {"name": repository.name},
        where=repository.name,
        doing="asking for a repository",
    )


def list_packages(calls: GoogleCalls, repository: GarRepository) -> Iterator[str]:
    """Names of the images in a repository, as ``team/app``."""
    request = {"parent": repository.name, "page_size": PAGE}
    for package in calls.pages(
        _client(calls).list_packages, request, "packages", where=repository.name, doing="listing images"
    ):
        yield package_name(package.name)


def list_versions(calls: GoogleCalls, repository: GarRepository, image: str) -> Iterator[str]:
    """Digests of an image, tagged or not."""
    request = {"parent": repository.package(image), "page_size": PAGE}
    for version in calls.pages(
        _client(calls).list_versions, request, "versions", where=repository.name, doing="listing versions"
    ):
        yield version.name.rpartition("/")[2]


def list_tags(calls: GoogleCalls, repository: GarRepository, image: str) -> Iterator[GarTag]:
    """Tags of an image with what they name, in one list instead of a question for each."""
    request = {"parent": repository.package(image), "page_size": PAGE}
    for tag in calls.pages(_client(calls).list_tags, request, "tags", where=repository.name, doing="listing tags"):
        yield GarTag(tag.name.rpartition("/")[2], tag.version.rpartition("/")[2])


def delete_tag(calls: GoogleCalls, repository: GarRepository, image: str, tag: str) -> None:
    """Remove a tag; what it named stays. Raises NotFound, TagImmutable."""
    calls.call(
        _client(calls).delete_tag,
        {"name": f"{repository.package(image)}/tags/{tag}"},
        where=f"{repository.name} {image}:{tag}",
        doing="deleting a tag",
        settled=_is_gone,
    )


def delete_version(calls: GoogleCalls, repository: GarRepository, image: str, digest: Digest | str) -> None:
    """Delete a version with all its tags. Raises NotFound, TagImmutable, Refused (an index still names it)."""
    where, client = f"{repository.name} {image}@{digest}", _client(calls)
    request = {"name": f"{repository.package(image)}/versions/{digest}", "force": True}
    operation = calls.call(client.delete_version, request, where=where, doing="deleting an image", settled=_is_gone)
    if operation is not None:
        calls.finished(operation, client, where=where, doing="deleting an image")


def _is_gone(error: RegistryPipelinesError) -> bool:
    """A deletion whose answer was lost: the next attempt finds nothing."""
    return isinstance(error, NotFound)


__all__ = [
    "PAGE",
    "GarImage",
    "GarPlatform",
    "GarTag",
    "delete_tag",
    "delete_version",
    "get_image",
    "get_repository",
    "list_images",
    "list_packages",
    "list_repositories",
    "list_tags",
    "list_versions",
]
