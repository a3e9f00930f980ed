"""Look again at what a plan of a stored inventory names, before any of it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.collect.decide import decide_ruled
from registry_pipelines.collect.lists import Lists
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import repository_plan, survey_repository
from registry_pipelines.collect.plan import SURVEY, RepositoryPlan, RetentionPlan
from registry_pipelines.collect.policies import inventory_of, judge, read_policies
from registry_pipelines.collect.reasons import Ruled
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import ContentError, RegistryError
from registry_pipelines.inventory.survey import Survey
from registry_pipelines.registry.protocol import Place, Registry

if TYPE_CHECKING:  # only who has such a list brings its tables
    from registry_pipelines.inventory.value import Inventory


def look_again(
    registry: Registry,
    plan: RetentionPlan,
    rules: Sequence[RetentionRule],
    *,
    now: datetime,
    in_use: Live,
    listed: Inventory | None = None,
) -> tuple[RetentionPlan, list[str]]:
    """The part of a plan that still holds: each repository of which something goes is read and judged anew, and what
    goes by both goes, in the order of now. The second value says what does not go any more, and why. rules: those the
    plan was made by; the caller compares (``rules_digest``). The rest as for ``make.plan_retention``.

    A repository that cannot be read is refused in the plan that comes back.
    """
    changed: list[str] = []
    planned = tuple(_again(registry, plan, rules, now, in_use, listed, changed))
    return replace(plan, repositories=planned, source=SURVEY, totals=(), stored_as=None), changed


def _again(
    registry: Registry,
    plan: RetentionPlan,
    rules: Sequence[RetentionRule],
    now: datetime,
    in_use: Live,
    listed: Inventory | None,
    changed: list[str],
) -> Iterator[RepositoryPlan]:
    policies, lists = read_policies(rules), Lists(listed)
    for old in plan.repositories:
        if old.refused or not any(not entry.reasons for entry in old.entries):
            yield old
            continue
        mine = [rule for rule in rules if rule.covers(old.repository)]
        try:
            found, known = survey_repository(Place(registry, old.repository), mine, now, in_use, changed, lists)
        except (RegistryError, ContentError) as error:
            yield replace(old, refused=str(error))
            continue
        images = listed if listed is not None or not policies else inventory_of(registry.name, [found], now)
        ruled = judge(rules, policies, images, now).of(old.repository)
        yield _both(old, found, ruled, known, now, changed)


def _both(
    old: RepositoryPlan, found: Survey, ruled: Sequence[Ruled], in_use: Live, now: datetime, changed: list[str]
) -> RepositoryPlan:
    """What goes by both: an image with which more would go than was approved (a signature that came since) stays."""
    approved = {entry.digest: set(entry.delete) for entry in old.entries if not entry.reasons}
    freed = {entry.digest: entry.freed_bytes for entry in old.entries}
    while True:
        decision = decide_ruled(found, ruled, now=now, in_use=in_use, only=approved)
        more = [digest for digest, steps in decision.steps.items() if not approved[digest].issuperset(steps)]
        if not more:
            break
        for digest in more:
            changed.append(f"{old.repository}: {digest.short} stays: more belongs to it than when the plan was made")
            del approved[digest]
    for unit in decision.units:
        if unit.reasons and unit.digest in approved:
            name = ", ".join(unit.tags) or unit.digest.short
            changed.append(f"{old.repository}: {name} stays after another look: {'; '.join(unit.reasons)}")
    return repository_plan(found, decision, [freed.get(unit.digest, 0) for unit in decision.units])
