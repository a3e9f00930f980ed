"""What every engine is asked, and what it gives back: an OCI layout, whose content our own engine pushes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place

LAYOUT = "layout"
"""Folder below ``Order.folder`` where an engine leaves the image: an OCI image layout (image-spec 1.1,
image-layout.md)."""

LAST_LINES = 20
"""Lines of a failed step that an error shows."""


CACHE_LAYOUT = "cache"
"""The same for the cache, where secrets are about: it is read for their values before it goes to the registry."""


@dataclass(frozen=True)
class CacheReference:
    """Where BuildKit reads the cache, and where it writes it unless the build has secrets (:data:`CACHE_LAYOUT`)."""

    place: Place
    tag: str
    plain_http: bool = False

    @property
    def reference(self) -> str:
        """As BuildKit is told it: ``host/repository:tag``."""
        return f"{self.place}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One build, with everything decided that our side decides."""

    spec: DockerfileSpec
    platforms: tuple[Platform, ...]
    """At least one."""
    labels: Mapping[str, str]
    """Labels of the image: those of the configuration and those of its commit."""
    source_date: int
    """Seconds since 1970 of all times in the image."""
    folder: Path
    """An empty folder for the engine, removed afterwards; the image goes to ``folder / LAYOUT``."""
    deadline: float
    """Of the monotonic clock; what runs then is ended (:meth:`seconds_left`)."""
    secret_values: tuple[str, ...] = ()
    """Values of all secrets, to be taken out of every line that is shown (:func:`hidden`)."""
    cache: CacheReference | None = None
    docker_config: Path | None = None
    """Folder with a ``config.json`` that has the logins for bases and cache (what ``DOCKER_CONFIG`` names)."""
    progress: Progress = field(default_factory=Silent)

    def seconds_left(self) -> float:
        """Until the time limit; never negative."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a build that was done."""

    name: str
    """As the engine prints it: ``[build 2/4] RUN make``."""
    seconds: float
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Built:
    """What an engine has left in ``order.folder / LAYOUT``: one top manifest in ``index.json``, and all its blobs."""

    engine: str
    """``buildx 0.29.1, BuildKit v0.26.2``: for people and for the provenance."""
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    """For people, one line each; the same for equal builds."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An engine that is there."""

    version: str
    """For people: ``buildx 0.29.1 (docker-container), BuildKit v0.26.2``."""
    buildkit: bool
    """Whether it is BuildKit: ``# syntax``, mounts, heredocs, secrets, the registry cache, attestations."""
    platforms: tuple[Platform, ...] = ()
    """What it can run; empty when nobody knows."""


class Engine(Protocol):
    """Runs a Dockerfile. Built with no argument; holds no state."""

    name: str
    """As ``dockerfile.engine`` names it."""

    def find(self) -> Found:
        """Whether it can be used here and now. Raises ToolMissing with what is missing and how to get it: no program,
        no daemon that answers, a daemon without BuildKit."""
        ...

    def build(self, order: Order) -> Built:
        """Run the Dockerfile until the image lies in ``order.folder / LAYOUT``.

        Raises BuildFailed (the step, its line and its last lines), DiskFull, ToolMissing, InputError. Whatever it
        started is ended when it returns or raises, at the latest at ``order.deadline``.
        """
        ...


def hidden(text: str, values: tuple[str, ...]) -> str:
    """The text without the values of secrets; the longest first, since one may hold another."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(value, "***")
    return text
