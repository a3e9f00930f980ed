"""Rules that are a cloud's own policy: what ECR or Artifact Registry would delete is what may go, from any registry.

A policy is evaluated by the room ``lifecycle`` over a list of images: the cloud's own, or what a survey read. What
a policy leaves open (``lifecycle.evaluation.Question``), archives or keeps stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.collect.reasons import Ruled, Verdict
from registry_pipelines.collect.rules import RetentionRule, label
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.oci.digest import Digest

if TYPE_CHECKING:  # tables are heavy, and only policies need them
    from registry_pipelines.inventory.survey import Survey
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.lifecycle.words import Policy

Judged = Mapping[str, Mapping[Digest, Verdict]]
"""By repository."""


class Policies:
    """The rules of a registry, with what their policies say of its images."""

    def __init__(self, rules: Sequence[RetentionRule], judged: Mapping[int, Judged]) -> None:
        self._rules, self._judged = rules, judged

    def of(self, repository: str) -> list[Ruled]:
        """The rules as they are for one repository."""
        return [
            Ruled(rule, label(rule, at + 1), self._judged[at].get(repository, {}) if at in self._judged else None)
            for at, rule in enumerate(self._rules)
        ]


def read_policies(rules: Sequence[RetentionRule]) -> dict[int, Policy]:
    """The policies of rules, by the rule's place. Raises InputError, LifecycleInvalid, ToolMissing (tables)."""
    found: dict[int, Policy] = {}
    for at, rule in enumerate(rules):
        if rule.policy is None:
            if rule.semantics is not None:
                raise InputError(f"{label(rule, at + 1)} has `semantics` and no `policy`", do="Name the policy's file")
            continue
        need_tables()
        from registry_pipelines.lifecycle.reading import read_policy

        try:
            text = rule.policy.read_text()
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is no text"
            raise InputError(f"the policy cannot be read: {said}", where=str(rule.policy)) from error
        found[at] = read_policy(text, where=str(rule.policy), kind=rule.semantics or "")
    return found


def judge(
    rules: Sequence[RetentionRule], policies: Mapping[int, Policy], listed: Inventory | None, now: datetime
) -> Policies:
    """Evaluate the policies over the images of one registry, a list that may be missing where there is no policy. now:
    with time zone."""
    if not policies or listed is None:
        return Policies(rules, {})
    return Policies(rules, {at: _verdicts(rules[at], policy, listed, now) for at, policy in policies.items()})


def _verdicts(rule: RetentionRule, policy: Policy, listed: Inventory, now: datetime) -> Judged:
    from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
    from registry_pipelines.lifecycle.ecr_policy import EcrPolicy
    from registry_pipelines.lifecycle.evaluation import Outcome
    from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar
    from registry_pipelines.lifecycle.words import questions_text, why

    covered = {name: rule.covers(name) for name in listed.frame["repository"].unique()}
    mine = listed.only(listed.frame["repository"].map(covered).astype(bool))
    found = (
        evaluate_ecr(policy, mine, now=now) if isinstance(policy, EcrPolicy) else evaluate_gar(policy, mine, now=now)
    )
    deletes, archives = found.deletes, found.outcome == Outcome.TRANSITION
    judged: dict[str, dict[Digest, Verdict]] = {}
    rows = zip(mine.frame["repository"], mine.frame["digest"], strict=True)
    said: dict[tuple[int, int, int, float, bool], Verdict] = {}
    for at, (repository, digest) in enumerate(rows):
        key = (
            int(found.rule[at]),
            int(found.cause[at]),
            int(found.questions[at]),
            round(float(found.measured[at]), 1),
            bool(deletes[at]),
        )
        verdict = said.get(key)
        if verdict is None:
            told = [*questions_text(found, at), *(["collect archives nothing"] if archives[at] else [])]
            verdict = Verdict(bool(deletes[at]), "; ".join([why(policy, found, at), *told]))
            if len(said) < _MOST_SAID:
                said[key] = verdict
        judged.setdefault(repository, {})[Digest(digest)] = verdict
    return judged


_MOST_SAID = 100_000
"""Sentences that are kept to be said again; of a million images most share theirs."""


def inventory_of(registry: str, surveys: Iterable[Survey], now: datetime) -> Inventory:
    """What surveys read as a list of images, for policies. The image's own time stands for the push, which the
    distribution protocol does not tell."""
    from registry_pipelines.inventory.from_survey import survey_rows
    from registry_pipelines.inventory.rows import Rows
    from registry_pipelines.inventory.value import Source

    rows = Rows()
    for surveyed in surveys:
        for row in survey_rows(registry, surveyed, now):
            rows.add(row._replace(pushed=row.created))
    return rows.inventory([Source(registry=registry, kind="survey", answered=now, images=rows.count)], ordered=False)
