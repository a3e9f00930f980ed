"""Many closures that are already chosen, in one plan: each blob leaves its source once, and mounts serve the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import DISCOVERY_THREADS, discover
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.delivery.plan import Job
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import PLAIN, Engine


@dataclass(frozen=True)
class Item:
    """One closure, where it goes and what it is called there. reference: tag or digest."""

    source: Place
    reference: str
    target: Place
    tags: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    selection: Selection = "sparse"
    move_tags: bool = True
    foreign_layers: bool = False


def copy_items(
    items: Sequence[Item],
    *,
    engine: Engine = PLAIN,
) -> list[TargetResult | RegistryPipelinesError]:
    """Copy chosen closures in one plan, each to a place of its own: for callers that chose the references themselves.

    Returns in their order what became of each: a result, or why its closure could not be read at the source.

    Nothing that fails stops the others. Raises LocalError when the state cannot be kept.
    """
    items = [replace(item, source=engine.place(item.source), target=engine.place(item.target)) for item in items]
    with engine.opened() as state:
        with Pool(DISCOVERY_THREADS, "discover") as pool:
            wanted = list(dict.fromkeys(map(_content, items)))
            by_content = dict(zip(wanted, pool.map(lambda item: _find(item, state.manifests), wanted), strict=True))
        closures = [by_content[_content(item)] for item in items]
        by_position = {at: closure for at, closure in enumerate(closures) if isinstance(closure, Closure)}
        jobs = [
            Job(closure, (items[at].target,), items[at].tags, items[at].move_tags)
            for at, closure in by_position.items()
        ]
        results = dict(zip(by_position, state.apply(state.plan(jobs)), strict=True))
        state.cancel_abandoned(item.target.registry for item in items)
    return [
        closure if isinstance(closure, RegistryPipelinesError) else results[at] for at, closure in enumerate(closures)
    ]


def _content(item: Item) -> Item:
    """What its closure depends on: the same for all targets of an image, which is looked for once."""
    return replace(item, target=item.source, tags=(), move_tags=True)


def _find(item: Item, cache: ManifestFolder | None) -> Closure | RegistryPipelinesError:
    try:
        return discover(
            item.source,
            item.reference,
            platforms=item.platforms,
            selection=item.selection,
            cache=cache,
            foreign_layers=item.foreign_layers,
        )
    except RegistryPipelinesError as error:
        return error
