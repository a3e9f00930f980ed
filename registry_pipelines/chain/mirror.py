"""Bring foreign images up to date behind an air gap."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from registry_pipelines.chain.mirror_sources import ARTIFACTS, Chosen, asked, change_lines, choose
from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import PromotionDenied, exit_code_of_many
from registry_pipelines.mirror.upstreams import (
    MirrorPlan,
    MirrorProblem,
    MirrorRow,
    MirrorRun,
    OpenUpstream,
    PinnedTag,
    apply_mirror,
)
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.registry.through_cache import Served
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.limits.budgets import Need, budget_notes
from registry_pipelines.transfer.limits.requests import Requests


def mirror(session: Session, name: str, *, upstream: str = "", dry_run: bool = False) -> StageResult:
    """Bring a mirror's foreign images up to date; one that fails does not hold the others up, but is not ``ok``. What
    its policy does not let in is held in front of the private registry, which keeps what it has, and is not ``ok``
    either.

    upstream: only this one, as the configuration writes its image. dry_run: only say what would be done, and what it
    takes of the upstreams' quotas; tags are looked at by HEAD, which no quota counts."""
    started = time.monotonic()
    requests = Requests(_registries(session, name, upstream))  # before the first one is asked
    chosen = choose(session, name, upstream=upstream)
    plan, stops = chosen.plan, chosen.stops
    budget = Forecast(session, plan, stops[0] if stops else None)
    if dry_run:
        return _planned(session, chosen, budget, time.monotonic() - started)
    with asked(session, chosen.settings) as admit:
        upstreams = apply_mirror(plan, to=chosen.to, via=chosen.via, engine=session.engine(), admit=admit)
    run = _with_artifacts(session, chosen, upstreams, upstream)
    changed = sum(row.changed for row in run.rows)
    held = sum(each.held for each in run.problems)
    left_out: list[dict[str, Scalar]] = [{"image": "", **each} for each in omissions.rows(run.passed_over)]
    left_out += [left for row in run.rows for left in _left_out(row)]
    notes = [f"{_upstream_name(row)}: {omissions.note(row.left_out)}" for row in run.rows if row.left_out]
    notes += [note for row in run.rows if row.changed and stops for note in _expiring(row, stops[-1])]
    result = StageResult(
        stage=f"mirror:{name}",
        subject=upstream or name,
        action=f"{changed} of {count_text(len(run.rows), 'tag')} copied" if changed else "unchanged",
        changed=bool(changed),
        bytes_moved=sum(row.bytes_moved for row in run.rows),
        seconds=time.monotonic() - started,
        facts={
            "upstreams": len(chosen.upstreams),
            "tags": len(run.rows),
            "tags_changed": changed,
            "tags_held": held,
            "problems": len(run.problems) - held,
            "changes_since_lock": len(chosen.changes),
            "left_out_count": len(left_out),
            **budget.facts(),
        },
        rows=[*map(_mirrored, run.rows), *map(_not_mirrored, run.problems)],
        tables={"left_out": left_out},
        notes=[
            *budget.notes(),
            *_through(chosen.upstreams),
            *change_lines(chosen.changes),
            *(f"{each.source}:{each.tag} is taken from {each.kept_at}" for each in plan.pinned if each.kept_at),
            *notes,
            *([omissions.note(run.passed_over)] if run.passed_over else []),
        ],
        reasons=[_problem_text(each) for each in run.problems],
        ok=not run.problems,
        exit_code=run.exit_code,
    )
    from registry_pipelines.chain.mirror_record import remember  # signs, when all is done

    kept = remember(session, chosen, result, upstreams)
    return replace(kept, facts={**kept.facts, **request_facts(requests.so_far())})


def _registries(session: Session, name: str, upstream: str) -> list[Registry]:
    settings = session.mirror(name)
    sources = [each.image for each in settings.upstreams if upstream in ("", each.image)]
    return [
        *(session.places.place(each).registry for each in sources),
        *(session.places.registry(each) for each in settings.stops),
    ]


def _with_artifacts(session: Session, chosen: Chosen, run: MirrorRun, upstream: str) -> MirrorRun:
    """What was done, and what was brought beside it; one upstream alone brings nothing else."""
    if upstream not in ("", ARTIFACTS) or not chosen.settings.artifacts or chosen.to is None:
        return run
    from registry_pipelines.chain.mirror_artifacts import bring_artifacts  # few have any

    more = bring_artifacts(session, chosen)
    return MirrorRun((*run.rows, *more.rows), (*run.problems, *more.problems), run.passed_over)


class Forecast:
    """What a mirror's plan takes of its upstreams' quotas, told before it is taken.

    Manifests that the first stop has already are learnt there: a mirror without news takes nothing of any quota.
    """

    def __init__(self, session: Session, plan: MirrorPlan, stop: Registry | None) -> None:
        known = ManifestFolder(session.config.state / "transfer" / "manifests")
        self.budgets = session.places.limits.budgets()
        metered = {each.registry for each in self.budgets}
        self._needs: dict[str, Need] = {}
        for pinned in plan.pinned:
            name = pinned.upstream.source.registry.name
            if name in metered and pinned.kept_at is None:
                from registry_pipelines.transfer.closure.forecast import learn_from, pulls_of  # few have a quota

                if stop is not None:
                    learn_from(Place(stop, pinned.upstream.repository), pinned.digest, known)
                pulls, exact = pulls_of(pinned.top, pinned.upstream.settings.platforms, known)
                before = self._needs.get(name, Need(name, 0))
                self._needs[name] = Need(name, before.pulls + pulls, before.exact and exact)

    def notes(self) -> list[str]:
        """A sentence for each registry with a quota."""
        return budget_notes("this mirror", self._needs.values(), self.budgets)

    def facts(self) -> dict[str, Scalar]:
        """Pulls that are needed and left, over all registries with a quota; nothing where there is none."""
        if not self.budgets:
            return {}
        return {
            "pulls_needed": sum(each.pulls for each in self._needs.values()),
            "pulls_left": sum(each.remaining for each in self.budgets if each.registry in self._needs),
        }

    def rows(self) -> list[dict[str, Scalar]]:
        """Each quota, with what is needed of it."""
        return [{**each.row(), "needed": self._needs.get(each.registry, Need("", 0)).pulls} for each in self.budgets]


def _planned(session: Session, chosen: Chosen, budget: Forecast, seconds: float) -> StageResult:
    plan, mirror_name = chosen.plan, chosen.settings.name
    if chosen.settings.artifacts:
        from registry_pipelines.chain.mirror_artifacts import plan_artifacts

        more = plan_artifacts(session, chosen)
        plan = MirrorPlan((*plan.pinned, *more.pinned), (*plan.problems, *more.problems), plan.passed_over)
    rows = [_would_mirror(each, chosen) for each in plan.pinned]
    news = sum(row["state"] != "unchanged" for row in rows)
    quotas = budget.rows()
    return StageResult(
        stage=f"mirror:{mirror_name}",
        subject=mirror_name,
        action=f"{news} of {count_text(len(rows), 'tag')} to be copied" if news else "nothing is to be done",
        seconds=seconds,
        facts={
            "tags": len(rows),
            "tags_to_copy": news,
            "problems": len(plan.problems),
            "changes_since_lock": len(chosen.changes),
            **budget.facts(),
        },
        rows=rows,
        tables={"quotas": quotas} if quotas else {},
        notes=[
            *budget.notes(),
            *_through(each.upstream for each in plan.pinned),
            *change_lines(chosen.changes),
            *(f"policy {name} is asked when it is copied: what it denies is held" for name in chosen.policies),
        ],
        reasons=[_problem_text(each) for each in plan.problems],
        ok=not plan.problems,
        exit_code=exit_code_of_many([*(0 for _ in plan.pinned), *(each.error.exit_code for each in plan.problems)]),
    )


def _through(upstreams: Iterable[OpenUpstream]) -> list[str]:
    """Which upstreams are read through a cache, and tags of which the cache alone could be asked."""
    notes: dict[str, None] = {}
    for place in (each.source for each in upstreams):
        if isinstance(place.registry, Served):
            notes[f"{place} is read through {place.registry.served_by(place.repository)}"] = None
            if tags := place.registry.by_cache(place.repository):
                why = f"the cache's word for tags of {place}, which may be a day old (the upstream could not be asked)"
                notes[f"{why}: {', '.join(tags)}"] = None
    return list(notes)


def _would_mirror(pinned: PinnedTag, chosen: Chosen) -> dict[str, Scalar]:
    last = chosen.stops[-1] if chosen.stops else None
    there = digest_at(Place(last, pinned.upstream.repository), pinned.tag) if last else pinned.digest
    state = "unchanged" if there == pinned.digest else "to be copied" if there is None else "to be moved"
    return {
        "upstream": str(pinned.upstream.source),
        "tag": pinned.tag,
        "digest": pinned.digest,
        "state": state,
    }


def _upstream_name(row: MirrorRow) -> str:
    return f"{row.pinned.upstream.source}:{row.pinned.tag}"


def _problem_text(problem: MirrorProblem) -> str:
    """Errors of registries mostly begin with what they are about."""
    name = f"{problem.upstream}:{problem.tag}" if problem.tag else problem.upstream
    text = str(problem.error)
    return text if text.startswith(name) else f"{name}: {text}"


def _expiring(row: MirrorRow, stop: Registry) -> list[str]:
    from registry_pipelines.registry.expiring import expiry_notes  # most runs bring nothing new

    return expiry_notes(Place(stop, row.pinned.upstream.repository), row.digest, _upstream_name(row))


def _left_out(row: MirrorRow) -> Iterable[dict[str, Scalar]]:
    return [{"image": _upstream_name(row), **each} for each in omissions.rows(row.left_out)]


def _mirrored(row: MirrorRow) -> dict[str, Scalar]:
    return {
        "upstream": str(row.pinned.upstream.source),
        "tag": row.pinned.tag,
        "digest": row.digest,
        "state": "copied" if row.changed else "unchanged",
        "bytes": row.bytes_moved,
        "left_out": len(row.left_out),
        "seconds": round(row.seconds, 3),
    }


def _not_mirrored(problem: MirrorProblem) -> dict[str, Scalar]:
    return {
        "upstream": problem.upstream,
        "tag": problem.tag,
        "digest": problem.pinned.digest if problem.pinned else "",
        "state": f"held: {_first_reason(problem)}" if problem.held else f"failed: {problem.error.what}",
        "bytes": 0,
        "left_out": 0,
        "seconds": 0.0,
    }


def _first_reason(problem: MirrorProblem) -> str:
    """Of a policy's denial, whose whole text has a line for each."""
    error = problem.error
    return error.reasons[0] if isinstance(error, PromotionDenied) and error.reasons else error.what
