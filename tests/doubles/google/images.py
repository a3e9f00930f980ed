"""What Artifact Registry keeps: repositories, packages, versions and tags. Both of its doors see the same ones.

Rules that hold whoever asks (client's types and cloud.google.com, "Artifact Registry": "Repositories", "Managing
images"): a tag of a repository with immutable tags is neither moved nor deleted, and neither is a version that has one;
a version that an index names stays while the index is there; a tagged version goes only by force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, unquote

from google.cloud import artifactregistry_v1 as api

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_INDEX
from tests.doubles.google.world import Refusal, World, stamp


@dataclass
class Image:
    """A version of a package. size: bytes of config and layers; of an index its own (what Google counts there is not
    documented)."""

    digest: str
    media_type: str
    uploaded: datetime
    updated: datetime
    size: int = 0
    artifact_type: str = ""
    built: datetime | None = None
    children: tuple[Descriptor, ...] = ()
    subject: str = ""
    tags: set[str] = field(default_factory=set)


@dataclass
class Package:
    """An image name below a repository, with what it has by digest."""

    name: str
    created: datetime
    updated: datetime
    images: dict[str, Image] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Tag to digest."""

    def set_tag(self, tag: str, digest: str, now: datetime) -> None:
        """Point a tag at a version, away from where it pointed."""
        old = self.images.get(self.tags.get(tag, ""))
        if old is not None:
            old.tags.discard(tag)
        self.tags[tag] = digest
        self.images[digest].tags.add(tag)
        self.images[digest].updated = self.updated = now

    def drop_tag(self, tag: str) -> None:
        """Remove a tag."""
        image = self.images.get(self.tags.pop(tag, ""))
        if image is not None:
            image.tags.discard(tag)


@dataclass
class Held:
    """A repository with what is in it."""

    settings: api.Repository
    packages: dict[str, Package] = field(default_factory=dict)

    @property
    def immutable(self) -> bool:
        """Whether its tags are."""
        return bool(self.settings.docker_config.immutable_tags)


def package_id(name: str) -> str:
    """A package's part of a resource name: slashes escaped."""
    return quote(name, safe=":@")


class Repositories:
    """All repositories of all projects. layouts: where the data plane keeps the content of an image of a repository,
    once there is one."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        """By resource name, ``projects/P/locations/L/repositories/R``."""
        self.layouts: Callable[[str, str], Layout | None] = lambda _repository, _package: None
        self.tell: Callable[[str, Held, str, str, str], None] = lambda *_: None
        """Is told of ("INSERT" or "DELETE", repository, image, digest, tag)."""

    def get(self, name: str) -> Held:
        """A repository by its resource name. Raises Refusal."""
        if name not in self.held:
            raise Refusal("NOT_FOUND", f"Requested entity was not found. Repository {name} does not exist.")
        return self.held[name]

    def package(self, name: str) -> tuple[Held, Package]:
        """A package by its resource name. Raises Refusal."""
        above, _, last = name.partition("/packages/")
        held = self.get(above)
        package = held.packages.get(unquote(last.partition("/")[0]))
        if package is None:
            raise Refusal("NOT_FOUND", f"Package {name} does not exist.")
        return held, package

    def version(self, name: str) -> tuple[Held, Package, Image]:
        """A version by its resource name. Raises Refusal."""
        above, _, digest = name.partition("/versions/")
        held, package = self.package(above)
        if digest not in package.images:
            raise Refusal("NOT_FOUND", f"Version {name} does not exist.")
        return held, package, package.images[digest]

    def add(self, world: World, project: str, location: str, repository: str, **settings: object) -> api.Repository:
        """Make a Docker repository, as a test starts with it."""
        name = f"projects/{project}/locations/{location}/repositories/{repository}"
        made = api.Repository(
            name=name,
            format_=api.Repository.Format.DOCKER,
            mode=api.Repository.Mode.STANDARD_REPOSITORY,
            create_time=world.stamp(),
            update_time=world.stamp(),
            **settings,
        )
        self.held[name] = Held(made)
        return made

    def parents(self, package: Package, digest: str) -> list[str]:
        """Indexes that name a version; the server's own lists of referrers (``sha256-...``, also replaced ones, also
        when something of them is gone) do not hold what is in them."""
        return [
            each.digest
            for each in package.images.values()
            if any(str(child.digest) == digest for child in each.children)
            and not all(_subject(package, child) or child.digest not in package.images for child in each.children)
        ]

    def may_move(self, held: Held, package: Package, tag: str, digest: str) -> None:
        """Whether a tag may be pointed at a version. Raises Refusal."""
        if held.immutable and package.tags.get(tag, digest) != digest:
            raise Refusal(
                "FAILED_PRECONDITION",
                f"cannot update tag {tag}. The repository has enabled tag immutability",
            )

    def may_untag(self, held: Held, tag: str) -> None:
        """Whether a tag may go. Raises Refusal."""
        if held.immutable:
            raise Refusal(
                "FAILED_PRECONDITION", f"cannot delete tag {tag}. The repository has enabled tag immutability"
            )

    def may_delete(self, held: Held, package: Package, image: Image, *, force: bool) -> None:
        """Whether a version may go. Raises Refusal."""
        if image.tags and held.immutable:
            raise Refusal(
                "FAILED_PRECONDITION",
                f"cannot delete version {image.digest}: it is tagged, and the repository has enabled tag immutability",
            )
        if image.tags and not force:
            raise Refusal("FAILED_PRECONDITION", f"cannot delete version {image.digest} because it is tagged")
        if parents := self.parents(package, image.digest):
            raise Refusal(
                "FAILED_PRECONDITION",
                f"manifest is still referenced by one or more parent images: {image.digest}: {', '.join(parents)}",
            )

    def delete(self, held: Held, package: Package, image: Image) -> None:
        """Remove a version with its tags, here and in the data plane."""
        for tag in list(image.tags):
            package.drop_tag(tag)
        package.images.pop(image.digest)
        layout = self.layouts(held.settings.name, package.name)
        if layout is not None and layout.exists():
            layout.remove_manifest(Digest.parse(image.digest))
            if image.subject:
                self._relist(held, package, Digest.parse(image.subject), layout)
        self.tell("DELETE", held, package.name, image.digest, "")
        if not package.images:
            held.packages.pop(package.name, None)

    def _relist(self, held: Held, package: Package, subject: Digest, layout: Layout) -> None:
        """The server's list of referrers, after one of them is gone."""
        old = layout.find(subject.fallback_tag)
        if old is None:
            return
        layout.remove_manifest(old.digest)
        left = layout.referrers(subject)
        if left:
            index = Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(left))
            layout.put_manifest(manifest_bytes(index), [subject.fallback_tag])
        self.take_over(held, package.name, layout, package.updated)

    def untag(self, held: Held, package: Package, tag: str) -> None:
        """Remove a tag, here and in the data plane."""
        package.drop_tag(tag)
        layout = self.layouts(held.settings.name, package.name)
        if layout is not None and layout.exists():
            layout.remove_tag(tag)
        self.tell("DELETE", held, package.name, "", tag)

    def take_over(self, held: Held, name: str, layout: Layout, now: datetime) -> None:
        """Bring a package up to date with what the data plane has of it."""
        package = held.packages.setdefault(name, Package(name, now, now))
        present = layout.manifests()
        for digest, descriptor in present.items():
            if str(digest) not in package.images:
                package.images[str(digest)] = _read(layout, descriptor, now)
                package.updated = now
        for gone in set(package.images) - {str(digest) for digest in present}:
            package.images.pop(gone)
        tags = {tag: str(descriptor.digest) for tag, descriptor in layout.tags().items()}
        for tag in set(package.tags) - set(tags):
            package.drop_tag(tag)
        for tag, digest_text in tags.items():
            if package.tags.get(tag) != digest_text:
                package.set_tag(tag, digest_text, now)
        if not package.images:
            held.packages.pop(name, None)

    def images(self, held: Held) -> Iterator[tuple[Package, Image]]:
        """Everything in a repository, in the order of names and digests."""
        for name in sorted(held.packages):
            package = held.packages[name]
            for digest in sorted(package.images):
                yield package, package.images[digest]


def _subject(package: Package, child: Descriptor) -> str:
    image = package.images.get(str(child.digest))
    return image.subject if image else ""


def _read(layout: Layout, descriptor: Descriptor, now: datetime) -> Image:
    manifest = layout.read_manifest(descriptor)
    assert manifest is not None
    content = manifest.content()
    children: tuple[Descriptor, ...] = ()
    size = len(manifest.raw)
    if isinstance(content, Index):
        children = tuple(content.manifests)
        kind = content.artifact_type or ""
    else:
        assert isinstance(content, Manifest)
        size = content.config.size + sum(layer.size for layer in content.layers)
        kind = content.artifact_type or ""
    subject = str(content.subject.digest) if content.subject else ""
    return Image(
        digest=str(descriptor.digest),
        media_type=descriptor.media_type,
        uploaded=now,
        updated=now,
        size=size,
        # "If the subject_digest is set and no artifact_type is given, the media_type will be considered": DockerImage.
        artifact_type=kind or (content.config.media_type if isinstance(content, Manifest) and subject else ""),
        children=children,
        subject=subject,
    )


def docker_image(held: Held, package: Package, image: Image) -> api.DockerImage:
    """What ListDockerImages says of a version."""
    _, project, _, location, _, repository = held.settings.name.split("/")
    made = api.DockerImage(
        name=f"{held.settings.name}/dockerImages/{package_id(package.name)}@{image.digest}",
        uri=f"{location}-docker.pkg.dev/{project}/{repository}/{package.name}@{image.digest}",
        tags=sorted(image.tags),
        image_size_bytes=image.size,
        upload_time=stamp(image.uploaded),
        update_time=stamp(image.updated),
        media_type=image.media_type,
        artifact_type=image.artifact_type,
        image_manifests=[
            api.ImageManifest(
                architecture=each.platform.architecture if each.platform else "",
                os=each.platform.os if each.platform else "",
                variant=(each.platform.variant or "") if each.platform else "",
                digest=str(each.digest),
                media_type=each.media_type,
            )
            for each in image.children
        ],
    )
    if image.built is not None:
        made.build_time = image.built
    return made


__all__ = ["Held", "Image", "Package", "Repositories", "docker_image", "package_id"]
