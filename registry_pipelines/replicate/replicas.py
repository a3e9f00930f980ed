"""Bring releases to their targets, and say what differs there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer import verify
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.verify import Comparison, Mismatch


@dataclass(frozen=True)
class Tags:
    """What a release is called at a target. channel: empty when its channel names another release now."""

    version: str
    channel: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Version tag first, channel last: whoever pulls the channel finds everything there."""
        return (self.version, self.channel) if self.channel else (self.version,)


def tags_of(source: Place, digest: Digest, *, version: str, channel: str) -> Tags:
    """The tags a release takes along: the channel only while it names this release at the source, so that replicating
    an older release again never moves a channel back."""
    try:
        named = source.registry.resolve(source.repository, channel).digest
    except NotFound:
        return Tags(version)
    return Tags(version, channel if named == digest else "")


def replicate(
    source: Place,
    digest: Digest,
    targets: Sequence[Place],
    *,
    tags: Tags,
    foreign_layers: Collection[Place] = (),
    engine: Engine = PLAIN,
) -> list[TargetResult | RegistryPipelinesError]:
    """Copy a release's whole closure, evidence included, to every target; tags last; each target is read back and gets
    a receipt. All in one plan: what leaves the source leaves it once.

    foreign_layers: the targets that also take layers which their publisher keeps elsewhere, see
    :func:`~registry_pipelines.transfer.closure.discovery.discover`. Whether the release may go there is not asked here;
    the caller has the verdict. Returns, in the order of the targets, what became of each: a result, which has the error
    when it failed there, or why the release could not be found. Nothing that fails stops the others. Raises LocalError.
    """
    items = [
        Item(source, digest, target, tags=tags.names, foreign_layers=target in foreign_layers) for target in targets
    ]
    return copy_items(items, engine=engine)


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
