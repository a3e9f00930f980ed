"""Rules that are a cloud's own policy: what ECR or Artifact Registry would delete is what may go, from any registry.

A policy is evaluated by the room ``lifecycle`` over a list of images: the cloud's own, or what a survey read. What
a policy leaves open (``lifecycle.evaluation.Question``), archives or keeps stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from registry_pipelines.collect.reasons import Ruled, Verdict
from registry_pipelines.collect.rules import RetentionRule, label
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.oci.digest import Digest

if TYPE_CHECKING:  # tables are heavy, and only policies need them
    from registry_pipelines.inventory.survey import Survey
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.lifecycle.evaluation import Evaluation
    from registry_pipelines.lifecycle.words import Policy


class Policies:
    """The rules of a registry, with what their policies say of its images."""

    def __init__(self, rules: Sequence[RetentionRule], judged: Mapping[int, Judged]) -> None:
        self._rules, self._judged = rules, judged

    def of(self, repository: str) -> list[Ruled]:
        """The rules as they are for one repository."""
        return [
            Ruled(rule, label(rule, at + 1), self._judged[at].of(repository) if at in self._judged else None)
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
    return Policies(rules, {at: _evaluated(rules[at], policy, listed, now) for at, policy in policies.items()})


def _evaluated(rule: RetentionRule, policy: Policy, listed: Inventory, now: datetime) -> Judged:
    from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
    from registry_pipelines.lifecycle.ecr_policy import EcrPolicy
    from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar

    covered = {name: rule.covers(name) for name in listed.frame["repository"].unique()}
    mine = listed.only(listed.frame["repository"].map(covered).astype(bool))
    found = (
        evaluate_ecr(policy, mine, now=now) if isinstance(policy, EcrPolicy) else evaluate_gar(policy, mine, now=now)
    )
    return Judged(policy, found)


class Judged:
    """What one policy says: made for one repository when it is asked about."""

    def __init__(self, policy: Policy, found: Evaluation) -> None:
        self._policy, self._found = policy, found
        self._deletes = found.deletes
        self._rows: dict[str, Any] = dict(found.images.inventory.frame.groupby("repository", observed=True).indices)
        self._said: dict[tuple[int, int, int, float, bool], Verdict] = {}

    def of(self, repository: str) -> dict[Digest, Verdict]:
        """By digest."""
        digests = self._found.images.inventory.frame["digest"]
        rows = self._rows.get(repository, ())
        return {Digest(digests.iat[at]): self._verdict(int(at)) for at in rows}

    def _verdict(self, at: int) -> Verdict:
        from registry_pipelines.lifecycle.evaluation import Outcome
        from registry_pipelines.lifecycle.words import questions_text, why

        found, goes = self._found, bool(self._deletes[at])
        measured = round(float(found.measured[at]), 1)
        key = (int(found.rule[at]), int(found.cause[at]), int(found.questions[at]), measured, goes)
        if (verdict := self._said.get(key)) is not None:
            return verdict
        told = [why(self._policy, found, at), *questions_text(found, at)]
        if found.outcome[at] == Outcome.TRANSITION:
            told.append("collect archives nothing")
        verdict = Verdict(goes, "; ".join(told))
        if len(self._said) < _MOST_SAID:
            self._said[key] = verdict
        return verdict


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
