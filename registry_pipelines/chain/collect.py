"""Retention: the plan of one registry, and its application; and one image that a person wants gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from registry_pipelines.chain.inventory_plan import looked_again, made_plan
from registry_pipelines.chain.listed import listed_images
from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.plan_totals import totals_tables
from registry_pipelines.chain.plans import (
    UNSIGNED,
    approved_plan,
    done_before,
    keep_plan,
    note_done,
)
from registry_pipelines.chain.quarantine import alone, copies_of, quarantine_for
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.apply import Applied, apply_plan
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import plan_deletion as plan_one
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.quarantine import Quarantine
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import InputError, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at

MOST_ROWS = 10_000
"""Images of one answer; the saved plan has all."""


def plan(session: Session, registry: str) -> RetentionPlan:
    """What a registry can let go by the configuration's rules; changes nothing.

    What a channel names at any source, target or mirror is in use, wherever its tag is by then. Raises InputError (no
    such registry, no rule for it), RegistryError.
    """
    opened = session.places.registry(registry)
    rules = [each for each in session.config.rules if each.registry == registry]
    if not rules:
        raise InputError(f"no retention rule names {registry}", do="Add one to `retention`; without rules all is kept")
    return plan_retention(
        opened,
        rules,
        now=session.now(),
        in_use=live_digests(session, registry),
        listed=listed_images(session, registry, rules),
    )


def channel_digests(session: Session) -> dict[Digest, str]:
    """What the channels of all images name, at their sources, targets and the stops of their mirrors; each with the
    channel, in a sentence.

    Raises RegistryError: a registry that does not answer is never taken for one that needs nothing.
    """
    digests: dict[Digest, str] = {}
    for image in session.config.images.values():
        for place, channel in product(session.places_of(image), image.order):
            try:
                named = digest_at(place, channel.name)
            except Unavailable as error:
                why = f"what {channel.name} of {image.name} names there is kept everywhere"
                error.do = f"{error.do}; {why}, so it must answer" if error.do else f"It must answer: {why}"
                raise
            if named is not None:
                digests.setdefault(named, f"the channel {channel.name} of {image.name} names it, at {place}")
    return digests


def plan_deletion(place: Place, digest: Digest, session: Session | None) -> RetentionPlan:
    """The plan to delete one image with its evidence, or why that is not possible. session: of the configuration, whose
    channels and protected tags then count. Raises RegistryError, ContentError."""
    in_use = _needed_at(session, place)
    return plan_one(place, digest, retention_rules(session, place), now=datetime.now(UTC), in_use=in_use)


def _needed_at(session: Session | None, place: Place) -> Live:
    """What runs of a place's registry, under whatever names it has, and what channels name, each with a sentence."""
    if session is None:
        return Live()
    from registry_pipelines.chain.expire import needed_by_backups
    from registry_pipelines.chain.running import in_use

    opened = session.places.registry
    names = [name for name in session.config.registries if opened(name).name == place.registry.name]
    used = [in_use(session, name, place.repository) for name in names]
    digests = {digest: why for each in used for digest, why in each.digests.items()}
    contents = {digest: why for each in used for digest, why in each.contents.items()}
    kept = {digest: why for name in names for digest, why in needed_by_backups(session, name, place.repository).items()}
    return Live({**digests, **channel_digests(session)}, contents=contents, at={place.repository: kept})


def retention_rules(session: Session | None, place: Place) -> list[RetentionRule]:
    """The rules for a place's registry, under whatever name of the configuration."""
    if session is None:
        return []
    registry, rules = session.places.registry, session.config.rules
    return [rule for rule in rules if registry(rule.registry).name == place.registry.name]


def delete(place: Place, plan: RetentionPlan, session: Session | None) -> StageResult:
    """Apply a plan of :func:`plan_deletion`, where nothing changed since. Raises InputError (older than a day)."""
    started = time.monotonic()
    in_use = _needed_at(session, place)
    if session is not None:
        _keep_deletion(session, place, plan)
    done = apply_plan(place.registry, plan, in_use=in_use, progress=session.progress if session else None)
    [image] = plan.repositories
    [entry] = image.entries
    return _applied(done, plan, stage="delete", subject=str(place), digest=entry.digest, started=started)


def _keep_deletion(session: Session, place: Place, plan: RetentionPlan) -> None:
    """Sign what a person deletes, so that an audit of the registry knows why it went. Raises LocalError."""
    opened = session.places.registry
    name = next((each for each in session.config.registries if opened(each).name == place.registry.name), "")
    if name:
        keep_plan(session, name, plan)


def planned(session: Session, registry: str, *, save: Path | None = None, inventory: Path | None = None) -> StageResult:
    """Make the plan, sign it and keep it; ``digest`` is what an approval names. save: a further file for it, the
    signature beside it (``.sig``). inventory: a stored one, in place of the registry. Raises as :func:`plan`;
    LocalError."""
    started = time.monotonic()
    with made_plan(session, registry, inventory) if inventory else nullcontext(plan(session, registry)) as retention:
        signed = keep_plan(session, registry, retention, also=save)
        result = describe(retention, registry, seconds=time.monotonic() - started)
        copies = copies_of(session, registry, retention)
    return replace(result, notes=[*result.notes, *copies, *([] if signed else [UNSIGNED])])


def describe(retention: RetentionPlan, registry: str, *, seconds: float = 0.0) -> StageResult:
    """A plan that was made or read as a result; not ``ok`` when a repository was refused because something
    about it is unclear."""
    told = retention.overview(MOST_ROWS)
    going, staying = told.going, told.staying
    return StageResult(
        stage=f"retention:{registry}",
        subject=registry,
        action=f"{count_text(going, 'image')} can go, {staying} stay" if going else f"nothing can go, {staying} stay",
        digest=retention.digest,
        seconds=seconds,
        facts={
            "registry": registry,
            "delete": going,
            "keep": staying,
            "refused": len(told.refused),
            "freed_bytes": told.freed_bytes,
            "made_at": retention.made_at,
            "source": retention.source,
        },
        rows=[*told.rows],
        tables=totals_tables(retention),
        reasons=[*told.refused, *retention.stopped, *retention.notes],
        ok=not told.refused and not retention.stopped,
        exit_code=Unavailable.exit_code if retention.stopped else 0,
    )


def apply_approved(session: Session, registry: str, named: str) -> StageResult:
    """Apply the plan that an approval names, by digest or file: once, and only where the signature, the rules and the
    world are those of the plan. Applied before it is left alone, and said. Raises InputError, SignatureInvalid."""
    approved = approved_plan(session, registry, named)
    if done := done_before(session, approved):
        return StageResult(
            stage=f"collect:{registry}",
            subject=registry,
            action="unchanged",
            digest=approved.digest,
            facts={"registry": approved.registry, "deleted": 0, "deleted_before": done.deleted, "freed_bytes": 0},
            notes=[f"the plan was applied at {done.at}; nothing of it is done twice"],
        )
    return apply(session, registry, approved)


def apply(session: Session, registry: str, approved: RetentionPlan) -> StageResult:
    """Delete what a plan says that the caller made or believes, where nothing changed since it was made; each image is
    set aside before, where the configuration has a quarantine. Raises InputError (another registry's plan, older than a
    day; no key to sign what is set aside), StateLocked (another process does it)."""
    started = time.monotonic()
    aside = quarantine_for(session, approved)
    with alone(session, registry):
        live = live_digests(session, registry)
        looked, changed = looked_again(session, registry, approved, live)
        done = apply_plan(
            session.places.registry(registry),
            looked,
            in_use=live,
            now=session.now(),
            progress=session.progress,
            aside=aside,
        )
        note_done(session, approved, ok=done.ok, deleted=len(done.deleted), refused=len(done.refused))
    stage = f"collect:{registry}"
    result = _applied(done, approved, stage=stage, subject=registry, digest=approved.digest, started=started)
    result = replace(result, tables=totals_tables(approved), reasons=[*result.reasons, *changed])
    if aside is None:
        return replace(result, notes=["nothing was set aside (`collect.quarantine: 0`): it does not come back"])
    said = {"quarantine_days": aside.days, "sent_bytes": aside.brought.sent_bytes, "mounted": aside.brought.mounted}
    return replace(result, facts={**result.facts, **said}, bytes_moved=aside.brought.sent_bytes, notes=[_kept(aside)])


def _kept(aside: Quarantine) -> str:
    until = write_time(aside.now + timedelta(days=aside.days))
    return f"what went is set aside until {until}, and its bytes are freed after that; `collect undo` brings it back"


def _applied(
    done: Applied, approved: RetentionPlan, *, stage: str, subject: str, digest: Digest, started: float
) -> StageResult:
    fresh = [each for each in done.deleted if not each.already]
    return StageResult(
        stage=stage,
        subject=subject,
        action=f"{count_text(len(fresh), 'manifest')} deleted" if fresh else "unchanged",
        digest=digest,
        changed=bool(fresh),
        seconds=time.monotonic() - started,
        facts={
            "registry": approved.registry,
            "deleted": len(fresh),
            "deleted_before": len(done.deleted) - len(fresh),
            "refused": len(done.refused),
            "freed_bytes": done.freed_bytes,
        },
        rows=[{"repository": each.repository, "digest": each.digest, "tags": ", ".join(each.tags)} for each in fresh],
        reasons=list(done.refused),
        ok=done.ok,
    )


def registries_with_rules(session: Session) -> Sequence[str]:
    """Names of the registries that retention rules are about, in the order of the file."""
    return list(dict.fromkeys(rule.registry for rule in session.config.rules))
