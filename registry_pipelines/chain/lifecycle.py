"""Policies of clouds as results: checked, explained on an inventory, held against AWS's preview, converted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.errors import InputError, LocalError, Unavailable
from registry_pipelines.lifecycle.ecr_policy import EcrPolicy
from registry_pipelines.lifecycle.gar_policy import GarPolicies
from registry_pipelines.lifecycle.reading import ECR, kind_of, read_policy
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.chain.session import Session
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.lifecycle.aws_preview import AwsPreview
    from registry_pipelines.lifecycle.evaluation import Evaluation

Policy = EcrPolicy | GarPolicies
MOST_ROWS = 10_000
"""Images of one answer; ``--output`` writes all."""


def load_policy(path: Path, *, kind: str = "") -> Policy:
    """A policy's file. Raises InputError, LifecycleInvalid."""
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"the policy cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("the policy is no text", where=str(path)) from error
    return read_policy(text, where=str(path), kind=kind)


def checked(path: Path, *, kind: str = "") -> StageResult:
    """The rules of a policy that its cloud takes. Raises LifecycleInvalid with every problem of one that it refuses."""
    started = time.monotonic()
    policy = load_policy(path, kind=kind)
    rows = list(_rule_rows(policy))
    return StageResult(
        stage="lifecycle check",
        subject=str(path),
        action=f"{kind_of(policy)}: {count_text(len(rows), 'rule')}, nothing is wrong",
        seconds=time.monotonic() - started,
        facts={"kind": kind_of(policy), "rules": len(rows), "warnings": len(policy.warnings)},
        rows=rows,
        notes=policy.warnings,
    )


def _rule_rows(policy: Policy) -> Iterator[dict[str, Scalar]]:
    if isinstance(policy, EcrPolicy):
        for rule in policy.rules:
            acts = "archives" if rule.transitions else "deletes"
            yield {"rule": rule.name, "action": acts, "images": rule.about, "description": rule.description}
        return
    for each in policy.policies:
        plain = each.plain()
        about = plain.get("mostRecentVersions") or plain["condition"]
        told = ", ".join(f"{name} {_flat(value)}" for name, value in about.items())
        yield {"rule": each.name, "action": "keeps" if each.keeps else "deletes", "images": told, "description": ""}


def _flat(value: Any) -> str:
    return "|".join(value) if isinstance(value, list) else str(value)


def evaluate(policy: Policy, inventory: Inventory, *, now: datetime, immutable_tags: bool = False) -> Evaluation:
    """The policy's effect on every image. immutable_tags: of Artifact Registry's repository."""
    if isinstance(policy, EcrPolicy):
        from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr

        return evaluate_ecr(policy, inventory, now=now)
    from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar

    return evaluate_gar(policy, inventory, now=now, immutable_tags=immutable_tags)


def explained(
    policy: Policy, inventory: Inventory, *, subject: str, now: datetime, everything: bool, immutable_tags: bool = False
) -> StageResult:
    """Each image with what happens to it, the rule, and why. everything: also what stays without a question. Not ``ok``
    where the inventory is not whole: of a list that broke off, rules that count keep more than they will."""
    import numpy as np

    started = time.monotonic()
    evaluation = evaluate(policy, inventory, now=now, immutable_tags=immutable_tags)
    told = (evaluation.outcome != 0) | evaluation.undecided
    which = np.arange(evaluation.images.count) if everything else np.flatnonzero(told)
    rows = [image_row(policy, evaluation, int(at)) for at in which[:MOST_ROWS]]
    left = len(which) - len(rows)
    notes, missing = [*policy.warnings, *_unknown(inventory)], list(_unread(inventory))
    if left:
        notes.append(f"{count_text(left, 'more image')} not listed here; --output FILE writes all")
    return StageResult(
        stage="lifecycle explain",
        subject=subject,
        action=_summary(evaluation),
        seconds=time.monotonic() - started,
        facts=facts(evaluation),
        rows=rows,
        tables={"rules": rule_totals(policy, evaluation)},
        reasons=missing,
        notes=notes,
        ok=not missing,
        exit_code=Unavailable.exit_code if missing else 0,
    )


def image_row(policy: Policy, evaluation: Evaluation, at: int) -> dict[str, Scalar]:
    """One image for tables."""
    from registry_pipelines.lifecycle.words import outcome_text, questions_text, rule_text, why

    row = evaluation.images.row(at)
    return {
        "repository": row["repository"],
        "digest": row["digest"],
        "tags": ", ".join(row["tags"]),
        "outcome": outcome_text(evaluation, at),
        "rule": rule_text(evaluation, at),
        "why": "; ".join([why(policy, evaluation, at), *questions_text(evaluation, at)]),
        "size_bytes": int(row["size_bytes"] or 0),
    }


def facts(evaluation: Evaluation) -> Mapping[str, Scalar]:
    """Numbers of an evaluation. deleted_bytes: sizes as the registry says them, in which layers that images share
    count each time."""
    from registry_pipelines.lifecycle.evaluation import Outcome

    total = int(evaluation.images.size_bytes.sum())
    return {
        "images": evaluation.images.count,
        "delete": int(evaluation.deletes.sum()),
        "archive": evaluation.count(Outcome.TRANSITION),
        "undecided": int(evaluation.undecided.sum()),
        "total_bytes": total,
        "deleted_bytes": evaluation.deleted_bytes,
        "saved_percent": round(100 * evaluation.deleted_bytes / total, 1) if total else 0.0,
    }


def rule_totals(policy: Policy, evaluation: Evaluation) -> list[dict[str, Scalar]]:
    """By rule: images it is the one to decide on, what goes by it and the bytes of that."""
    import numpy as np

    rows: list[dict[str, Scalar]] = []
    for number, name in enumerate(evaluation.names):
        mine = evaluation.rule == number
        gone = mine & evaluation.deletes
        rows.append(
            {
                "rule": name,
                "images": int(mine.sum()),
                "delete": int(gone.sum()),
                "archive": int((mine & (evaluation.outcome == 2)).sum()),
                "undecided": int((mine & evaluation.undecided).sum()),
                "deleted_bytes": int(evaluation.images.size_bytes[gone].sum()),
            }
        )
    no_rule = int(np.count_nonzero(evaluation.rule < 0))
    nothing: dict[str, Scalar] = {"delete": 0, "archive": 0, "undecided": 0, "deleted_bytes": 0}
    return [*rows, {"rule": "none", "images": no_rule, **nothing}]


def _summary(evaluation: Evaluation) -> str:
    told = facts(evaluation)
    parts = [f"{told['delete']} of {count_text(int(told['images']), 'image')} go"]
    parts += [f"{told['archive']} are archived"] if told["archive"] else []
    parts += [f"{told['undecided']} stay undecided"] if told["undecided"] else []
    return f"{', '.join(parts)}; {size_text(int(told['deleted_bytes']))} ({told['saved_percent']} %)"


def _unread(inventory: Inventory) -> Iterator[str]:
    """What the inventory lacks, so that what is said here may be wrong."""
    for source in inventory.sources:
        for each in source.unread:
            said = "could not be read, and what is said of it is not whole"
            yield f"{source.registry}: {each.what} {said}: {each.problem}"


def _unknown(inventory: Inventory) -> Iterator[str]:
    """What no list told of its images."""
    for source in inventory.sources:
        yield from (f"{source.registry}: {note}" for note in source.notes)


def compared(evaluation: Evaluation, previews: Iterable[AwsPreview], *, subject: str) -> StageResult:
    """AWS's own previews beside an evaluation: not ``ok`` when AWS says otherwise of an image that was not open."""
    from registry_pipelines.lifecycle.aws_preview import differences

    started = time.monotonic()
    rows: list[dict[str, Scalar]] = []
    acts = asked = 0
    for preview in previews:
        asked, acts = asked + 1, acts + len(preview.acts)
        for each in differences(evaluation, preview):
            kind = "answers what is open" if each.open else "differs"
            rows.append(
                {
                    "repository": preview.repository,
                    "digest": each.digest,
                    "aws": each.aws,
                    "ours": each.ours,
                    "difference": kind,
                }
            )
    wrong = [row for row in rows if row["difference"] == "differs"]
    answered = len(rows) - len(wrong)
    said = f"AWS acts on {count_text(acts, 'image')}" + (
        f", says otherwise of {len(wrong)}" if wrong else ", as we say"
    )
    return StageResult(
        stage="lifecycle preview",
        subject=subject,
        action=said + (f", decides {answered} that were open" if answered else ""),
        seconds=time.monotonic() - started,
        facts={**facts(evaluation), "previews": asked, "aws_acts": acts, "different": len(wrong), "answered": answered},
        rows=rows,
        reasons=[f"{row['repository']}@{row['digest']}: AWS: {row['aws']}; ours: {row['ours']}" for row in wrong],
        ok=not wrong,
    )


def converted(policy: Policy, *, subject: str) -> tuple[StageResult, str]:
    """The policy for the other cloud with what it cannot say there, and its text (empty where nothing is left)."""
    from registry_pipelines.lifecycle.convert import to_ecr, to_gar

    started = time.monotonic()
    done = to_gar(policy) if isinstance(policy, EcrPolicy) else to_ecr(policy)
    target = "gar" if kind_of(policy) == ECR else "ecr"
    rows = list(_rule_rows(done.policy)) if done.policy is not None else []
    said = "the same images" if not done.notes else f"not all of it translates: {count_text(len(done.notes), 'note')}"
    result = StageResult(
        stage="lifecycle convert",
        subject=subject,
        action=f"to {target}: {count_text(len(rows), 'rule')}; {said}",
        seconds=time.monotonic() - started,
        facts={"kind": target, "rules": len(rows), "notes": len(done.notes), "policy": _text(done.policy)},
        rows=rows,
        reasons=() if done.policy is not None else done.notes,
        notes=done.notes if done.policy is not None else (),
        ok=done.policy is not None,
    )
    return result, _text(done.policy)


def asked_aws(session: Session, registry: str, repositories: Iterable[str], policy: str | None) -> Iterator[AwsPreview]:
    """AWS's own preview of each repository of an ECR registry. policy: a text in place of the repositories' own.
    Raises InputError for a registry of another kind, RegistryError."""
    from registry_pipelines.config.clouds import EcrRegistry
    from registry_pipelines.lifecycle.aws_preview import preview

    settings = session.config.registries.get(registry)
    if not isinstance(settings, EcrRegistry):
        raise InputError(f"{registry} is no registry of kind ecr, and only AWS has a preview of its own")
    calls = session.places.aws(settings)

    def call(operation: str, **parameters: Any) -> Mapping[str, Any]:
        where = f"{registry}/{parameters['repositoryName']}"
        return calls.call(operation, where=where, doing="previewing a lifecycle policy", **parameters)

    for repository in repositories:
        yield preview(call, repository, registry_id=settings.account, policy=policy)


def previewed(session: Session, policy: EcrPolicy, registry: str, repositories: Sequence[str] = ()) -> StageResult:
    """A policy on the repositories of an ECR registry beside AWS's own preview, see :func:`compared`."""
    from registry_pipelines.chain.inventory import read

    inventory = read(session, [registry], repositories=repositories)
    names = sorted(inventory.frame["repository"].unique())
    previews = asked_aws(session, registry, names, policy.text())
    result = compared(evaluate(policy, inventory, now=session.now()), previews, subject=registry)
    missing = list(_unread(inventory))
    return replace(
        result,
        reasons=[*missing, *result.reasons],
        notes=[*policy.warnings, *_unknown(inventory)],
        ok=result.ok and not missing,
        exit_code=Unavailable.exit_code if missing else result.exit_code,
    )


def _text(policy: Policy | None) -> str:
    return policy.text() if policy is not None else ""


def write_evaluation(policy: Policy, evaluation: Evaluation, path: Path) -> None:
    """Every image with its outcome, as Parquet or CSV: the inventory's columns, then outcome, rule, why and
    undecided. Raises InputError (another ending), LocalError."""
    from registry_pipelines.lifecycle.table import write_table

    try:
        write_table(policy, evaluation, path)
    except OSError as error:
        raise LocalError(f"the table cannot be written: {error.strerror or error}", where=str(path)) from error
