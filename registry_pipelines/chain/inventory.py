"""What registries hold, as a result and as a value: by the clouds' list APIs, or by what tags lead to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, StateTooNew, Unavailable
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.progress import age_text, count_text, size_text
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # pandas and the clouds are loaded where they are asked
    from registry_pipelines.config import Config
    from registry_pipelines.inventory.from_ecr import Manifests
    from registry_pipelines.inventory.reader import Reader
    from registry_pipelines.inventory.value import Inventory, Source

CLOUDS = ("ecr", "gar")
AGES_DAYS = (30, 90, 365)
"""Bounds of the ages that are counted, by the push, else by the image's own time."""


def read(
    session: Session,
    registries: Iterable[str] = (),
    *,
    repositories: Sequence[str] = (),
    manifests: Manifests = "indexes",
    set_aside: bool = False,
) -> Inventory:
    """The inventory of registries of the configuration, all unless named. repositories: patterns. manifests: of the
    clouds, which are read beside their lists (Artifact Registry: all or none). set_aside: with what retention set
    aside. What cannot be read stands in its ``sources``. Raises InputError, ToolMissing."""
    names = list(dict.fromkeys(registries)) or list(session.config.registries)
    for name in names:  # before anything heavy is loaded
        if name not in session.config.registries:
            said = unknown(name, session.config.registries, "registry")
            raise InputError(said, do="Name a registry of the configuration")
    need_tables()
    from registry_pipelines.inventory.reader import read_registry
    from registry_pipelines.inventory.value import join

    readers = {name: reader_of(session, name, manifests) for name in names}
    parts = [
        read_registry(name, reader, repositories=repositories, set_aside=set_aside, progress=session.progress)
        for name, reader in readers.items()
    ]
    return parts[0] if len(parts) == 1 else join(parts)


def reader_of(session: Session, name: str, manifests: Manifests) -> Reader:
    """How a registry of the configuration is read. manifests: as in :func:`read`."""
    from registry_pipelines.config.clouds import EcrRegistry, GarRegistry

    settings = session.config.registries[name]
    if isinstance(settings, EcrRegistry):
        from registry_pipelines.inventory.from_ecr import EcrReader
        from registry_pipelines.registry.ecr.images import EcrImages

        calls = session.places.aws(settings)
        return EcrReader(name, EcrImages(settings.account, calls.access, calls=calls), manifests=manifests)
    if isinstance(settings, GarRegistry):
        from registry_pipelines.inventory.from_gar import GarReader

        read_from = session.places.registry(name) if manifests == "all" else None
        google = session.places.google(settings)
        return GarReader(name, google, settings.project, settings.location, manifests=read_from)
    from registry_pipelines.inventory.from_survey import SurveyReader

    return SurveyReader(name, settings.kind, session.places.registry(name))


def result_of(inventory: Inventory, *, now: datetime, seconds: float = 0.0) -> StageResult:
    """An inventory for people and for Dagster: what each registry holds, and what could not be read. Not ``ok`` when
    that is anything."""
    rows = [_source_row(inventory, source, now) for source in inventory.sources]
    unread = [
        f"{source.registry}: {each.what}: {each.problem}" for source in inventory.sources for each in source.unread
    ]
    images, size = len(inventory.frame), int(inventory.frame["size_bytes"].sum())
    missing = f"; {count_text(len(unread), 'part')} could not be read" if unread else ""
    return StageResult(
        stage="inventory",
        subject=", ".join(source.registry for source in inventory.sources),
        action=f"{count_text(images, 'image')}, {size_text(size)}{missing}",
        seconds=seconds,
        facts={
            "images": images,
            "bytes": size,
            "unread": len(unread),
            "calls": sum(source.calls for source in inventory.sources),
            **ages(inventory, now),
        },
        rows=rows,
        reasons=unread,
        notes=[f"{source.registry}: {note}" for source in inventory.sources for note in source.notes],
        ok=not unread,
        exit_code=Unavailable.exit_code if unread else 0,
    )


def _source_row(inventory: Inventory, source: Source, now: datetime) -> dict[str, Scalar]:
    mine = inventory.frame[inventory.frame["registry"] == source.registry]
    return {
        "registry": source.registry,
        "kind": source.kind,
        "repositories": source.repositories,
        "images": len(mine),
        "untagged": int((mine["tags"].list.len() == 0).sum()) if len(mine) else 0,
        "size_bytes": int(mine["size_bytes"].sum()),
        "calls": source.calls,
        "answered": f"{age_text((now - source.answered).total_seconds())} ago",
        "whole": source.complete,
    }


def ages(inventory: Inventory, now: datetime) -> dict[str, Scalar]:
    """Images by age: ``younger than 30 days``, ..., and those of unknown age."""
    import pandas as pd

    frame = inventory.frame
    made = frame["pushed"].fillna(frame["created"])
    days = (pd.Timestamp(now) - made).dt.total_seconds() / 86_400
    found: dict[str, Scalar] = {}
    before = float("-inf")
    for bound in AGES_DAYS:
        found[f"images younger than {count_text(bound, 'day')}"] = int(((days >= before) & (days < bound)).sum())
        before = bound
    found["images older"] = int((days >= before).sum())
    found["images of unknown age"] = int(made.isna().sum())
    return found


def inventoried(config: Config) -> list[str]:
    """Registries whose inventory is taken every night: those in clouds, and those that retention rules are about."""
    ruled = {rule.registry for rule in config.rules}
    return [name for name, settings in config.registries.items() if settings.kind in CLOUDS or name in ruled]


FOLDER = "inventory"
"""Of the state: the last inventory of each registry, and its parts beside it."""


def kept_inventory(session: Session, registry: str) -> Path | None:
    """A file with the last inventory of a registry, its parts beside it; ``inventory.value.read`` reads it."""
    return session.documents.under(FOLDER).local(f"{registry}.parquet", f"{registry}.parts.parquet")


def keep(session: Session, registry: str) -> StageResult:
    """Read a registry and keep that in the state folder, for who compares later; what changed since the one before is
    in the result. Raises InputError, LocalError."""
    from registry_pipelines.chain.cost import with_costs
    from registry_pipelines.chain.inventory_uses import with_changes
    from registry_pipelines.inventory.parts import beside

    inventory, result = taken(session, [registry])
    documents = session.documents.under(FOLDER)
    path = kept_inventory(session, registry)
    if path and (before := _kept(path)) is not None:
        result = with_changes(result, before, inventory)
    result = with_costs(session, result, inventory)
    with documents.scratch() as folder:
        made = folder / f"{registry}.parquet"
        inventory.write(made)
        if beside(made).exists():
            documents.take(beside(made).name, beside(made))
        else:
            documents.delete(beside(made).name)  # of another inventory
        documents.take(made.name, made)
    return replace(result, facts={**result.facts, "file": f"{documents.where}/{registry}.parquet"})


def _kept(path: Path) -> Inventory | None:
    """The one before; None where there is none, or where nobody can read it any more: it is about to be replaced."""
    from registry_pipelines.inventory.value import read as read_file

    try:
        return read_file(path)
    except (InputError, StateTooNew):
        return None


def taken(
    session: Session, registries: Sequence[str], *, repositories: Sequence[str] = (), manifests: Manifests = "indexes"
) -> tuple[Inventory, StageResult]:
    """Read registries, and the result of that."""
    started = time.monotonic()
    inventory = read(session, registries, repositories=repositories, manifests=manifests)
    return inventory, result_of(inventory, now=session.now(), seconds=time.monotonic() - started)
