"""Many closures that are already chosen, in one plan: each blob leaves its source once, and mounts serve the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.interface import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import ManifestCache, discover
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.delivery.plan import Job
from registry_pipelines.transfer.delivery.receipts import ReceiptSigner
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.state import State
from registry_pipelines.transfer.sync import DISCOVERY_THREADS
from registry_pipelines.waits import told_to


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
    state: Path | None = None,
    journal_url: str = "",
    signer: ReceiptSigner | None = None,
    progress: Progress | None = None,
) -> list[TargetResult | RegistryPipelinesError]:
    """Copy every item; in their order, what became of each: a result, or why its closure could not be found.

    journal_url: see :class:`~registry_pipelines.transfer.state.State`. Nothing that fails stops the others. Raises
    LocalError when the state cannot be kept.
    """
    told = progress or Silent()
    with told_to(told), State(state, journal_url=journal_url) as kept:
        with Pool(DISCOVERY_THREADS, "discover") as pool:
            closures = list(pool.map(lambda item: _find(item, kept.manifests), items))
        found = {at: closure for at, closure in enumerate(closures) if isinstance(closure, Closure)}
        jobs = [Job(closure, (items[at].target,), items[at].tags, items[at].move_tags) for at, closure in found.items()]
        results = dict(zip(found, kept.apply(kept.plan(jobs), progress=told, signer=signer), strict=True))
        kept.cancel_abandoned(item.target.registry for item in items)
    return [
        closure if isinstance(closure, RegistryPipelinesError) else results[at] for at, closure in enumerate(closures)
    ]


def _find(item: Item, cache: ManifestCache | None) -> Closure | RegistryPipelinesError:
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
