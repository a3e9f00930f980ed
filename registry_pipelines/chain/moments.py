"""The moments of a backup: where they are, which one is meant, and whether it is believed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from registry_pipelines.chain.places import address
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config.registries import LayoutRegistry, RegistryPlace, StoreRegistry
from registry_pipelines.errors import ContentError, EvidenceError, InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.recover.model import Backup
from registry_pipelines.recover.moment import KIND, Moment, chosen_tag, moment_tags, moments_name, read_tag, wrong_clock
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.file_sets import OpenedSet, fetch_set, open_set, vouched

_MOST_NAMED = 5


def settings_of(session: Session, name: str) -> Backup:
    """A backup by name; the only one where none is named. Raises InputError with the closest name."""
    known = session.config.backups
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        what = unknown(name, known, "backup") if known else "the configuration has no `backups`"
        raise InputError(what, do="Name a backup of the configuration" if known else "Add one (docs/recovery.md)")
    return known[name]


def moments(session: Session, name: str) -> StageResult:
    """The moments of a backup, the newest first; not ``ok`` where the newest whole one that a believed key signed is
    older than its objective, or none is there."""
    began, settings = time.monotonic(), settings_of(session, name)
    tags = moment_tags(tags_of(moments_place(session, settings)))
    whole, against = newest_whole(session, settings, tags)
    age = _age_s(session, whole) if whole else None
    limit = settings.objectives.rpo
    late = age is None or age > limit.total_seconds()
    said = "no moment is whole" if tags else "there is no backup yet"
    if age is not None:
        said = f"the newest {'whole ' if against else ''}moment is {age_text(age)} old"
    odd = wrong_clock(tags[0], session.now()) if tags else ""
    return StageResult(
        stage="moments",
        subject=settings.name,
        action=odd or said,
        seconds=time.monotonic() - began,
        facts={
            "moments": len(tags),
            "rpo_s": limit.total_seconds(),
            **({"age_s": round(age)} if age is not None else {}),
        },
        rows=[{"moment": tag, "age_hours": round(_age_s(session, tag) / 3600, 1)} for tag in tags],
        reasons=[odd] if odd else [f"{said}, and the objective is {limit}"] if late else [],
        notes=against[:_MOST_NAMED],
        ok=not late and not odd,
    )


def newest_whole(session: Session, settings: Backup, tags: Sequence[str]) -> tuple[str, list[str]]:
    """The newest moment that has all that was chosen and that a believed key signed, empty for none; and why those that
    came after it are not such. tags: of moments, the newest first. Raises the RegistryError family where the place does
    not answer."""
    against = []
    for tag in tags:
        try:
            moment = open_tag(session, settings, tag).moment
        except (ContentError, EvidenceError, InputError, NotFound) as error:
            against.append(f"{tag}: {error}")
            continue
        if moment.is_whole:
            return tag, against
        against.append(f"{tag} is not whole: {moment.failed[0]}")
    return "", against


def _age_s(session: Session, tag: str) -> float:
    return max(0.0, (session.now() - read_tag(tag)).total_seconds())


def show(session: Session, name: str, *, at: str = "", files: Path | None = None) -> StageResult:
    """One moment: its repositories, what failed and what was left out; ``files`` takes the configuration and the
    settings of cloud registries as they were, each whole or not at all. Raises what :func:`open_moment` does,
    LocalError."""
    began = time.monotonic()
    opened = open_moment(session, name, at)
    moment = opened.moment
    brought = fetch_set(opened.stored, files, session.progress) if files is not None else 0
    repositories = count_text(len(moment.repositories), "repository", "repositories")
    return StageResult(
        stage="moment",
        subject=f"{opened.settings.name}@{opened.tag}",
        action=f"{count_text(moment.tags, 'tag')} in {repositories}" + ("" if moment.is_whole else "; not whole"),
        digest=opened.descriptor,
        bytes_moved=brought,
        seconds=time.monotonic() - began,
        facts={"moment": opened.tag, "ended": moment.ended, "version": moment.version, "whole": moment.is_whole},
        rows=[
            {
                "registry": each.registry,
                "repository": each.repository,
                "images": len(each.images),
                "tags": sum(len(image.tags) for image in each.images),
                "bytes": sum(image.size for image in each.images),
            }
            for each in moment.repositories
        ],
        reasons=list(moment.failed),
        notes=[*moment.left_out, *(f"file: {files / each if files else each}" for each in sorted(opened.stored.files))],
        ok=moment.is_whole,
    )


@dataclass(frozen=True)
class Opened:
    """A moment that a believed key signed. tag: of it."""

    settings: Backup
    tag: str
    moment: Moment
    stored: OpenedSet

    @property
    def descriptor(self) -> Digest:
        """Of the artifact."""
        return self.stored.descriptor.digest

    @property
    def made_at(self) -> datetime:
        """When its run began."""
        return read_tag(self.tag)


def open_moment(session: Session, name: str, at: str = "") -> Opened:
    """Read the document of a moment, once a believed promoter's key vouches for it. Raises InputError, EvidenceMissing,
    ManifestInvalid, the RegistryError family."""
    settings = settings_of(session, name)
    return open_tag(session, settings, chosen_tag(tags_of(moments_place(session, settings)), at))


def open_tag(session: Session, settings: Backup, tag: str) -> Opened:
    """The same of one tag, also of a moment that is being let go."""
    found = open_set(moments_place(session, settings), tag, KIND)
    vouched(found, KIND, session.verifier())
    moment = Moment.decode(found.document, where=str(found))
    if moment.backup != settings.name:
        raise InputError(f"this is a moment of the backup {moment.backup}", where=str(found))
    return Opened(settings, tag, moment, found)


def lock(session: Session, registry: str) -> AbstractContextManager[object]:
    """Held by who writes to the place of a backup or lets go of what is there, under whatever name: a backup takes
    content for kept that another process is about to delete. Raises StateLocked."""
    name = min(each for each in session.config.registries if is_same_place(session, each, registry))
    what = f"another process keeps or lets go of what is at {registry}"
    return session.documents.held(f"recover/{name}.lock", what)


def is_same_place(session: Session, one: str, other: str) -> bool:
    """Whether two registries of the configuration are one, by their addresses; nothing is asked."""
    first, second = (_address(session.config.registries[each]) for each in (one, other))
    return one == other or (bool(first) and first == second)


def _address(settings: RegistryPlace) -> str:
    if isinstance(settings, StoreRegistry):
        return settings.address.rstrip("/")
    return str(settings.root) if isinstance(settings, LayoutRegistry) else address(settings)


def moments_place(session: Session, settings: Backup) -> Place:
    """Where the moments of a backup are."""
    return Place(session.places.registry(settings.to), moments_name(settings.prefix, settings.name))


def tags_of(place: Place) -> list[str]:
    """All tags of a repository; none where there is no such repository."""
    try:
        return list(place.registry.tags(place.repository))
    except NotFound:
        return []


__all__ = [
    "Opened",
    "is_same_place",
    "lock",
    "moments",
    "moments_place",
    "open_moment",
    "open_tag",
    "settings_of",
    "show",
    "tags_of",
]
