"""What is taken of foreign repositories: the fields that a sync and an upstream of the configuration share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from registry_pipelines.oci.platforms import Platform
from registry_pipelines.settings import GLOB
from registry_pipelines.transfer.closure.platforms import Selection

if TYPE_CHECKING:  # loaded where tags are chosen: all configurations have these fields
    from registry_pipelines.transfer.closure.selector import Selector


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tags of a repository are taken, and what of their images. `tags`, `newest` and `semver` narrow each
    other."""

    tags: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of tags to take; all unless told."""
    exclude_tags: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of tags to leave, for example `*-windowsservercore*`; they cost nothing of `newest`."""
    newest: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Only so many tags of each repository, the highest versions first."""
    semver: str | None = None
    """Only versions in this range, for example `>=1.25,<2`."""
    platforms: tuple[Platform, ...] = ()
    """Only these platforms; all unless told."""
    selection: Selection = "sparse"
    """What `platforms` do to an index. `sparse`: it keeps its digest and its signatures and lacks the other platforms,
    which docker-registry and ECR refuse. `rewritten`: a new one with these only; signatures of the old stay behind."""
    foreign_layers: bool = False
    """Take layers that their publisher keeps elsewhere (Windows bases until 2023), too, where the source holds them;
    their licence may forbid to pass them on. What is left out is told."""

    @property
    def selector(self) -> Selector:
        """Which tags are taken. Raises InputError for a range that cannot be read."""
        from registry_pipelines.transfer.closure.selector import Selector

        return Selector(glob=self.tags, exclude=self.exclude_tags, semver=self.semver or "", newest=self.newest or 0)
