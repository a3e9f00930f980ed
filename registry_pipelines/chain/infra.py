"""Settings of registries in clouds: the plan of one registry, its application, drift, and what is there as YAML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from registry_pipelines.chain import infra_clouds
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ConfigInvalid, InputError
from registry_pipelines.infra.apply import Applied, apply_plan
from registry_pipelines.infra.cloud import SettingsCloud
from registry_pipelines.infra.plan import Plan, keys_text, make_plan
from registry_pipelines.infra.settings import Setting
from registry_pipelines.progress import count_text
from registry_pipelines.settings import unknown


def registries(session: Session) -> Sequence[str]:
    """Names of the registries whose settings are declared, in the order of the file."""
    return list(session.config.infra)


def declared(session: Session, names: Sequence[str] = ()) -> dict[str, list[Setting]]:
    """The settings that registries (all that declare any, unless named) are to have. Nothing is asked.

    Raises InputError for a registry that declares none, ConfigInvalid with everything that is wrong, files included.
    """
    found: dict[str, list[Setting]] = {}
    problems: list[str] = []
    for name in names or registries(session):
        infra = session.config.infra.get(name)
        if infra is None:
            do = f"Declare them below infra.{name}; `infra import {name}` writes what is there"
            raise InputError(
                f"no settings are declared: {unknown(name, session.config.infra, 'entry of infra')}", do=do
            )
        wanted = infra_clouds.wanted(session, name, infra)
        found[name] = wanted.settings
        problems += [f"{session.config.path}: infra.{name}.{path}: {message}" for path, message in wanted.problems]
    if problems:
        raise ConfigInvalid(problems)
    return found


def cloud(session: Session, name: str) -> SettingsCloud:
    """The settings of one registry where it is. Raises InputError for a registry that is in no cloud we know."""
    return infra_clouds.cloud_of(session, name)


def plan(session: Session, name: str) -> Plan:
    """What differs between what is declared and what is there; changes nothing. Raises InputError, ConfigInvalid,
    RegistryError."""
    wanted = declared(session, [name])[name]
    there = cloud(session, name)
    return make_plan(there, there.read(wanted), now=session.now())


def planned(session: Session, name: str) -> StageResult:
    """The plan as a result; ``digest`` is what an approval names. Not ``ok`` where something cannot be done."""
    started = time.monotonic()
    return describe(plan(session, name), seconds=time.monotonic() - started)


def describe(made: Plan, *, seconds: float = 0.0) -> StageResult:
    """A plan that was made or read, as a result."""
    refused = [f"{each.key}: {each.why}" for each in made.refused]
    actions = list(made.actions)
    return StageResult(
        stage=f"infra:{made.place}",
        subject=made.place,
        action=made.summary(),
        digest=made.digest,
        seconds=seconds,
        facts=_counts(made),
        rows=made.rows(),
        tables={"readers": made.readers} if made.readers else {},
        reasons=refused,
        notes=list(made.notes),
        next_steps=[f"registry-pipelines infra apply {made.place}"] if actions else [],
        ok=not refused,
    )


def _counts(made: Plan) -> dict[str, Scalar]:
    counts: dict[str, Scalar] = {"registry": made.place, "made_at": made.made_at, "unmanaged": len(made.unmanaged)}
    for action in ("create", "update", "delete", "adopt", "refuse"):
        counts[action] = sum(each.action == action for each in made.changes)
    return counts


def drift(session: Session, name: str) -> StageResult:
    """Whether everything is as declared: not ``ok`` with a reason for each field that is not, or was not compared."""
    started = time.monotonic()
    made = plan(session, name)
    shown = describe(made, seconds=time.monotonic() - started)
    drifted = [
        f"{each.key}: {'; '.join(one.drift() for one in each.differences) or each.action}" for each in made.actions
    ]
    return replace(
        shown,
        stage=f"drift:{name}",
        action="as declared" if made.settled else f"drifted: {keys_text(each.key for each in made.actions)}",
        rows=[row for row in shown.rows if row["action"] != "unmanaged"],
        reasons=[*shown.reasons, *drifted],
        ok=made.settled,
    )


def apply(session: Session, name: str, approved: Plan | None = None) -> StageResult:
    """Make a registry's settings as declared: by a plan that is made now, or by one that was approved, as far as what
    is there is still what it was made from. Raises InputError, ConfigInvalid, RegistryError, and StateLocked where
    another process with this state does the same."""
    started = time.monotonic()
    there = cloud(session, name)
    wanted = declared(session, [name])[name] if approved is None else []
    with session.documents.held(f"infra/{name}/lock", f"another process sets {name}"):
        made = approved or make_plan(there, there.read(wanted), now=session.now())
        done = apply_plan(there, made, fresh=approved is None, now=session.now(), progress=session.progress)
    return applied(made, done, seconds=time.monotonic() - started)


def applied(made: Plan, done: Applied, *, seconds: float) -> StageResult:
    """What became of a plan, as a result: a row for each thing, with what was verified of it."""
    states = {state: sum(each.state == state for each in done.outcomes) for state in ("done", "already", "failed")}
    refused = sum(each.state == "refused" for each in done.outcomes)
    return StageResult(
        stage=f"infra-apply:{made.place}",
        subject=made.place,
        action=f"{count_text(states['done'], 'thing')} changed" if states["done"] else "unchanged",
        digest=made.digest,
        changed=done.changed,
        seconds=seconds,
        facts={"registry": made.place, **states, "refused": refused, "unmanaged": len(made.unmanaged)},
        rows=[
            {
                "action": each.action,
                "kind": each.key.kind,
                "name": each.key.name,
                "state": each.state,
                "told": "; ".join(f"{name} {value}" for name, value in each.facts.items()),
                "why": each.why,
            }
            for each in done.outcomes
        ],
        reasons=[f"{each.key}: {each.why}" for each in done.outcomes if not each.ok],
        notes=list(made.notes),
        ok=done.ok,
    )


def imported(session: Session, name: str, *, folder: str = "") -> tuple[str, dict[str, bytes], list[str]]:
    """What is there of a registry as it would be declared: YAML of its section, content of the policy files by path,
    and what is left out. folder: of those files, from the configuration's. Raises InputError, RegistryError."""
    there = infra_clouds.cloud_of(session, name).everything()
    return as_section(session, name, there.settings, there.notes, folder=folder)


def as_section(
    session: Session, name: str, settings: Sequence[Setting], notes: Sequence[str], *, folder: str
) -> tuple[str, dict[str, bytes], list[str]]:
    """What was found of a registry as it would be declared; see :func:`imported`. notes: of who found it."""
    import yaml

    found = infra_clouds.as_declared(session, name, settings, folder=folder)
    section = _without_variables(found.section)
    text = yaml.safe_dump({"infra": {name: section}}, sort_keys=False, allow_unicode=True, width=110)
    return text, found.files, [*notes, *found.notes]


def _without_variables(value: Any) -> Any:
    """The same for the configuration, where ``${`` begins a variable's name and ``$${`` is plain text."""
    if isinstance(value, dict):
        return {key: _without_variables(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_variables(each) for each in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
