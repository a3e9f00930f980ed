"""Apply an approved retention plan: what is planned and nothing else, and only where nothing changed since."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from registry_pipelines.collect.live import Live
from registry_pipelines.collect.plan import Entry, RepositoryPlan, RetentionPlan
from registry_pipelines.errors import ContentError, InputError, ManifestInvalid, NotFound, RegistryError, Unsupported
from registry_pipelines.inventory.survey import SURVEY_THREADS, read_tags
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.threads import Pool

MAX_PLAN_AGE = timedelta(hours=24)
"""An older plan is refused: what runs, and which signatures exist, is known by the plan's time only."""


@dataclass(frozen=True)
class Deleted:
    """A manifest that is gone. already: it was gone before, by an earlier run of the same plan."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]
    already: bool = False


@dataclass
class Applied:
    """What was done. refused: ``repository[@digest]: reason``, each left as it was from there on. freed_bytes: of the
    entries that are wholly gone; the registry frees them when it collects garbage."""

    deleted: list[Deleted] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    freed_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether the whole plan is done."""
        return not self.refused


def apply_plan(
    registry: Registry,
    plan: RetentionPlan,
    *,
    in_use: Live | Collection[Digest | str] = (),
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Applied:
    """Delete what the plan says, through the Registry protocol.

    A repository whose tag list is not the plan's (less what an earlier, broken run of the same plan deleted) is left
    alone; so is an entry with a new referrer, one that is live by now, and a repository of which that is not known.
    Running it again finishes the rest.
    Raises InputError for a plan of another registry or older than a day.
    """
    moment = now or datetime.now(UTC)
    made = read_time(plan.made_at)
    if plan.registry != registry.name:
        raise InputError(f"the plan is for {plan.registry}", where=registry.name, do="Make a plan for this registry")
    if made is None or not timedelta(minutes=-5) <= moment - made <= MAX_PLAN_AGE:
        raise InputError(f"the plan was made at {plan.made_at}; plans are applied within a day", do="Make a new plan")
    used = Live.of(in_use)
    done = Applied(refused=list(plan.stopped))
    for planned in plan.repositories:
        if planned.refused:
            done.refused.append(f"{planned.repository}: {planned.refused}")
        elif any(not entry.reasons for entry in planned.entries):
            _apply_repository(Place(registry, planned.repository), planned, used, done, progress or Silent())
    return done


def _apply_repository(place: Place, planned: RepositoryPlan, in_use: Live, done: Applied, progress: Progress) -> None:
    try:
        if stop := in_use.stopped(planned.repository):
            raise ContentError(stop, where=str(place))
        in_use = in_use.seen(planned.repository, planned.tags)
        _check_unchanged(place, planned)
    except (RegistryError, ContentError) as error:
        done.refused.append(f"{planned.repository}: {error}")
        return
    progress.begin(planned.repository)
    for entry in planned.entries:
        if entry.reasons:
            continue
        try:
            _check_entry(place, planned, entry, in_use)
            _delete_entry(place, planned, entry, done)
        except Unsupported as error:
            done.refused.append(f"{planned.repository}: {error}")
            break
        except (RegistryError, ContentError) as error:
            done.refused.append(f"{planned.repository}@{entry.digest}: {error}")
        else:
            done.freed_bytes += entry.freed_bytes
            progress.advance(planned.repository, entry.freed_bytes)
    progress.end(planned.repository)


def _check_unchanged(place: Place, planned: RepositoryPlan) -> None:
    """The tag list must be the plan's, less tags that the plan itself deletes."""
    with Pool(SURVEY_THREADS, "collect") as pool:
        try:
            tags = read_tags(place, pool)
        except NotFound:
            tags = {}
    for tag in planned.tags.keys() - tags.keys():  # not every registry lists all it has
        with suppress(NotFound):
            tags[tag] = place.registry.resolve(place.repository, tag).digest
    going = {digest for entry in planned.entries for digest in entry.delete}
    for tag in sorted(planned.tags.keys() | tags.keys()):
        before, after = planned.tags.get(tag), tags.get(tag)
        if before == after or (after is None and before in going):
            continue
        change = "is new" if before is None else "is gone" if after is None else "moved"
        raise ContentError(f"tag {tag} {change} since the plan was made", where=str(place), do="Make a new plan")


def _check_entry(place: Place, planned: RepositoryPlan, entry: Entry, in_use: Live) -> None:
    """Just before deleting: nothing of it is in use, no tag moved, and no signature arrived that nobody planned for."""
    going = {digest for planned_entry in planned.entries for digest in planned_entry.delete}
    if why := next(filter(None, (in_use.why(place.repository, digest) for digest in entry.delete)), ""):
        raise ContentError(f"it is live now: {why}", where=f"{place}@{entry.digest}", do="Make a new plan")
    for tag in entry.tags:
        try:
            if place.registry.resolve(place.repository, tag).digest != entry.digest:
                raise ContentError(f"tag {tag} moved", where=str(place), do="Make a new plan")
        except NotFound:
            continue
    for digest in entry.delete:
        for referrer in place.registry.referrers(place.repository, digest):
            if referrer.digest not in going and _refers(place, referrer.digest, digest):
                raise ContentError(
                    f"{referrer.digest} refers to {digest} and is not in the plan",
                    where=str(place),
                    do="Make a new plan",
                )


def _refers(place: Place, referrer: Digest, subject: Digest) -> bool:
    """Whether what is listed is there, and refers to the manifest by its own word."""
    try:
        stated = place.registry.get_manifest(place.repository, referrer).content().subject
    except (NotFound, ManifestInvalid):
        return False
    return stated is not None and stated.digest == subject


def _delete_entry(place: Place, planned: RepositoryPlan, entry: Entry, done: Applied) -> None:
    for digest in entry.delete:
        tags = tuple(sorted(tag for tag, named in planned.tags.items() if named == digest))
        try:
            place.registry.delete_manifest(place.repository, digest)
        except NotFound:
            done.deleted.append(Deleted(place.repository, digest, tags, already=True))
        else:
            done.deleted.append(Deleted(place.repository, digest, tags))
