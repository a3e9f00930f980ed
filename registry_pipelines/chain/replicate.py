"""Copy a promoted release to its targets, and compare it with what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from registry_pipelines.chain.channels import going_to
from registry_pipelines.chain.promote import broken_glass, require_promoted
from registry_pipelines.chain.result import StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.ways import await_arrivals, edge
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.replicate import replicas
from registry_pipelines.replicate.ways import Way
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.limits.requests import Requests
from registry_pipelines.transfer.verify import Comparison


def replicate(session: Session, release: Release, target: str) -> StageResult:
    """Copy a promoted release with all its evidence to one target. Raises PromotionDenied for any other release, and
    what ended the copy."""
    outcome = replicate_to(session, release, [target])[target]
    if isinstance(outcome, RegistryPipelinesError):
        raise outcome
    return outcome


def replicate_to(
    session: Session, release: Release, targets: Sequence[str]
) -> dict[str, StageResult | RegistryPipelinesError]:
    """Copy a promoted release to several targets, in one plan: each blob leaves the source once.

    Returns for each target its result, or the error that ended its copy; none holds the others up. Requests to the
    source are those for all of them. Each target takes the channel tags that have it, while they name this release; one
    where the version tag names something else is not touched. What ECR itself brings to a target is waited for
    (``arrival`` of the target); the copy then finds it there, reads it back and adds what is missing. Raises
    PromotionDenied, InputError for a target that the image does not go to, and LocalError.
    """
    places = {name: _destination(session, release, name) for name in targets}
    source, image = session.source(release), session.image(release.image)
    requests = Requests([source.registry, *(each.registry for each in places.values())])
    alerts = {
        channels: broken_glass(require_promoted(session, release, target=target))
        for channels, target in {tuple(going_to(image.order, name)): name for name in targets}.items()
    }
    results: dict[str, StageResult | RegistryPipelinesError] = {}
    for name, place in list(places.items()):
        try:
            replicas.require_own_tag(place, release.digest, version=release.tag)
        except RegistryPipelinesError as error:
            results[name] = error
            del places[name]
    ways = {name: edge(session, image, name).way for name in places}
    awaited = {
        name: (place, session.config.targets[name].arrival.total_seconds())
        for name, place in places.items()
        if ways[name].native
    }
    arrived = await_arrivals(release.digest, awaited)
    tags = {name: tags_at(session, release, name) for name in places}
    outcomes = replicas.replicate(
        source,
        release.digest,
        list(places.values()),
        tags=list(tags.values()),
        foreign_layers=[place for name, place in places.items() if session.config.targets[name].foreign_layers],
        engine=session.engine(),
    )
    expiring = [_expiring(outcome) for outcome in outcomes]
    counted = requests.so_far()
    for (name, place), outcome, notes in zip(places.items(), outcomes, expiring, strict=True):
        if isinstance(outcome, RegistryPipelinesError):
            results[name] = outcome
        elif outcome.error is not None:
            results[name] = outcome.error
        else:
            asked = {each: counted[each] for each in (source.registry.name, place.registry.name) if each in counted}
            done = _replicated(release, name, outcome, tags[name].names, asked)
            done = _by_way(done, ways[name], arrived.get(name))
            done = replace(done, notes=[*done.notes, *notes])
            results[name] = replace(done, alerts=alerts[tuple(going_to(image.order, name))])
    return {name: results[name] for name in targets}


def tags_at(session: Session, release: Release, target: str) -> replicas.Tags:
    """What a release is called at a target: its version, and the channels that have the target and name it now."""
    image, source = session.image(release.image), session.source(release)
    named = [each.name for each in going_to(image.order, target)]
    return replicas.tags_of(source, release.digest, version=release.tag, channels=named)


def _destination(session: Session, release: Release, target: str) -> Place:
    image = session.image(release.image)
    destination = session.places.target(image, target)
    if target not in image.targets:
        raise InputError(f"{image.name} does not go to {target}", do=f"Add it to `targets` of images.{image.name}")
    return destination


def _replicated(
    release: Release, target: str, copied: TargetResult, tags: Sequence[str], requests: Mapping[str, int]
) -> StageResult:
    counted = ", ".join(
        count_text(number, one)
        for number, one in (
            (copied.blobs_moved, "blob"),
            (copied.manifests_put, "manifest"),
            (copied.tags_moved, "tag"),
        )
    )
    return StageResult(
        stage=f"replicate:{target}",
        subject=release.key,
        action=f"copied {counted}" if copied.changed else "unchanged",
        digest=copied.root.digest,
        changed=copied.changed,
        bytes_moved=copied.bytes_moved,
        seconds=copied.seconds,
        facts={
            "release": release.key,
            "place": str(copied.place),
            "blobs": copied.blobs_moved,
            "resumed_bytes": copied.bytes_resumed,
            "mounted": copied.blobs_mounted,
            "manifests": copied.manifests_put,
            "tags": " ".join(tags),
            "receipt": copied.receipt is not None,
            **request_facts(requests),
        },
        tables={"left_out": omissions.rows(copied.left_out)},
        reasons=[str(each) for each in copied.drift],
        notes=list(filter(None, [copied.left_out_note])),
        ok=copied.ok,
    )


def _expiring(copied: TargetResult | RegistryPipelinesError) -> list[str]:
    if isinstance(copied, RegistryPipelinesError) or copied.error is not None or not copied.changed:
        return []
    from registry_pipelines.registry.expiring import expiry_notes  # most releases are there already

    return expiry_notes(copied.place, copied.root.digest)


def _by_way(done: StageResult, way: Way, arrived_s: float | None) -> StageResult:
    """The same with the way it came. What ECR brought is read back and completed as any copy."""
    facts = {**done.facts, "way": way.kind, **({} if arrived_s is None else {"awaited_s": round(arrived_s, 1)})}
    late = way.native and arrived_s is None
    notes = [*done.notes, *(["ECR did not bring it in time, so it was copied"] if late else [])]
    return replace(done, facts=facts, notes=notes)


def compare_replica(session: Session, release: Release, target: str) -> Comparison:
    """What differs between a release's source and a target, and what was not compared. Raises InputError for a target
    that the image does not go to."""
    place = _destination(session, release, target)
    source, tags = session.source(release), tags_at(session, release, target)
    foreign = session.config.targets[target].foreign_layers
    return replicas.examine(source, place, release.digest, tags=tags, foreign_layers=foreign)
