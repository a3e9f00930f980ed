"""Bring a moment of a backup back."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from registry_pipelines.chain.moments import Opened, open_moment, tags_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, NotFound, RegistryPipelinesError
from registry_pipelines.progress import count_text
from registry_pipelines.recover.moment import KeptImage, KeptRepository, Moment
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import Engine

_MOST_NAMED = 5


@dataclass(frozen=True)
class Wanted:
    """What is to come back. at: see ``moment.chosen_tag``. registries, repositories: names and patterns; all unless
    told. to: a registry of the configuration in place of the ones that the images were in. prefix: put in front of the
    repositories there. over: tags that name something else there move."""

    at: str = ""
    registries: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    to: str = ""
    prefix: str = ""
    over: bool = False


def restore(session: Session, name: str, wanted: Wanted, *, dry_run: bool = False) -> StageResult:
    """Bring images of a moment back, with all that belonged to them, under the tags that they had.

    Run again it does the rest. Raises InputError where a tag names something else there (unless ``over``), or where two
    repositories would become one; what :func:`open_moment` does. What fails of single images is in the result.
    """
    began = time.monotonic()
    opened = open_moment(session, name, wanted.at)
    vault = session.places.registry(opened.settings.to)
    goals = [(kept, _goal(session, kept, wanted)) for kept in _chosen(opened, wanted)]
    _refuse_merging(goals)
    if not wanted.over:
        _refuse_other_content(goals)
    pairs = [(kept, goal, image) for kept, goal in goals for image in kept.images]
    results = [] if dry_run else copy_moment(session.engine(), opened.moment, vault, pairs, over=wanted.over)
    failed = [str(each) for each in results if isinstance(each, str)]
    done = [each for each in results if isinstance(each, TargetResult)]
    changed = sum(each.changed for each in done)
    size = sum(image.size for _, _, image in pairs)
    return StageResult(
        stage="restore",
        subject=f"{opened.settings.name}@{opened.tag}",
        action=f"{count_text(len(pairs), 'image')} would come back"
        if dry_run
        else f"{len(done)} of {count_text(len(pairs), 'image')} there, {changed} of them brought now",
        digest=opened.descriptor,
        changed=bool(changed),
        bytes_moved=sum(each.bytes_moved for each in done),
        seconds=time.monotonic() - began,
        facts={"moment": opened.tag, "images": len(pairs), "image_bytes": size, "failed": len(failed)},
        rows=[_goal_row(kept, goal) for kept, goal in goals],
        reasons=failed[:_MOST_NAMED],
        notes=[f"the moment is not whole: {each}" for each in opened.moment.failed[:_MOST_NAMED]],
        ok=not failed,
    )


Pair = tuple[KeptRepository, Place, KeptImage]


def copy_moment(
    engine: Engine, moment: Moment, vault: Registry, pairs: Sequence[Pair], *, over: bool = False
) -> list[TargetResult | str]:
    """Copy images of a moment to their places; of each what became of it, or why it is not whole there."""
    items = [
        Item(
            moment.place(vault, kept),
            image.digest,
            goal,
            image.tags,
            move_tags=over,
            foreign_layers=True,
        )
        for kept, goal, image in pairs
    ]
    answers = copy_items(items, engine=engine)
    return [_checked(pair, answer) for pair, answer in zip(pairs, answers, strict=True)]


def _checked(pair: Pair, answer: TargetResult | RegistryPipelinesError) -> TargetResult | str:
    """What the backup lost since counts as a failure, though all that is there came back."""
    kept, goal, image = pair
    named = f"{kept.registry}/{kept.repository}@{image.digest.short} ({', '.join(image.tags[:3])})"
    if isinstance(answer, RegistryPipelinesError):
        return f"{named}: {answer}"
    if not answer.ok:
        drift = ", ".join(str(each) for each in answer.drift[:3])
        return f"{named} is not complete at {goal}: {answer.error or drift}"
    lost = set(image.manifests) - {each.digest for each in answer.delivery.job.closure.manifests}
    if lost:
        return f"{named}: the backup lacks {count_text(len(lost), 'manifest')} that belonged to it: {min(lost)}"
    return answer


def _chosen(opened: Opened, wanted: Wanted) -> list[KeptRepository]:
    moment = opened.moment
    for registry in wanted.registries:
        if registry not in {each.registry for each in moment.repositories}:
            raise InputError(f"the moment has nothing of {registry}", do="See `recover list`")
    there = [each for each in moment.repositories if not wanted.registries or each.registry in wanted.registries]
    for pattern in wanted.repositories:
        if not any(fnmatch.fnmatchcase(each.repository, pattern) for each in there):
            raise InputError(
                f"the moment {opened.tag} has no such repository: {pattern}", do="Name one that it has, or a pattern"
            )
    if not there:
        raise InputError(f"the moment {opened.tag} has no repository", do="See `recover list`")
    names = wanted.repositories or ("*",)
    return [each for each in there if any(fnmatch.fnmatchcase(each.repository, one) for one in names)]


def _goal(session: Session, kept: KeptRepository, wanted: Wanted) -> Place:
    name = wanted.to or kept.registry
    if name not in session.config.registries:
        raise InputError(
            unknown(name, session.config.registries, "registry"), do="Name a registry of the configuration with --to"
        )
    return Place(session.places.registry(name), "/".join(filter(None, (wanted.prefix.strip("/"), kept.repository))))


def _refuse_merging(goals: Sequence[tuple[KeptRepository, Place]]) -> None:
    seen: dict[tuple[str, str], KeptRepository] = {}
    for kept, goal in goals:
        other = seen.setdefault((goal.registry.name, goal.repository), kept)
        if other is not kept:
            raise InputError(
                f"{other.registry}/{other.repository} and {kept.registry}/{kept.repository} would both be {goal}",
                do="Restore one registry at a time (--registry), each with a --prefix",
            )


def _refuse_other_content(goals: Sequence[tuple[KeptRepository, Place]]) -> None:
    """Before a byte moves."""
    found: list[str] = []
    for kept, goal in goals:
        tags = set(tags_of(goal))
        for image in kept.images:
            for tag in tags.intersection(image.tags):
                with suppress(NotFound):
                    there = goal.registry.resolve(goal.repository, tag).digest
                    if there != image.digest:
                        found.append(f"{goal}:{tag} is {there.short}, in the moment {image.digest.short}")
    if found:
        raise InputError(
            f"the place is not empty: {'; '.join(found[:_MOST_NAMED])}" + (" …" if len(found) > _MOST_NAMED else ""),
            do="Restore to another registry or with --prefix, or move these tags with --over",
        )


def _goal_row(kept: KeptRepository, goal: Place) -> dict[str, Scalar]:
    return {
        "registry": kept.registry,
        "repository": kept.repository,
        "to": str(goal),
        "images": len(kept.images),
        "tags": sum(len(image.tags) for image in kept.images),
        "bytes": sum(image.size for image in kept.images),
    }


__all__ = ["Wanted", "copy_moment", "restore"]
