"""Bring releases to their targets, and say what differs there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from registry_pipelines.errors import NotFound, RegistryPipelinesError, TagImmutable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer import verify
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.verify import Comparison, Mismatch


@dataclass(frozen=True)
class Tags:
    """What a release is called at a target. channels: those that name it now."""

    version: str
    channels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Version tag first, channels last: whoever pulls a channel finds everything there."""
        return (self.version, *self.channels)


def tags_of(source: Place, digest: Digest, *, version: str, channels: Sequence[str]) -> Tags:
    """The tags a release takes along: each channel only while it names this release at the source, so that replicating
    an older release again never moves a channel back."""
    return Tags(version, tuple(each for each in channels if digest_at(source, each) == digest))


def replicate(
    source: Place,
    digest: Digest,
    targets: Sequence[Place],
    *,
    tags: Sequence[Tags],
    foreign_layers: Collection[Place] = (),
    engine: Engine = PLAIN,
) -> list[TargetResult | RegistryPipelinesError]:
    """Copy a release's whole closure, evidence included, to every target; tags last; each target is read back and gets
    a receipt. All in one plan: what leaves the source leaves it once.

    tags: what it is called at each target. foreign_layers: the targets that also take layers which their publisher
    keeps elsewhere, see :func:`~registry_pipelines.transfer.closure.discovery.discover`. Whether the release may go
    there is not asked here; the caller has the verdict. Returns, in the order of the targets, what became of each: a
    result, which has the error when it failed there, or why the release could not be found. Nothing that fails stops
    the others. Raises LocalError.
    """
    items = [
        Item(source, digest, target, tags=own.names, foreign_layers=target in foreign_layers)
        for target, own in zip(targets, tags, strict=True)
    ]
    return copy_items(items, engine=engine)


def require_own_tag(place: Place, digest: Digest, *, version: str) -> None:
    """Raise TagImmutable where a version tag names another digest at a place already: a copy would move it. Raises
    RegistryError."""
    there = digest_at(place, version)
    if there not in (None, digest):
        raise TagImmutable(
            f"the version tag {version} names {there} here, and {digest.short} at the source: it never moves",
            where=str(place),
            do="Find out who pushed it. When it is of no use, delete it there by its digest, then copy again",
        )


def examine(source: Place, target: Place, digest: Digest, *, tags: Tags, foreign_layers: bool = False) -> Comparison:
    """Everything in which a target differs from the source for one release, and what was not compared.

    Evidence that is attached at the source later is a difference until it is replicated. Raises NotFound (the source
    does not have the release), RegistryError.
    """
    comparison = verify.examine(source, target, digest, foreign_layers=foreign_layers)
    named = {tag: _named(target, tag) for tag in tags.names}
    moved = [Mismatch("tag", tag, digest, there) for tag, there in named.items() if there != digest]
    return replace(comparison, differences=(*comparison.differences, *moved))


def _named(place: Place, tag: str) -> str:
    try:
        return place.registry.resolve(place.repository, tag).digest
    except NotFound:
        return ""
