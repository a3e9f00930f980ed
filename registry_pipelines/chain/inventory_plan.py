"""Retention over a stored inventory: the plan, and the other look at what it names before any of that goes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.chain.listed import listed_images
from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.plan import INVENTORY, RetentionPlan
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.oci.files import local_errors


def rules_of(session: Session, registry: str) -> list[RetentionRule]:
    """The rules for a registry. Raises InputError without any: then all is kept."""
    rules = [each for each in session.config.rules if each.registry == registry]
    if not rules:
        raise InputError(f"no retention rule names {registry}", do="Add one to `retention`; without rules all is kept")
    return rules


@contextmanager
def made_plan(session: Session, registry: str, inventory: Path) -> Iterator[RetentionPlan]:
    """A plan by a stored inventory of a registry; its file is there until the context ends. Raises InputError,
    ToolMissing, LocalError, RegistryError (what is live)."""
    need_tables()
    from registry_pipelines.collect.from_inventory import plan_inventory

    opened, rules = session.places.registry(registry), rules_of(session, registry)
    folder = session.config.state / "collect"
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    output = folder / f".plan.{uuid.uuid4().hex}"
    try:
        yield plan_inventory(
            inventory,
            rules,
            registry=opened.name,
            known_as=registry,
            now=session.now(),
            in_use=live_digests(session, registry),
            output=output,
        )
    finally:
        output.unlink(missing_ok=True)


def looked_again(session: Session, registry: str, plan: RetentionPlan, live: Live) -> tuple[RetentionPlan, list[str]]:
    """A plan as it is applied, and what of it does not go any more: a plan of an inventory is looked at again. Raises
    InputError, RegistryError."""
    if plan.source != INVENTORY:
        return plan, []
    from registry_pipelines.collect.again import look_again

    opened, rules = session.places.registry(registry), rules_of(session, registry)
    listed = listed_images(session, registry, rules)
    return look_again(opened, plan, rules, now=session.now(), in_use=live, listed=listed)
