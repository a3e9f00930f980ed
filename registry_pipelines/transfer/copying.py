"""Copy one closure to one or many targets."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.errors import DigestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.delivery.plan import Job, Plan
from registry_pipelines.transfer.delivery.results import CopyResult, TargetResult
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.limits.requests import Requests


def copy_closure(
    source: Place,
    reference: str,
    targets: Sequence[Place],
    *,
    tags: Sequence[str] | None = None,
    move_tags: bool = True,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    foreign_layers: bool = False,
    dry_run: bool = False,
    engine: Engine = PLAIN,
) -> CopyResult:
    """Bring everything that belongs to a tag or digest to every target. For one image; ``batch`` and ``sync`` take many
    in one plan.

    tags: what the root is called at the targets; None keeps the tag asked for (none when it was a digest). move_tags:
    False reports a tag that names another digest as drift and leaves it. platforms, selection, foreign_layers: see
    :func:`~registry_pipelines.transfer.closure.discovery.discover`. dry_run: only plan.

    Raises what discovery raises, and the first target's error once the other targets are done (they are named in its
    notes); every error is of the RegistryError, ContentError or LocalError family. Drift does not raise.
    """
    requests = Requests([source.registry, *(target.registry for target in targets)])
    goals = tuple(engine.place(target) for target in targets)
    with engine.opened() as state:
        closure = discover(
            engine.place(source),
            reference,
            platforms=platforms,
            selection=selection,
            cache=state.manifests,
            foreign_layers=foreign_layers,
        )
        wanted = _default_tags(reference) if tags is None else tuple(tags)
        plan = state.plan([Job(closure, goals, wanted, move_tags)])
        if dry_run:
            _raise_unseen(plan)
            return CopyResult(closure.root, (), plan, requests.so_far())
        results = state.apply(plan)
        state.cancel_abandoned(goal.registry for goal in goals)
    _raise_first(results)
    return CopyResult(closure.root, tuple(results), plan, requests.so_far())


def _default_tags(reference: str) -> tuple[str, ...]:
    try:
        Digest.parse(reference)
    except DigestInvalid:
        return (reference,)
    return ()


def _raise_unseen(plan: Plan) -> None:
    for delivery in plan.deliveries:
        if delivery.unseen is not None:
            raise delivery.unseen


def _raise_first(results: Sequence[TargetResult]) -> None:
    failed = [result for result in results if result.error is not None]
    if not failed:
        return
    error = failed[0].error
    assert error is not None  # noqa: S101 - chosen by it
    for result in results:
        if result is not failed[0]:
            error.add_note(f"{result.place}: {result.error or 'complete'}")
    raise error
