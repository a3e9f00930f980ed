"""What plans set aside: listed, brought back, and deleted for good once its time is over."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.still_needed import still_needed
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.quarantine import Quarantine, Shelf, restore
from registry_pipelines.collect.records import Found, Record, find_records
from registry_pipelines.collect.rules import GLOB_CHARACTERS
from registry_pipelines.errors import (
    ContentError,
    DigestInvalid,
    InputError,
    RegistryError,
    Unsupported,
)
from registry_pipelines.inventory.survey import SURVEY_THREADS
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.set_aside import is_quarantine, quarantine_of
from registry_pipelines.threads import Pool

Held = tuple[Place, Record]
"""The quarantine's repository, and a record that is believed."""


def quarantine_for(session: Session, plan: RetentionPlan) -> Quarantine | None:
    """Where a plan sets aside what it deletes; None where the configuration has no quarantine. Raises InputError
    without a key of the promoter: nobody would believe the record."""
    days = session.config.collect.quarantine
    if not days:
        return None
    signer = session.keys.signer("promoter")
    return Quarantine(plan.digest, days, signer, session.keys.trusted(), session.now())


def copies_of(session: Session, registry: str, plan: RetentionPlan) -> list[str]:
    """What a plan's quarantine costs, as far as it is known before: a sentence where content has to be sent, since the
    registry takes nothing over from another repository."""
    going = plan.freed_bytes
    if not session.config.collect.quarantine or not going:
        return []
    mounts = _mounts(session, registry, plan)
    if mounts:
        return []
    size = size_text(going)
    if mounts is None:
        return [
            f"whether blobs are mounted at {registry} is not known: if not, at least {size} are sent to set it aside"
        ]
    return [
        f"{registry} mounts no blobs: at least {size} are sent through this machine to set aside what goes, and stored "
        "twice until it is over"
    ]


def _mounts(session: Session, registry: str, plan: RetentionPlan) -> bool | None:
    """Whether a registry mounts; None where it does not say, and nobody tried yet. AWS is asked for its account's
    setting."""
    settings = session.config.registries[registry]
    if settings.kind == "ecr":
        from registry_pipelines.registry.ecr.images import EcrImages

        calls = session.places.aws(settings)
        try:
            return EcrImages(settings.account, calls.access, calls=calls).mounts()
        except RegistryError:
            return None
    if settings.kind in ("embedded", "layout", "gar"):
        return True
    opened = session.places.registry(registry)
    repository = next((repository for repository, _ in plan.deletions), "")
    return opened.capabilities(quarantine_of(Place(opened, repository)).repository).mount is not False


@contextmanager
def alone(session: Session, registry: str) -> Iterator[None]:
    """One process at a time, of all that share the state, changes what a registry set aside, under whatever names the
    configuration has it. Raises StateLocked, InputError (no such registry)."""
    host = Digest.of(session.places.registry(registry).name.encode()).hex[:16]
    with session.documents.held(f"collect/{host}.lock", f"another process collects {registry}"):
        yield


def records_of(session: Session, registry: str) -> list[Found]:
    """Every record of a registry, the oldest first; those that are not to be believed have a problem. Raises
    InputError, RegistryError."""
    opened, verifier = session.places.registry(registry), session.keys.trusted()
    with Pool(SURVEY_THREADS, "records") as pool:
        places = _quarantines(session, registry, opened)
        found = [each for place in places for each in find_records(place, verifier, pool)]
    return sorted(found, key=lambda each: (each.record.at if each.record else "", each.place.repository, each.tag))


def _quarantines(session: Session, registry: str, opened: Registry) -> list[Place]:
    """Those the registry lists; without a list those of the repositories that rules name in full."""
    try:
        return [Place(opened, name) for name in sorted(opened.repositories()) if is_quarantine(name)]
    except Unsupported:
        rules = [rule for rule in session.config.rules if rule.registry == registry]
        patterns = {pattern for rule in rules for pattern in rule.repositories}
        named = sorted(each for each in patterns if not GLOB_CHARACTERS.intersection(each))
        return [quarantine_of(Place(opened, name)) for name in named]


def quarantined(session: Session, registry: str) -> StageResult:
    """What is set aside in a registry, until when. Not ``ok`` where a record is not to be believed."""
    started = time.monotonic()
    found = records_of(session, registry)
    records = [each.record for each in found if each.record]
    now = session.now()
    over = sum(record.is_over(now) for record in records)
    return StageResult(
        stage=f"quarantined:{registry}",
        subject=registry,
        action=f"{count_text(len(records), 'image')} set aside" if records else "nothing is set aside",
        seconds=time.monotonic() - started,
        facts={"registry": registry, "images": len(records), "over": over, "bytes": _bytes(records)},
        rows=[{**_row(record), "until": record.until, "at": record.at, "plan": record.plan} for record in records],
        reasons=_problems(found),
        ok=len(records) == len(found),
    )


def _row(record: Record) -> dict[str, str | int]:
    own = sorted(tag for tag, digest in record.tags.items() if digest == record.digest)
    return {
        "repository": record.repository,
        "tags": ", ".join(own),
        "digest": record.digest,
        "manifests": len(record.deleted),
        "freed_bytes": record.freed_bytes,
    }


def _bytes(records: Collection[Record]) -> int:
    return sum(record.freed_bytes for record in records)


def _problems(found: Sequence[Found]) -> list[str]:
    return [f"{each.place}:{each.tag}: {each.problem}" for each in found if each.record is None]


def undo(session: Session, registry: str, references: Sequence[str], *, plan: str = "") -> StageResult:
    """Bring back what was set aside: images by ``repository:tag`` or ``repository@digest``, or all of a plan.

    Byte for byte, tags last; a tag that names something else by now stays, and is said. Of an image that was set aside
    several times under a tag the one that went last comes back. Raises InputError for what is not set aside,
    RegistryError.
    """
    started = time.monotonic()
    with alone(session, registry):
        found = records_of(session, registry)
        wanted = _wanted(found, references, plan)
        shelves = _shelves(found, {aside for aside, _ in wanted})
        results = [_undo_one(record, shelves[aside]) for aside, record in wanted]
    back = [record for record, problems in results if not problems]
    return StageResult(
        stage=f"undo:{registry}",
        subject=registry,
        action=f"{count_text(len(results), 'image')} brought back",
        changed=True,
        seconds=time.monotonic() - started,
        facts={"registry": registry, "images": len(results), "whole": len(back), "bytes": _bytes(back)},
        rows=[_row(record) for record, _ in results],
        reasons=[f"{record.repository}: {problem}" for record, problems in results for problem in problems],
        notes=[
            "the next plan judges it by the same rules, and may let it go again: `protect` in a rule keeps its tags"
        ],
        ok=len(back) == len(results),
    )


def _wanted(found: Sequence[Found], references: Sequence[str], plan: str) -> list[Held]:
    if bool(references) == bool(plan):
        raise InputError("name images, or a plan", do="Write REPOSITORY:TAG, REPOSITORY@DIGEST, or --plan DIGEST")
    believed = _believed(found)
    if plan:
        digest = Digest.parse(plan)
        of_plan = [each for each in believed if each[1].plan == digest]
        if not of_plan:
            raise InputError(f"nothing that {digest} deleted is set aside", do="`collect quarantined` lists what is")
        return of_plan
    wanted: dict[str, Held] = {}
    for reference in references:
        of_it = [each for each in believed if _is_named(each[1], reference)]
        if not of_it:
            problems = "; ".join(_problems(found))
            raise InputError(
                f"{reference} is not set aside" + (f" ({problems})" if problems else ""),
                do="`collect quarantined` lists what is",
            )
        wanted.setdefault(of_it[-1][1].tag, of_it[-1])
    return list(wanted.values())


def _is_named(record: Record, reference: str) -> bool:
    repository, at, digest = reference.partition("@")
    if at:
        try:
            return repository == record.repository and Digest.parse(digest) in (record.digest, *record.deleted)
        except DigestInvalid:
            return False
    repository, _, tag = reference.rpartition(":")
    return repository == record.repository and tag in record.tags


def _undo_one(record: Record, shelf: Shelf | ContentError) -> tuple[Record, list[str]]:
    """The record, and what was not as it should be. What did not come back whole stays set aside."""
    try:
        if isinstance(shelf, ContentError):
            raise shelf
        with Pool(SURVEY_THREADS, "undo") as pool:
            restored = restore(record, shelf.aside, pool)
        if not restored.problems:
            shelf.release(record)
    except (RegistryError, ContentError) as error:
        return record, [str(error)]
    return record, restored.problems


def _believed(found: Sequence[Found]) -> list[Held]:
    return [(each.place, each.record) for each in found if each.record]


def _shelves(found: Sequence[Found], places: Collection[Place]) -> dict[Place, Shelf | ContentError]:
    """The quarantines at some places; why nothing is touched in one with a record that cannot be believed: what that
    keeps is not known."""
    shelves: dict[Place, Shelf | ContentError] = {}
    for place in places:
        here = [each for each in found if each.place == place]
        unread = next((each for each in here if each.record is None), None)
        shelves[place] = Shelf(place, [each.record for each in here if each.record])
        if unread:
            shelves[place] = ContentError(
                f"the record {unread.tag} cannot be believed, so nothing beside it is touched: {unread.problem}",
                where=str(place),
                do=f"Look at it; then delete its tag {unread.tag}",
            )
    return shelves


def purge(session: Session, registry: str, *, dry_run: bool = False) -> StageResult:
    """Delete for good what was set aside and whose time is over, by its own signed record. Before that an index that
    was pushed too late to be seen gets back what it lacks (``heal``), and what somebody needs by now stays
    (``still_needed``). Raises InputError, RegistryError (the lists)."""
    started = time.monotonic()
    with alone(session, registry):
        found, now = records_of(session, registry), session.now()
        back, unclear = _heal(_believed(found)) if not dry_run else ([], {})
        over = [each for each in _believed(found) if each[1].is_over(now) and each[0] not in unclear]
        needed = still_needed(session, registry, over)
        going = [each for each in over if each[1].tag not in needed]
        records, problems = _purge_each(going, found) if not dry_run else ([record for _, record in going], [])
        problems += [f"{each.repository}@{each.digest}: {needed[each.tag]}" for _, each in over if each.tag in needed]
    said = "could be deleted for good" if dry_run else "deleted for good"
    return StageResult(
        stage=f"purge:{registry}",
        subject=registry,
        action=f"{count_text(len(records), 'image')} {said}" if records else "unchanged",
        changed=bool(records or back) and not dry_run,
        seconds=time.monotonic() - started,
        facts={
            "registry": registry,
            "images": len(records),
            "healed": len(back),
            "left": len(found) - len(records),
            "freed_bytes": _bytes(records),
        },
        rows=[_row(record) for record in records],
        reasons=[*problems, *unclear.values(), *_problems(found)],
        notes=[
            *back,
            *(["blobs are freed by the registry's own collection; `collect garbage` says how"] if records else []),
        ],
        ok=not problems and not unclear and all(each.record for each in found),
    )


def _heal(believed: Sequence[Held]) -> tuple[list[str], dict[Place, str]]:
    """What was brought back to which image, in sentences; and the quarantines beside which it is not known what is
    needed, each with why: nothing is deleted there."""
    from registry_pipelines.collect.heal import bring_needed

    beside: dict[Place, list[Record]] = {}
    for aside, record in believed:
        beside.setdefault(aside, []).append(record)
    back: list[str] = []
    unclear: dict[Place, str] = {}
    with Pool(SURVEY_THREADS, "heal") as pool:
        for aside, records in beside.items():
            place = Place(aside.registry, records[0].repository)
            try:
                needed = bring_needed(place, aside, records, pool)
            except (RegistryError, ContentError) as error:
                unclear[aside] = f"{place.repository}: {error}; nothing of it is deleted for good"
            else:
                back += [f"{place.repository}@{digest}: an index needs it, and has it again" for digest in needed]
    return back, unclear


def _purge_each(over: Sequence[Held], found: Sequence[Found]) -> tuple[list[Record], list[str]]:
    purged: list[Record] = []
    problems: list[str] = []
    for place, shelf in _shelves(found, {aside for aside, _ in over}).items():
        blobs: set[Digest] = set()
        for record in (record for aside, record in over if aside == place):
            try:
                if isinstance(shelf, ContentError):
                    raise shelf
                blobs |= shelf.release(record)
            except (RegistryError, ContentError) as error:
                problems.append(f"{record.repository}@{record.digest}: {error}")
            else:
                purged.append(record)
        if blobs and isinstance(shelf, Shelf):
            with suppress(RegistryError):  # what is left is nobody's loss but of room
                shelf.free(blobs)
    return purged, problems


__all__ = ["alone", "purge", "quarantine_for", "quarantined", "records_of", "undo"]
