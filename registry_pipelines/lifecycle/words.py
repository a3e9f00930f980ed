"""The sentences of an evaluation: what happens to one image, and why."""

from __future__ import annotations

import math

from registry_pipelines.lifecycle.ecr_policy import COUNT, PULLED, TRANSITIONED, EcrPolicy, EcrRule
from registry_pipelines.lifecycle.evaluation import QUESTIONS, Cause, Evaluation, Outcome
from registry_pipelines.lifecycle.gar_policy import GarPolicies, GarPolicy

Policy = EcrPolicy | GarPolicies

OUTCOMES = {Outcome.KEEP: "stays", Outcome.EXPIRE: "goes", Outcome.TRANSITION: "archived", Outcome.FOLLOWS: "goes"}


def outcome_text(evaluation: Evaluation, at: int) -> str:
    """``stays``, ``goes``, ``archived`` or ``undecided, stays``."""
    outcome = OUTCOMES[Outcome(int(evaluation.outcome[at]))]
    return f"undecided, {outcome}" if evaluation.questions[at] else outcome


def questions_text(evaluation: Evaluation, at: int) -> list[str]:
    """What decides on this image and is not decided, one sentence each."""
    bits = int(evaluation.questions[at])
    return [text for question, text in QUESTIONS.items() if bits & question]


def rule_text(evaluation: Evaluation, at: int) -> str:
    """The rule that decided, or nothing."""
    number = int(evaluation.rule[at])
    return evaluation.names[number] if number >= 0 else ""


def why(policy: Policy, evaluation: Evaluation, at: int) -> str:
    """Why this happens to the image in row ``at``, in one sentence."""
    cause = Cause(int(evaluation.cause[at]))
    told = _CAUSES.get(cause)
    if told is not None:
        return told
    number = int(evaluation.rule[at])
    measured = float(evaluation.measured[at])
    if isinstance(policy, EcrPolicy):
        return _ecr_why(policy.rules[number], cause, measured)
    return _gar_why(policy.policies[number], cause, measured)


_CAUSES = {
    Cause.NO_RULE: "no rule is about it",
    Cause.CHILD: "an index that stays lists it",
    Cause.SUBJECT_STAYS: "what it refers to stays",
    Cause.SUBJECT_GOES: "what it refers to goes",
    Cause.IMMUTABLE: "the repository's tags are immutable, and it has one",
    Cause.RESTORING: "it is being restored from the archive",
}

_SINCE = {PULLED: "used last", TRANSITIONED: "archived"}


def _ecr_why(rule: EcrRule, cause: Cause, measured: float) -> str:
    about = f"{rule.name} ({rule.about})"
    if rule.count_type == COUNT:
        said = "its age is not known" if math.isnan(measured) else f"{int(measured)} that match are younger"
    else:
        since = _SINCE.get(rule.count_type, "pushed")
        said = "the time is not known" if math.isnan(measured) else f"{since} {_days(measured)} ago"
    held = "; no later rule may act on it" if cause == Cause.WITHIN else ""
    return f"{about}: {said}{held}"


def _gar_why(policy: GarPolicy, cause: Cause, measured: float) -> str:
    age = "its age is not known" if math.isnan(measured) else f"uploaded {_days(measured)} ago"
    if cause == Cause.KEPT:
        return f"{policy.name} keeps it, which counts more than any that deletes: {age}"
    verb = "keeps it by our reading" if policy.keeps else "deletes it" if cause == Cause.ACTS else "may delete it"
    return f"{policy.name} {verb}: {age}"


def _days(days: float) -> str:
    return f"{days:.1f}" + " days"  # 1.0 are many
