"""What is wanted of an image that a Dockerfile makes: the class that the configuration holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.oci.platforms import Platform
from registry_pipelines.settings import FILE, FOLDER, REPOSITORY, TAG, Duration, Pattern, Short

EngineName = Literal["auto", "buildx", "buildctl", "buildah", "docker"]
"""How a Dockerfile is run. ``auto`` takes the first that is there and can do what the Dockerfile asks."""

Links = Literal["report", "error"]

VARIABLE = Pattern(
    r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", "the name of a variable", "use letters, digits and _, not starting with a digit"
)
SECRET_ID = Pattern(r"^[A-Za-z0-9_.-]{1,128}$", "the id of a secret", "use letters, digits, . _ and -")


class BuildSecret(msgspec.Struct, frozen=True, kw_only=True):
    """Where the value of a secret is; the value itself stands in no configuration."""

    file: Annotated[Path, FILE] | None = None
    """File that holds it."""
    env: Annotated[str, VARIABLE] | None = None
    """Environment variable that holds it, of whoever runs the build."""


class BuildCacheRepository(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build finds the layers of earlier ones."""

    repository: Annotated[str, REPOSITORY]
    """Repository in the source registry, for the cache alone: nothing in it is a release, nothing of it is copied."""
    keep: Duration = Duration(days=14)
    """How long it is kept, in whole days, after the newest step in it was run; then `collect` may delete it."""


class DockerfileBuild(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is made from a Dockerfile, by a container engine."""

    version: Annotated[str, TAG]
    """The release's version tag; it never moves."""
    context: Annotated[Path, FOLDER]
    """Folder whose files the build may copy, less what its `.dockerignore` names."""
    file: Annotated[Path, FILE] | None = None
    """The Dockerfile; `Dockerfile` in the context unless told."""
    target: str = ""
    """Stage that becomes the image; the last one unless told."""
    platforms: tuple[Platform, ...] = ()
    """Platforms, each as os/architecture; this machine's unless told. Several become one index."""
    args: dict[Annotated[str, VARIABLE], str] = {}
    """Build arguments. They stand in the image's history and in the provenance: nothing secret."""
    secrets: dict[Annotated[str, SECRET_ID], BuildSecret] = {}
    """Secrets that steps mount by their id (`RUN --mount=type=secret,id=token`), each as `file` or `env`. A value never
    reaches a layer, the history, a log or the provenance."""
    labels: dict[str, str] = {}
    """Labels of the image."""
    cache: Annotated[BuildCacheRepository, Short("repository")] | None = None
    """Repository of the build cache, for BuildKit: the steps of all stages are kept there (`mode=max`), so that another
    machine does not run them again."""
    source_date: Annotated[int, msgspec.Meta(ge=0, le=253402300799)] | None = None
    """Time of everything that the build makes, in seconds since 1970 (`SOURCE_DATE_EPOCH`); that of the context's last
    commit unless told, and a fixed one where it is under no version control."""
    network: Literal["default", "none", "host"] = "default"
    """Network of the steps: the engine's own, none (what they need must then be in the context), or that of the
    engine's machine."""
    engine: EngineName = "auto"
    """What runs it: `buildx` or `buildctl` (BuildKit), `buildah`, or `docker` (the classic builder, for Dockerfiles
    that use nothing it drops or ignores)."""
    time_limit: Duration = Duration(hours=2)
    """How long it may take; then the engine is ended."""
    links: Links = "report"
    """What a library that a program of the image needs and nothing brings does: stands in the result, or ends the
    build before anything is pushed."""

    @property
    def path(self) -> Path:
        """Where the Dockerfile is."""
        return self.file if self.file is not None else self.context / "Dockerfile"


class DockerfileSpec(DockerfileBuild, frozen=True, kw_only=True):
    """Everything that decides what an image holds: its ``dockerfile`` section, and what stands around it."""

    name: str
    """The image's name; part of labels and provenance."""
