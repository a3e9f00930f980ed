"""Bring foreign images up to date behind an air gap."""

from __future__ import annotations

import time
from collections.abc import Iterable

from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import InputError, exit_code_of_many
from registry_pipelines.mirror.upstreams import (
    MirrorPlan,
    MirrorProblem,
    MirrorRow,
    OpenUpstream,
    PinnedTag,
    apply_mirror,
    plan_mirror,
)
from registry_pipelines.oci.references import check_repository
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.registry.through_cache import Served
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.forecast import learn_from, pulls_of
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.limits.budgets import Need, budget_notes
from registry_pipelines.transfer.limits.requests import Requests


def mirror(session: Session, name: str, *, dry_run: bool = False) -> StageResult:
    """Bring a mirror's foreign images up to date; one that fails does not hold the others up, but is not ``ok``.

    dry_run: only say what would be done, and what it takes of the upstreams' quotas; tags are looked at by HEAD, which
    no quota counts."""
    started = time.monotonic()
    settings = session.mirror(name)
    upstreams = list(upstreams_of(session, settings))
    via = session.places.registry(settings.via) if len(settings.stops) > 1 and settings.via else None
    to = session.places.registry(settings.stops[-1])
    requests = Requests([*(each.source.registry for each in upstreams), *([via] if via else []), to])
    plan = plan_mirror(upstreams)
    budget = Forecast(session, plan, via or to)
    if dry_run:
        return _planned(name, plan, budget, to, time.monotonic() - started)
    run = apply_mirror(plan, via=via, to=to, engine=session.engine())
    changed = sum(row.changed for row in run.rows)
    left_out: list[dict[str, Scalar]] = [{"image": "", **each} for each in omissions.rows(run.passed_over)]
    left_out += [left for row in run.rows for left in _left_out(row)]
    notes = [f"{_upstream_name(row)}: {omissions.note(row.left_out)}" for row in run.rows if row.left_out]
    return StageResult(
        stage=f"mirror:{name}",
        subject=name,
        action=f"{changed} of {count_text(len(run.rows), 'tag')} copied" if changed else "unchanged",
        changed=bool(changed),
        bytes_moved=sum(row.bytes_moved for row in run.rows),
        seconds=time.monotonic() - started,
        facts={
            "upstreams": len(settings.upstreams),
            "tags": len(run.rows),
            "tags_changed": changed,
            "problems": len(run.problems),
            "left_out_count": len(left_out),
            **budget.facts(),
            **request_facts(requests.so_far()),
        },
        rows=[*map(_mirrored, run.rows), *map(_not_mirrored, run.problems)],
        tables={"left_out": left_out},
        notes=[
            *budget.notes(),
            *_through(upstreams),
            *notes,
            *([omissions.note(run.passed_over)] if run.passed_over else []),
        ],
        reasons=[_problem_text(each) for each in run.problems],
        ok=not run.problems,
        exit_code=run.exit_code,
    )


class Forecast:
    """What a mirror's plan takes of its upstreams' quotas, told before it is taken.

    Manifests that the first stop has already are learnt there: a mirror without news takes nothing of any quota.
    """

    def __init__(self, session: Session, plan: MirrorPlan, stop: Registry) -> None:
        known = ManifestFolder(session.config.state / "transfer" / "manifests")
        self.budgets = session.places.limits.budgets()
        metered = {each.registry for each in self.budgets}
        self._needs: dict[str, Need] = {}
        for pinned in plan.pinned:
            name = pinned.upstream.source.registry.name
            if name in metered:
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


def _planned(name: str, plan: MirrorPlan, budget: Forecast, to: Registry, seconds: float) -> StageResult:
    rows = [_would_mirror(each, to) for each in plan.pinned]
    news = sum(row["state"] != "unchanged" for row in rows)
    quotas = budget.rows()
    return StageResult(
        stage=f"mirror:{name}",
        subject=name,
        action=f"{news} of {count_text(len(rows), 'tag')} to be copied" if news else "nothing is to be done",
        seconds=seconds,
        facts={"tags": len(rows), "tags_to_copy": news, "problems": len(plan.problems), **budget.facts()},
        rows=rows,
        tables={"quotas": quotas} if quotas else {},
        notes=[*budget.notes(), *_through(each.upstream for each in plan.pinned)],
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


def _would_mirror(pinned: PinnedTag, to: Registry) -> dict[str, Scalar]:
    there = digest_at(Place(to, pinned.upstream.repository), pinned.tag)
    state = "unchanged" if there == pinned.digest else "to be copied" if there is None else "to be moved"
    return {
        "upstream": str(pinned.upstream.source),
        "tag": pinned.tag,
        "digest": pinned.digest,
        "state": state,
    }


def upstreams_of(session: Session, mirror: Mirror) -> Iterable[OpenUpstream]:
    """A mirror's upstreams, opened. Raises InputError for the source of our own image: no policy is asked that way."""
    ours = {str(session.places.source(image)): image.name for image in session.config.images.values()}
    for upstream in mirror.upstreams:
        place = session.places.place(upstream.image)
        if str(place) in ours:
            raise InputError(
                f"{upstream.image} is where releases of {ours[str(place)]} appear, no foreign image",
                where=f"mirrors.{mirror.name}.upstreams",
                do=f"List {ours[str(place)]} in `images` of the mirror: what is promoted is taken",
            )
        repository = check_repository(session.config.mirrored_repository(mirror, upstream))
        yield OpenUpstream(source=place, repository=repository, settings=upstream)


def _upstream_name(row: MirrorRow) -> str:
    return f"{row.pinned.upstream.source}:{row.pinned.tag}"


def _problem_text(problem: MirrorProblem) -> str:
    """Errors of registries mostly begin with what they are about."""
    name = f"{problem.upstream}:{problem.tag}" if problem.tag else problem.upstream
    text = str(problem.error)
    return text if text.startswith(name) else f"{name}: {text}"


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
        "digest": "",
        "state": f"failed: {problem.error.what}",
        "bytes": 0,
        "left_out": 0,
        "seconds": 0.0,
    }
