"""Cost: what registries hold, read by buckets of their repositories, and what all of it costs once it is together."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.buckets import Bucket, bucket_of_repository
from registry_pipelines.chain.cost import cost_of, folder_of, manifests_of, result_of
from registry_pipelines.chain.inventory import read, reader_of
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.sweeps import Part, every_found
from registry_pipelines.errors import InputError, RegistryPipelinesError

if TYPE_CHECKING:
    from registry_pipelines.inventory.value import Inventory


class CostLook:
    """Looks at buckets of repositories; what registries list is asked once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._listed: dict[str, dict[str, list[str]]] | None = None
        self._silent: dict[str, str] = {}

    def __call__(self, name: str, bucket: Bucket, now: datetime) -> Part:
        """One bucket: its repositories in every registry, as an inventory with what manifests need."""
        listed = self._repositories()
        files: dict[str, bytes] = {}
        unread = list(self._silent.values())
        images = repositories = 0
        for registry in (each for each, names in listed.items() if name in names):
            wanted = listed[registry][name]
            manifests = manifests_of(self._session.config, registry, "")
            held = read(self._session, [registry], repositories=wanted, manifests=manifests, set_aside=True)
            files |= _files(registry, held)
            unread += [f"{registry}: {each.what}: {each.problem}" for source in held.sources for each in source.unread]
            images, repositories = images + len(held.frame), repositories + len(wanted)
        return Part(files=files, rows=images, counts={"repositories": repositories}, unread=unread)

    def _repositories(self) -> dict[str, dict[str, list[str]]]:
        """By registry and bucket."""
        if self._listed is None:
            self._listed = {}
            for registry in self._session.config.registries:
                found: dict[str, list[str]] = defaultdict(list)
                try:
                    for repository in reader_of(self._session, registry, "indexes").repositories():
                        found[bucket_of_repository(registry, repository)].append(repository)
                except RegistryPipelinesError as error:
                    self._silent[registry] = f"{registry}: its repositories cannot be listed: {error}"
                self._listed[registry] = dict(found)
        return self._listed


def _files(registry: str, inventory: Inventory) -> dict[str, bytes]:
    from registry_pipelines.inventory.parts import beside

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{registry}.parquet")
        inventory.write(path)
        return {each.name: each.read_bytes() for each in (path, beside(path)) if each.exists()}


def inventories(session: Session) -> tuple[list[Inventory], list[str]]:
    """What all buckets hold, an inventory for each registry; and which buckets say nothing."""
    from registry_pipelines.inventory.value import join, read_whole

    found: dict[str, list[Inventory]] = defaultdict(list)
    silent: list[str] = []
    for name, one in every_found(session, "cost"):
        if one is None or isinstance(one, RegistryPipelinesError):
            silent.append(f"bucket {name} was never swept" if one is None else f"bucket {name}: {one}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                for file, content in one.files.items():
                    Path(folder, file).write_bytes(content)
                for registry in (each for each in session.config.registries if f"{each}.parquet" in one.files):
                    found[registry].append(read_whole(Path(folder, f"{registry}.parquet")))
            except RegistryPipelinesError as error:
                silent.append(f"bucket {name}: {error}")
    return [join(found[name]) for name in session.config.registries if name in found], silent


def folded_cost(session: Session, *, by: str = "", parquet: Path | None = None) -> StageResult:
    """What registries cost by what the last sweep of each bucket found; kept for the trend where no bucket is missing.
    parquet: a file for the inventory of all.
    Raises InputError where nothing was swept, ToolMissing, LocalError."""
    from registry_pipelines.inventory.value import join
    from registry_pipelines.report.history import write_run

    parts, silent = inventories(session)
    if not parts:
        raise InputError("no bucket was swept", do="Run `registry-pipelines sweep run cost`")
    if parquet is not None:
        join(parts).write(parquet)
    report = cost_of(session, parts)
    if silent:
        report = msgspec.structs.replace(report, whole=False)
    else:
        write_run(folder_of(session), report)
    result = result_of(session.config, report, by or ("team" if session.config.report.teams else "repository"), parts)
    return replace(result, reasons=_once([*result.reasons, *silent]), ok=result.ok and not silent)


def _once(sentences: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(sentences))
