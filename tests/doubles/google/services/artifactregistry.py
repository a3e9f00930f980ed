"""google.devtools.artifactregistry.v1.ArtifactRegistry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.cloud import artifactregistry_v1 as api
from google.cloud.artifactregistry_v1.services.artifact_registry.transports import rest_base
from google.cloud.artifactregistry_v1.services.artifact_registry.transports.grpc import ArtifactRegistryGrpcTransport
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty

from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import Service
from tests.doubles.google.images import Held, Image, Package, Repositories, docker_image, package_id
from tests.doubles.google.services import iam_policy, repositories
from tests.doubles.google.services.operations import get_operation, operation
from tests.doubles.google.world import Refusal, World, filtered, page, stamp

BATCH = 1000
"""Versions of one BatchDeleteVersions. The types only say that there is a limit; gcloud's own is not written down."""


@dataclass
class OpenLists:
    """Lists of images, as they were when their first page was asked for."""

    by_order: dict[tuple[str, str], list[tuple[Package, Image]]] = field(default_factory=dict)


def _location(name: str) -> str:
    return "/".join(name.split("/")[:4])


def list_docker_images(world: World, request: api.ListDockerImagesRequest) -> api.ListDockerImagesResponse:
    held = world.state(Repositories).get(request.parent)
    order = request.order_by.strip().lower()
    lists = world.state(OpenLists).by_order
    key = (request.parent, order)
    if not request.page_token or key not in lists:
        lists[key] = _ordered(list(world.state(Repositories).images(held)), order, request.order_by)
    part, after = page(lists[key], request.page_size, request.page_token)
    return api.ListDockerImagesResponse(
        docker_images=[docker_image(held, *each) for each in part], next_page_token=after
    )


def _ordered(items: list[tuple[Package, Image]], order: str, asked: str) -> list[tuple[Package, Image]]:
    if order in ("update_time desc", "updatetime desc"):
        items.sort(key=lambda each: each[1].updated, reverse=True)
    elif order in ("update_time", "updatetime"):
        items.sort(key=lambda each: each[1].updated)
    elif order:
        raise Refusal("INVALID_ARGUMENT", f"order_by: invalid value {asked!r}")
    return items


def get_docker_image(world: World, request: api.GetDockerImageRequest) -> api.DockerImage:
    above, _, last = request.name.partition("/dockerImages/")
    package, _, digest = last.partition("@")
    version = world.state(Repositories).version(f"{above}/packages/{package}/versions/{digest}")
    return docker_image(*version)


def list_packages(world: World, request: api.ListPackagesRequest) -> api.ListPackagesResponse:
    held = world.state(Repositories).get(request.parent)
    items = [_package(held, held.packages[name]) for name in sorted(held.packages)]
    part, after = page(filtered(request.filter, items, ("name",)), request.page_size, request.page_token)
    return api.ListPackagesResponse(packages=part, next_page_token=after)


def get_package(world: World, request: api.GetPackageRequest) -> api.Package:
    return _package(*world.state(Repositories).package(request.name))


def _package(held: Held, package: Package) -> api.Package:
    return api.Package(
        name=f"{held.settings.name}/packages/{package_id(package.name)}",
        create_time=stamp(package.created),
        update_time=stamp(package.updated),
    )


def delete_package(world: World, request: api.DeletePackageRequest) -> Operation:
    state = world.state(Repositories)
    held, package = state.package(request.name)
    if held.immutable and package.tags:
        raise Refusal(
            "FAILED_PRECONDITION", "cannot delete tagged versions: the repository has enabled tag immutability"
        )
    for image in list(package.images.values()):
        state.delete(held, package, image)
    return operation(world, _location(request.name))


def list_versions(world: World, request: api.ListVersionsRequest) -> api.ListVersionsResponse:
    held, package = world.state(Repositories).package(request.parent)
    full = request.view == api.VersionView.FULL
    items = [_version(held, package, package.images[digest], full=full) for digest in sorted(package.images)]
    part, after = page(filtered(request.filter, items, ("name",)), request.page_size, request.page_token)
    return api.ListVersionsResponse(versions=part, next_page_token=after)


def get_version(world: World, request: api.GetVersionRequest) -> api.Version:
    return _version(*world.state(Repositories).version(request.name), full=request.view == api.VersionView.FULL)


def _version(held: Held, package: Package, image: Image, *, full: bool) -> api.Version:
    name = f"{held.settings.name}/packages/{package_id(package.name)}/versions/{image.digest}"
    made = api.Version(name=name, create_time=stamp(image.uploaded), update_time=stamp(image.updated))
    made.metadata = {
        "name": docker_image(held, package, image).name,
        "imageSizeBytes": str(image.size),
        "mediaType": image.media_type,
    }
    if full:
        made.related_tags = [_tag(held, package, tag) for tag in sorted(image.tags)[:100]]
    return made


def delete_version(world: World, request: api.DeleteVersionRequest) -> Operation:
    state = world.state(Repositories)
    held, package, image = state.version(request.name)
    state.may_delete(held, package, image, force=request.force)
    state.delete(held, package, image)
    return operation(world, _location(request.name))


def batch_delete_versions(world: World, request: api.BatchDeleteVersionsRequest) -> Operation:
    """Each on its own: what cannot go stands in the operation's metadata, and the operation has failed."""
    state = world.state(Repositories)
    if len(request.names) > BATCH:
        raise Refusal("INVALID_ARGUMENT", f"names: at most {BATCH} versions")
    failed = []
    first: Refusal | None = None
    for name in request.names:
        if not name.startswith(request.parent + "/"):
            raise Refusal("INVALID_ARGUMENT", f"names: {name} is not below {request.parent}")
        try:
            held, package, image = state.version(name)
            state.may_delete(held, package, image, force=False)
            if not request.validate_only:
                state.delete(held, package, image)
        except Refusal as refusal:
            failed.append(name)
            first = first or refusal
    said = api.BatchDeleteVersionsMetadata(failed_versions=failed)
    return operation(world, _location(request.parent), metadata=said, failed=first)


def _tag(held: Held, package: Package, tag: str) -> api.Tag:
    above = f"{held.settings.name}/packages/{package_id(package.name)}"
    return api.Tag(name=f"{above}/tags/{tag}", version=f"{above}/versions/{package.tags[tag]}")


def list_tags(world: World, request: api.ListTagsRequest) -> api.ListTagsResponse:
    held, package = world.state(Repositories).package(request.parent)
    items = [_tag(held, package, tag) for tag in sorted(package.tags)]
    part, after = page(filtered(request.filter, items, ("name", "version")), request.page_size, request.page_token)
    return api.ListTagsResponse(tags=part, next_page_token=after)


def _find_tag(world: World, name: str) -> tuple[Held, Package, str]:
    above, _, tag = name.partition("/tags/")
    held, package = world.state(Repositories).package(above)
    if tag not in package.tags:
        raise Refusal("NOT_FOUND", f"Tag {name} does not exist.")
    return held, package, tag


def get_tag(world: World, request: api.GetTagRequest) -> api.Tag:
    return _tag(*_find_tag(world, request.name))


def create_tag(world: World, request: api.CreateTagRequest) -> api.Tag:
    held, package = world.state(Repositories).package(request.parent)
    if request.tag_id in package.tags:
        raise Refusal("ALREADY_EXISTS", f"Tag {request.tag_id} already exists.")
    return _point(world, held, package, request.tag_id, request.tag.version)


def update_tag(world: World, request: api.UpdateTagRequest) -> api.Tag:
    """Creates the tag where there is none (its request's documentation)."""
    above, _, tag = request.tag.name.partition("/tags/")
    held, package = world.state(Repositories).package(above)
    return _point(world, held, package, tag, request.tag.version)


def _point(world: World, held: Held, package: Package, tag: str, version: str) -> api.Tag:
    state = world.state(Repositories)
    _, _, image = state.version(version)
    state.may_move(held, package, tag, image.digest)
    package.set_tag(tag, image.digest, world.now())
    layout = state.layouts(held.settings.name, package.name)
    if layout is not None and layout.exists():
        descriptor = layout.find(image.digest)
        manifest = layout.read_manifest(descriptor) if descriptor else None
        if manifest is not None:
            layout.put_manifest(manifest, [tag])
    return _tag(held, package, tag)


def delete_tag(world: World, request: api.DeleteTagRequest) -> Empty:
    held, package, tag = _find_tag(world, request.name)
    state = world.state(Repositories)
    state.may_untag(held, tag)
    state.untag(held, package, tag)
    return Empty()


HANDLERS: dict[str, Callable[[World, Any], Any]] = {
    "ListDockerImages": list_docker_images,
    "GetDockerImage": get_docker_image,
    "ListPackages": list_packages,
    "GetPackage": get_package,
    "DeletePackage": delete_package,
    "ListVersions": list_versions,
    "GetVersion": get_version,
    "DeleteVersion": delete_version,
    "BatchDeleteVersions": batch_delete_versions,
    "ListTags": list_tags,
    "GetTag": get_tag,
    "CreateTag": create_tag,
    "UpdateTag": update_tag,
    "DeleteTag": delete_tag,
    "GetOperation": get_operation,
    **repositories.HANDLERS,
    **iam_policy.HANDLERS,
}
PERMISSIONS = {
    "ListDockerImages": "artifactregistry.dockerimages.list",
    "GetDockerImage": "artifactregistry.dockerimages.get",
    "ListPackages": "artifactregistry.packages.list",
    "GetPackage": "artifactregistry.packages.get",
    "DeletePackage": "artifactregistry.packages.delete",
    "ListVersions": "artifactregistry.versions.list",
    "GetVersion": "artifactregistry.versions.get",
    "DeleteVersion": "artifactregistry.versions.delete",
    "BatchDeleteVersions": "artifactregistry.versions.delete",
    "ListTags": "artifactregistry.tags.list",
    "GetTag": "artifactregistry.tags.get",
    "CreateTag": "artifactregistry.tags.create",
    "UpdateTag": "artifactregistry.tags.update",
    "DeleteTag": "artifactregistry.tags.delete",
    **repositories.PERMISSIONS,
}
SERVICE = Service(
    "artifactregistry",
    read_methods(ArtifactRegistryGrpcTransport, rest_base._BaseArtifactRegistryRestTransport),
    HANDLERS,
    PERMISSIONS,
)
