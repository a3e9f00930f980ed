"""Syncs: many repositories of a registry to their targets, in one plan."""

from __future__ import annotations

import time
from collections.abc import Sequence

from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Sync
from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.limits.limited import quota_notes
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import OpenTarget, Source, SyncResult, sync_each

_WILDCARDS = frozenset("*?[")


def sync_of(session: Session, name: str) -> Sync:
    """A sync by name. Raises InputError with the closest name."""
    sync = session.config.syncs.get(name)
    if sync is None:
        raise InputError(unknown(name, session.config.syncs, "sync"), do="Name a sync of the configuration")
    return sync


def run(session: Session, names: Sequence[str], *, dry_run: bool = False) -> dict[str, SyncResult]:
    """Plan these syncs and, unless ``dry_run``, apply the plan; targets are read back and get receipts. All are one
    plan, so that a blob that several bring leaves its source once; but one whose source another one fills is planned
    when that is done, in the order of the names.

    Raises InputError, LocalError; what a registry refuses or does not answer is in the results.
    """
    results: dict[str, SyncResult] = {}
    for wave in _waves(session, [sync_of(session, name) for name in names]):
        sources = [source_of(session, each) for each in wave]
        done = sync_each(sources, dry_run=dry_run, engine=session.engine())
        results |= dict(zip((each.name for each in wave), done, strict=True))
    return results


def _waves(session: Session, syncs: Sequence[Sync]) -> list[list[Sync]]:
    """Those that may be planned together, in order: none takes from a registry that another of them writes to. Two
    names of the configuration may be one registry, with two accounts."""

    def targets(sync: Sync) -> set[str]:
        return {host(session.config.targets[name].registry) for name in sync.targets}

    def host(name: str) -> str:
        return session.places.registry(name).name

    waves: list[list[Sync]] = []
    for sync in syncs:
        touched = waves[-1] if waves else []
        written = {each for other in touched for each in targets(other)}
        read = {host(each.source) for each in touched}
        if not touched or host(sync.source) in written or targets(sync) & read:
            waves.append([sync])
        else:
            touched.append(sync)
    return waves


def sync(session: Session, name: str, *, dry_run: bool = False) -> StageResult:
    """One sync; see :func:`syncs`."""
    return syncs(session, [name], dry_run=dry_run)[name]


def syncs(session: Session, names: Sequence[str], *, dry_run: bool = False) -> dict[str, StageResult]:
    """Bring the repositories of syncs to their targets, see :func:`run`; by name what became of each. tables:
    ``targets`` (one row each), ``images`` (what changed, drifted or failed) and ``plan`` (with ``dry_run`` only that),
    ``left_out``, and the ``limits`` that held at the end. Seconds and requests are those of all of them."""
    started = time.monotonic()
    results = run(session, names, dry_run=dry_run)
    seconds = time.monotonic() - started
    return {name: _result(session, name, done, seconds, dry_run=dry_run) for name, done in results.items()}


def _result(session: Session, name: str, result: SyncResult, seconds: float, *, dry_run: bool) -> StageResult:
    summary, limits = summary_of(session, name, result), session.places.limits.in_force()
    done = {} if dry_run else {"targets": summary.target_rows(), "images": summary.image_rows()}
    return StageResult(
        stage=f"sync:{name}",
        subject=name,
        action=_action(result, dry_run=dry_run),
        changed=result.changed,
        bytes_moved=result.bytes_moved,
        seconds=seconds,
        facts=_planned_facts(result) if dry_run else _facts(result, summary, seconds),
        tables={
            **done,
            "plan": summary.plan_rows(),
            "left_out": summary.left_out_rows(),
            **({"limits": limits} if limits else {}),
        },
        reasons=summary.reasons(),
        notes=[*quota_notes([source_of(session, sync_of(session, name)).registry]), *summary.notes()],
        ok=result.ok,
        exit_code=result.exit_code,
    )


def summary_of(session: Session, name: str, result: SyncResult) -> Summary:
    """What a sync did or would do, told with the names of its targets."""
    return Summary(result, sync_of(session, name).targets)


def source_of(session: Session, sync: Sync) -> Source:
    """A sync of the configuration as ``transfer`` takes it: with open registries."""
    from registry_pipelines.registry.set_aside import QUARANTINES

    names = sync.repositories
    literal = bool(names) and not sync.repositories_regex and not any(_WILDCARDS.intersection(each) for each in names)
    return Source(
        session.places.registry(sync.source),
        tuple(_target(session, name, sync.strip) for name in sync.targets),
        repositories=names if literal else (),
        choose_repositories=Selector(
            glob=names,
            regex=sync.repositories_regex,
            exclude=sync.exclude_repositories,
        ),
        never={**session.config.never_synced(sync), **dict.fromkeys(QUARANTINES, "retention set aside what is in it")},
        choose_tags=sync.selector,
        platforms=sync.platforms,
        selection=sync.selection,
        move_tags=sync.move_tags,
        foreign_layers=sync.foreign_layers,
    )


def _target(session: Session, name: str, strip: str) -> OpenTarget:
    settings = session.config.targets[name]
    return OpenTarget(session.places.registry(settings.registry), settings.prefix, strip)


def _action(result: SyncResult, *, dry_run: bool) -> str:
    total = len(result.plan.deliveries)
    if not total:
        return "no image is chosen"
    if dry_run:
        waiting = sum(not each.unchanged for each in result.plan.deliveries)
        return f"{waiting} of {count_text(total, 'copy', 'copies')} to be made" if waiting else "nothing is to be done"
    changed = sum(each.changed for each in result.results)
    return f"{changed} of {count_text(total, 'copy', 'copies')} made or completed" if changed else "unchanged"


def _planned_facts(result: SyncResult) -> dict[str, Scalar]:
    return {
        "copies": len(result.plan.deliveries),
        "fetch_bytes": result.plan.fetch_bytes,
        "upload_bytes": result.plan.upload_bytes,
        "failures": len(result.failures),
        **request_facts(result.requests),
    }


def _facts(result: SyncResult, summary: Summary, seconds: float) -> dict[str, Scalar]:
    rate = round(result.bytes_moved / seconds) if seconds else 0
    return {**summary.totals(), "bytes_per_second": rate, **request_facts(result.requests)}
