"""Retention plans as they are stored, signed, found again and believed: what an approval names by digest."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.rules import rules_digest
from registry_pipelines.collect.stored import Done, PlanStore, copy_plan, read_signed
from registry_pipelines.errors import DigestInvalid, InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text

UNSIGNED = "no key of the promoter is here: the plan is not signed, and cannot be applied later"


def plan_store(session: Session) -> PlanStore:
    """The plans that are kept."""
    return PlanStore(session.documents.under("collect/plans"))


def keep_plan(session: Session, registry: str, plan: RetentionPlan, *, also: Path | None = None) -> bool:
    """Store a plan where an approval finds it by its digest; False where no key signed it. also: a further file for it,
    the signature beside it. Raises InputError (a key that cannot be read), LocalError."""
    signer = session.keys.at_hand("promoter")
    store = plan_store(session)
    digest = store.save(plan, registry=registry, quarantine=session.config.collect.quarantine, signer=signer)
    if also is not None and (path := store.find(digest)):
        copy_plan(path, also)
    return signer is not None


def approved_plan(session: Session, registry: str, named: str) -> RetentionPlan:
    """The plan that an approval names, by its digest or its file, once its signature, its registry and the rules of
    today agree. Raises InputError, SignatureInvalid; the plan's age and the world are looked at when it is applied."""
    path = _path_of(session, named)
    plan, statement = read_signed(path, session.keys.trusted())
    where = str(path)
    if statement.registry != registry:
        raise InputError(f"the plan is for {statement.registry}", where=where, do=f"Make a plan for {registry}")
    if plan.rules != rules_digest([rule for rule in session.config.rules if rule.registry == registry]):
        raise InputError(
            "the rules of the configuration are not those of the plan", where=where, do="Make a new plan, and read it"
        )
    if statement.quarantine != session.config.collect.quarantine:
        raise InputError(
            f"the plan sets aside for {count_text(statement.quarantine, 'day')}, and the configuration says "
            f"{session.config.collect.quarantine}",
            where=where,
            do="Make a new plan, and read it",
        )
    return plan


def _path_of(session: Session, named: str) -> Path:
    """A file as it is named, or the stored plan of a digest. Nothing is found by the beginning of one."""
    try:
        digest = Digest.parse(named)
    except DigestInvalid:
        return Path(named)
    store = plan_store(session)
    path = store.find(digest)
    if path is None:
        raise InputError(
            f"no plan {digest} is kept here", where=store.where, do="Make one: registry-pipelines collect plan"
        )
    return path


def done_before(session: Session, plan: RetentionPlan) -> Done | None:
    """When a plan was wholly applied; None where there is something left to do."""
    done = plan_store(session).done(plan.digest)
    return done if done and done.ok else None


def note_done(session: Session, plan: RetentionPlan, *, ok: bool, deleted: int, refused: int) -> None:
    """Keep that a plan was applied. Raises LocalError."""
    at = session.now().isoformat(timespec="seconds")
    plan_store(session).note(plan.digest, Done(at=at, ok=ok, deleted=deleted, refused=refused))
