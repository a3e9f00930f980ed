"""What a builder takes and gives, and the form of the evidence it attaches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import msgspec

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import ARTIFACT, FILE, FOLDER, LIBC, TAG, Existing, Names

if TYPE_CHECKING:
    from registry_pipelines.build.links.report import LinkReport

PROVENANCE_ARTIFACT = media_types.IN_TOTO
"""Artifact and media type of the attached provenance: a bare in-toto Statement, whoever signs it."""

PREDICATE_TYPE_ANNOTATION = "in-toto.io/predicate-type"
"""Annotation of the artifact manifest that names the statement's predicate."""

BUILD_TYPE = "urn:registry-pipelines:build:layers:v1"
"""What ``externalParameters`` mean: the fields of BuildSpec."""

BUILDER_ID = "urn:registry-pipelines:builder:layers"
"""Who built, when the caller names nobody else (``LayersBuilder(builder_id=...)``)."""

SILENT = Silent()
"""The default receiver of progress."""

INTERPRETER_BASES = ("python", "interpreter")
"""Values of ``BuildSpec.base`` that mean: a Linux root with the running Python interpreter."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is made from Python wheels and an application folder, without a container daemon."""

    base: str = "python"
    """`python`: a Linux root with the running interpreter; or an image reference (a configured registry's name may
    stand in front)."""
    version: Annotated[str, TAG]
    """The release's version tag; it never moves."""
    python: str = ""
    """Python of the base, like `3.12`, or `3.13t` when it is free-threaded; what the base says unless told."""
    libc: Annotated[str, LIBC] = ""
    """C library of the base, which wheels are chosen for: `glibc-2.31`, `musl-1.2`, or `none` (pure Python wheels
    only); read from the base's layers unless told."""
    requirements: tuple[str, ...] = ()
    """Python requirements, as in a requirements file."""
    requirements_file: Annotated[Path, FILE] | None = None
    """A requirements file, beside or instead of `requirements`."""
    wheels: Annotated[Path, FOLDER] | None = None
    """Folder with wheels; when given, no package index is asked, and pip's own settings do not count."""
    wheels_from: Annotated[str, ARTIFACT] | None = None
    """Artifact with wheels instead of a folder in `wheels`, as `wheels push` wrote it (`private/wheels:latest`): for
    builds behind a gap. A key that is believed for what goes into images must vouch for it."""
    index: tuple[Annotated[str, Names("packages")], ...] = ()
    """Package indexes of `packages` that wheels come from, and from nowhere else (docs/packages.md); pip's own settings
    do not count then. Without it pip asks as it is configured."""
    find_links: tuple[Annotated[str, Existing("file or folder")], ...] = ()
    """Folders, pages or addresses with more wheels, beside the index or beside `wheels`: pip's `--find-links`."""
    application: Annotated[Path, FOLDER] | None = None
    """Folder whose files become the application layer."""
    workdir: str = "/app"
    """Where the application stands in the image; its working directory."""
    entrypoint: tuple[str, ...] = ()
    """What a container starts; the Python interpreter unless told."""
    command: tuple[str, ...] = ()
    """Arguments of the entrypoint; `app.py` of `workdir` when there is one and neither is told."""
    environment: dict[str, str] = {}
    """Environment variables of the container."""
    labels: dict[str, str] = {}
    """Labels of the image."""
    user: str = ""
    """`uid[:gid]` or name the container runs as; the base's unless told (65532 on the interpreter base)."""
    writable: tuple[str, ...] = ()
    """Empty folders that are its user's: an image is root's else, and a new volume takes over whose the folder below it
    is."""
    site_packages: str = ""
    """Where wheels go in the base; `/usr/local/lib/python<version>/site-packages` unless told."""
    interpreter: str = ""
    """Python program of the base; `/usr/local/bin/python3` unless told."""
    platforms: tuple[Platform, ...] = ()
    """Platforms, each as os/architecture; this machine's unless told."""
    links: Literal["report", "error"] = "report"
    """What a library that a program or a Python extension of the image needs and nothing brings does: stands in the
    result and in the provenance, or ends the build before a manifest or a tag is there."""
    conflicts: dict[str, str] = {}
    """Whose file stands where several wheels bring one path with different content: path below site-packages (or from
    `/` on) or pattern, to a project, or to `application`. A path told exactly counts before patterns, and those in
    their order."""


class BuildSpec(Build, frozen=True, kw_only=True):
    """Everything that decides what an image holds: its build section, and what stands around it."""

    name: str
    """The image's name; part of labels and provenance."""
    folder: Path = Path()
    """What relative paths in ``requirements`` and ``find_links`` start at; the current folder unless told."""
    version: str = ""
    """The version tag; never moves. Without it the image gets a tag of its own digest."""


class LockedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """One wheel a platform's image holds, pinned."""

    name: str
    """Normalised project name (PEP 503)."""
    version: str
    filename: str
    sha256: str
    """64 hex digits of the wheel file."""
    size: int
    origin: tuple[tuple[str, str], ...] = ()
    """What is known of where it comes from, by name, sorted: ``index`` (of the configuration), ``downloadLocation``,
    ``status`` and ``yanked`` as the index says, ``attestedBy``. Empty where pip alone chose."""

    @property
    def purl(self) -> str:
        """``pkg:pypi/<name>@<version>``."""
        return f"pkg:pypi/{self.name}@{self.version}"


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of one platform, and what it cost."""

    platform: str
    contents: str
    """For people: ``numpy 2.3.1``, ``8 small wheels``, ``application``, ``base``."""
    key: str
    """What the bytes depend on; equal keys mean equal layers, also between images. Empty for layers of a base image."""
    digest: Digest
    diff_id: Digest
    size: int
    """Compressed bytes."""
    how: str
    """``present`` (one HEAD), ``mounted``, ``copied`` (from the base image's registry) or ``uploaded``."""
    bytes_uploaded: int = 0

    @property
    def reused(self) -> bool:
        """Whether no byte of it was sent."""
        return self.how in ("present", "mounted")


class SettledConflict(msgspec.Struct, frozen=True, kw_only=True):
    """A path that several brought with different content, and whose file the image has (``BuildSpec.conflicts``)."""

    platform: str
    path: str
    """In the image, with leading slash."""
    winner: str
    """Package URL of the wheel, or ``application``."""
    losers: tuple[str, ...]
    """Package URLs of wheels whose file is left out, also of their RECORD."""


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a build made, or found made."""

    descriptor: Descriptor
    """The top manifest: an index when several platforms were asked for."""
    manifests: tuple[Descriptor, ...]
    """The platform manifests, in the order of the specification."""
    tags: tuple[str, ...]
    """Tags that name the descriptor now; the version tag first."""
    layers: tuple[LayerRow, ...]
    lock: Mapping[str, tuple[LockedWheel, ...]]
    """Per platform, every wheel with its hash."""
    bytes_uploaded: int
    """Layer, config, manifest and evidence bytes sent."""
    seconds: float
    warnings: tuple[str, ...]
    """For people, one line each: what Git does not know of the application folder, what this machine could not give."""
    provenance: Descriptor
    """The artifact manifest that carries the provenance statement."""
    changed: bool
    """False when everything, tags and provenance included, was there already."""
    targets: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Per platform, what wheels were chosen for: Python, C library, and how that was found. For people."""
    conflicts: tuple[SettledConflict, ...] = ()
    links: Mapping[str, LinkReport] = msgspec.field(default_factory=dict)
    """Per platform, which libraries are needed and not there."""
    notes: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By file name of the wheel: what its format does not allow and pip takes, and what was left out of it."""


class Builder(Protocol):
    """Turns a specification into an image at a place."""

    def build(self, spec: BuildSpec, place: Place, *, progress: Progress = SILENT) -> BuildResult:
        """Build and push; the version tag last. Raises RequirementsInvalid, WheelInvalid, PathConflict, InputError,
        TagImmutable (the version exists with other content) and the RegistryError family."""
        ...
