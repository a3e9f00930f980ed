"""Retention: the plan of one registry, and its application."""

from __future__ import annotations

import time
from collections.abc import Sequence

from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.plan import RetentionPlan, plan_retention
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place


def plan(session: Session, registry: str) -> RetentionPlan:
    """What a registry can let go by the configuration's rules; changes nothing.

    What a channel names at any source, target or mirror is in use, wherever its tag is by then. Raises InputError (no
    such registry, no rule for it), RegistryError.
    """
    opened = session.places.registry(registry)
    rules = [each for each in session.config.retention if each.registry == registry]
    if not rules:
        raise InputError(f"no retention rule names {registry}", do="Add one to `retention`; without rules all is kept")
    return plan_retention(opened, rules, now=session.now(), in_use=channel_digests(session))


def channel_digests(session: Session) -> set[Digest]:
    """What the channels of all images name, at their sources, targets and the stops of their mirrors.

    Raises RegistryError: a registry that does not answer is never taken for one that needs nothing.
    """
    digests = set()
    for image in session.config.images.values():
        places: list[Place] = [session.places.source(image)]
        places += [session.places.target(image, target) for target in image.targets]
        for mirror in session.config.mirrors.values():
            if image.name in mirror.images:
                places += session.stops(mirror, image.repository)
        for place in places:
            try:
                digests.add(place.registry.resolve(place.repository, image.channel).digest)
            except NotFound:
                continue
    return digests


def planned(session: Session, registry: str) -> StageResult:
    """Make the plan and give it as a result; ``digest`` is what an approval names."""
    started = time.monotonic()
    retention = plan(session, registry)
    return describe(retention, registry, seconds=time.monotonic() - started)


def describe(retention: RetentionPlan, registry: str, *, seconds: float = 0.0) -> StageResult:
    """A plan that was made or read as a result; not ``ok`` when a repository was refused because something
    about it is unclear."""
    going = list(retention.deletions)
    refused = [f"{each.repository}: {each.refused}" for each in retention.repositories if each.refused]
    staying = sum(len(each.entries) for each in retention.repositories) - len(going)
    return StageResult(
        stage=f"retention:{registry}",
        subject=registry,
        action=f"{len(going)} images can go, {staying} stay" if going else f"nothing can go, {staying} images stay",
        digest=retention.digest,
        seconds=seconds,
        facts={
            "registry": registry,
            "delete": len(going),
            "keep": staying,
            "refused": len(refused),
            "freed_bytes": retention.freed_bytes,
            "made_at": retention.made_at,
        },
        rows=retention.rows(),
        reasons=[*refused, *retention.notes],
        ok=not refused,
    )


def apply(session: Session, registry: str, approved: RetentionPlan) -> StageResult:
    """Delete what an approved plan says, where nothing changed since it was made. Raises InputError (another registry's
    plan, older than a day)."""
    started = time.monotonic()
    done = apply_plan(
        session.places.registry(registry),
        approved,
        in_use=channel_digests(session),
        now=session.now(),
        progress=session.progress,
    )
    fresh = [each for each in done.deleted if not each.already]
    return StageResult(
        stage=f"collect:{registry}",
        subject=registry,
        action=f"{len(fresh)} manifests deleted" if fresh else "unchanged",
        digest=approved.digest,
        changed=bool(fresh),
        seconds=time.monotonic() - started,
        facts={
            "registry": registry,
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
    return list(dict.fromkeys(rule.registry for rule in session.config.retention))
