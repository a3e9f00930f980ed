"""Make what a plan says, and nothing else; what changed since the plan was made is left alone and told.

Nothing is kept on this machine: after kill -9 the same command plans what is left and does that. A stored plan is
checked against what is there: what it had planned and is there already is done, what somebody changed otherwise is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.infra.cloud import SettingsCloud
from registry_pipelines.infra.plan import Action, Change, Outcome, Plan, change_of
from registry_pipelines.infra.settings import Key, Setting
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import Progress, Silent

MAX_PLAN_AGE = timedelta(hours=24)
"""An older plan is refused, as one of retention is: whoever approved it knew the settings of that day."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a plan, in the order in which it was done."""

    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as declared now."""
        return all(each.ok for each in self.outcomes)

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return any(each.state == "done" for each in self.outcomes)


def apply_plan(
    cloud: SettingsCloud,
    plan: Plan,
    *,
    fresh: bool = False,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Applied:
    """Apply a plan, kind by kind: what others need first, deletions last and the other way round.

    fresh: the plan was made by this very command, so what is there is not asked again. Raises InputError for a plan of
    another registry or older than a day, RegistryError where nothing can be read.
    """
    moment, made = now or datetime.now(UTC), read_time(plan.made_at)
    if (plan.place, plan.where) != (cloud.place, cloud.where):
        raise InputError(
            f"the plan is for {plan.place}, {plan.where}",
            where=f"{cloud.place}, {cloud.where}",
            do="Make a plan for this registry",
        )
    if made is None or not timedelta(minutes=-5) <= moment - made <= MAX_PLAN_AGE:
        raise InputError(f"the plan was made at {plan.made_at}; plans are applied within a day", do="Make a new plan")
    if unknown := sorted({each.kind for each in plan.changes} - set(cloud.order)):
        raise InputError(f"the plan has kinds that this registry has not: {', '.join(unknown)}", where=cloud.place)
    outcomes = [_refused(each, each.why) for each in plan.refused]
    pending = list(plan.actions)
    if not fresh:
        checked = _checked(cloud, pending)
        outcomes += [each for each in checked if isinstance(each, Outcome)]
        pending = [each for each in checked if isinstance(each, Change)]
    told = progress or Silent()
    if pending:
        told.begin(plan.place)
    for outcome in _in_order(cloud, pending):
        outcomes.append(outcome)
        told.advance(plan.place, 0)
    if pending:
        told.end(plan.place)
    return Applied(outcomes=tuple(outcomes))


def _in_order(cloud: SettingsCloud, pending: Sequence[Change]) -> Iterator[Outcome]:
    missing: set[Key] = set()
    steps: list[tuple[str, bool]] = [*((kind, False) for kind in cloud.order)]
    steps += [(kind, True) for kind in reversed(cloud.order)]
    for kind, deleting in steps:
        ready = []
        for change in pending:
            if change.kind != kind or (change.action == "delete") != deleting:
                continue
            needed = Key(cloud.needs.get(kind, ""), change.place, change.name)
            if needed in missing:
                yield _refused(change, f"{needed} could not be made")
            else:
                ready.append(change)
        if ready:
            for outcome in cloud.apply(ready):
                if not outcome.ok and outcome.action == "create":
                    missing.add(outcome.key)
                yield outcome


def _checked(cloud: SettingsCloud, pending: Sequence[Change]) -> list[Change | Outcome]:
    """Each change as it can still be made, or what became of it since the plan was made."""
    wanted = [
        Setting(kind=each.kind, place=each.place, name=each.name, wanted=each.wanted, absent=each.action == "delete")
        for each in pending
    ]
    there = {each.key: each for each in (cloud.read(wanted).settings if wanted else ())}
    return [_check(each, there.get(each.key)) for each in pending]


def _check(change: Change, there: Setting | None) -> Change | Outcome:
    if there is None or there.unread:
        return _refused(change, f"what is there cannot be read: {there.unread if there else 'nothing tells of it'}")
    if change_of(there).action == "adopt":
        return Outcome(key=change.key, action=change.action, state="already")
    if there.found != change.found:
        return _refused(change, "it changed since the plan was made; make a new plan")
    return change


def _refused(change: Change, why: str) -> Outcome:
    action: Action = change.action
    return Outcome(key=change.key, action=action, state="refused", why=why)


__all__ = ["MAX_PLAN_AGE", "Applied", "apply_plan"]
