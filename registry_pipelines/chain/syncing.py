"""Syncs: many repositories of a registry to their targets, in one plan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Sync
from registry_pipelines.config.decode import unknown
from registry_pipelines.errors import InputError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.transfer.plan import Delivery
from registry_pipelines.transfer.results import TargetResult
from registry_pipelines.transfer.selectors import Selector
from registry_pipelines.transfer.sync import Failure, Source, SyncResult, Target
from registry_pipelines.transfer.sync import sync as sync_fleet

_WILDCARDS = frozenset("*?[")

Row = dict[str, Scalar]


def sync_of(session: Session, name: str) -> Sync:
    """A sync by name. Raises InputError with the closest name."""
    found = session.config.syncs.get(name)
    if found is None:
        raise InputError(unknown(name, session.config.syncs, "sync"), do="Name a sync of the configuration")
    return found


def run(session: Session, name: str, *, dry_run: bool = False) -> SyncResult:
    """Plan a sync and, unless ``dry_run``, apply that plan; targets are read back and get receipts.

    Raises InputError, LocalError; what a registry refuses or does not answer is in the result.
    """
    return sync_fleet(
        [source_of(session, sync_of(session, name))],
        state=session.transfer_state,
        progress=session.progress,
        signer=session.receipt_signer(),
        dry_run=dry_run,
    )


def sync(session: Session, name: str, *, dry_run: bool = False) -> StageResult:
    """Bring a sync's repositories to its targets. rows: one per target, then one per closure that failed or drifted;
    with ``dry_run`` the plan's rows."""
    started = time.monotonic()
    found = run(session, name, dry_run=dry_run)
    seconds = time.monotonic() - started
    rows = found.plan.rows() if dry_run else _rows(session, sync_of(session, name), found)
    reasons = [_failure_text(each) for each in found.failures]
    reasons += [f"{each.place}: {text}" for each in found.results for text in _problems(each)]
    return StageResult(
        stage=f"sync:{name}",
        subject=name,
        action=_action(found, dry_run=dry_run),
        changed=found.changed,
        bytes_moved=found.bytes_moved,
        seconds=seconds,
        facts=_planned_facts(found) if dry_run else _facts(found, seconds),
        rows=[*rows, *([] if dry_run else _failed(found.failures))],
        reasons=reasons,
        ok=found.ok,
    )


def source_of(session: Session, sync: Sync) -> Source:
    """A sync of the configuration with open registries."""
    names = sync.repositories
    literal = bool(names) and not sync.repositories_regex and not any(_WILDCARDS.intersection(each) for each in names)
    return Source(
        session.places.registry(sync.source),
        tuple(_target(session, name) for name in sync.targets),
        repositories=names if literal else (),
        choose_repositories=Selector(
            glob=names, regex=sync.repositories_regex, exclude=(*sync.exclude_repositories, *_never(session, sync))
        ),
        choose_tags=Selector(
            glob=sync.tags, exclude=sync.exclude_tags, semver=sync.semver or "", newest=sync.newest or 0
        ),
        platforms=tuple(Platform.parse(text) for text in sync.platforms),
        move_tags=sync.move_tags,
    )


def _never(session: Session, sync: Sync) -> Iterable[str]:
    """Patterns of repositories that are never taken: those of our own images, because nothing of them leaves its
    registry unpromoted; and what a sync within one registry has made itself, or each run would copy the copies."""
    for image in session.config.images.values():
        if image.registry == sync.source:
            yield image.repository
    for target in (session.config.targets[name] for name in sync.targets):
        if target.registry == sync.source:
            yield f"{target.prefix}/*"


def _target(session: Session, name: str) -> Target:
    settings = session.config.targets[name]
    return Target(session.places.registry(settings.registry), settings.prefix)


def _action(found: SyncResult, *, dry_run: bool) -> str:
    total = len(found.plan.deliveries)
    if dry_run:
        waiting = sum(not each.unchanged for each in found.plan.deliveries)
        return f"{waiting} of {total} copies are to be made" if waiting else "nothing is to be done"
    changed = sum(each.changed for each in found.results)
    return f"{changed} of {total} copies made or completed" if changed else "unchanged"


def _planned_facts(found: SyncResult) -> dict[str, Scalar]:
    return {
        "copies": len(found.plan.deliveries),
        "fetch_bytes": found.plan.fetch_bytes,
        "upload_bytes": found.plan.upload_bytes,
        "failures": len(found.failures),
    }


def _facts(found: SyncResult, seconds: float) -> dict[str, Scalar]:
    results = found.results
    return {
        "copies": len(results),
        "copies_changed": sum(each.changed for each in results),
        "fetch_bytes": found.plan.fetch_bytes,
        "bytes_per_second": round(found.bytes_moved / seconds) if seconds else 0,
        "blobs_moved": sum(each.blobs_moved for each in results),
        "blobs_mounted": sum(each.blobs_mounted for each in results),
        "manifests_put": sum(each.manifests_put for each in results),
        "tags_moved": sum(each.tags_moved for each in results),
        "receipts": sum(each.receipt is not None for each in results),
        "drift": sum(bool(each.drift) for each in results),
        "failures": len(found.failures) + sum(each.error is not None for each in results),
    }


def _rows(session: Session, sync: Sync, found: SyncResult) -> list[Row]:
    """One row per target, then one per closure with a problem there."""
    by_target: dict[str, list[TargetResult]] = {name: [] for name in sync.targets}
    rows: list[Row] = []
    for delivery, result in zip(found.plan.deliveries, found.results, strict=True):
        # The plan keeps the order of the targets within each job.
        name = sync.targets[delivery.job.targets.index(delivery.target)]
        by_target[name].append(result)
        if not result.ok or result.drift:
            rows.append(_row(f"{name}: {_named(delivery)}", [result], note="; ".join(_problems(result))))
    return [_row(name, results) for name, results in by_target.items()] + rows


def _row(target: str, results: Sequence[TargetResult], *, note: str = "") -> Row:
    failed = sum(each.error is not None for each in results)
    changed = sum(each.changed for each in results)
    drift = sum(bool(each.drift) for each in results)
    return {
        "target": target,
        "state": "failed" if failed else "drift" if drift else "copied" if changed else "unchanged",
        "copies": len(results),
        "changed": changed,
        "failed": failed,
        "bytes": sum(each.bytes_moved for each in results),
        "blobs": sum(each.blobs_moved for each in results),
        "mounted": sum(each.blobs_mounted for each in results),
        "manifests": sum(each.manifests_put for each in results),
        "tags": sum(each.tags_moved for each in results),
        "seconds": round(max((each.seconds for each in results), default=0.0), 3),
        "note": note,
    }


def _failed(failures: Iterable[Failure]) -> list[Row]:
    """What could not be read at the source, in the columns of the targets."""
    return [{**_row(each.reference, ()), "state": "failed", "failed": 1, "note": str(each.error)} for each in failures]


def _named(delivery: Delivery) -> str:
    return f"{delivery.target}:{delivery.job.closure.reference}"


def _problems(result: TargetResult) -> list[str]:
    if result.error is not None:
        return [str(result.error)]
    return [str(each) for each in result.drift]


def _failure_text(failure: Failure) -> str:
    return f"{failure.reference}: {failure.error}"
