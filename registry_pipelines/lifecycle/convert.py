"""One cloud's policy as the other's, and everything that the other cannot say.

What does not translate is left out or made to keep more, never to delete more; each time a note says so. A conversion
without notes deletes the same images (tests hold both evaluations against each other).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from registry_pipelines.lifecycle.ecr_policy import COUNT, MOST_RULES, PUSHED, EcrPolicy, EcrRule
from registry_pipelines.lifecycle.gar_policy import MOST_POLICIES, GarPolicies, GarPolicy
from registry_pipelines.progress import count_text

FOREVER_DAYS = 36_500
"""A rule of ECR that shields images and never acts: a hundred years."""


@dataclass(frozen=True)
class Converted:
    """A policy of the other cloud. policy: None where nothing of it can be said there. notes: what is said otherwise,
    one sentence each."""

    policy: EcrPolicy | GarPolicies | None
    notes: tuple[str, ...]


def to_gar(policy: EcrPolicy) -> Converted:
    """ECR's rules as cleanup policies. A rule of ECR also shields what it is about from later rules; here a policy that
    keeps does so, which also counts against earlier ones."""
    made: list[GarPolicy] = []
    notes: list[str] = []
    for at, rule in enumerate(policy.rules):
        later, earlier = policy.rules[at + 1 :], policy.rules[:at]
        made += _one_to_gar(rule, earlier, later, notes)
    if len(made) > MOST_POLICIES:
        notes.append(
            f"{count_text(len(made), 'policy', 'policies')}, of which a repository "
            f"takes {MOST_POLICIES}: nothing is written"
        )
        return Converted(None, tuple(notes))
    if not any(not each.keeps for each in made):
        notes.append("nothing that deletes is left, so there is nothing to write")
        return Converted(None, tuple(notes))
    return Converted(GarPolicies(tuple(made)), tuple(notes))


def _one_to_gar(
    rule: EcrRule, earlier: Sequence[EcrRule], later: Sequence[EcrRule], notes: list[str]
) -> list[GarPolicy]:
    said = f"{rule.name} ({rule.about})"
    if rule.archive:
        notes.append(f"{said}: Artifact Registry has no archive; left out")
        return []
    chosen, whole = _chosen(rule)
    if chosen is None:
        notes.append(f"{said}: tags can only be told by one prefix; everything that has a tag is kept in its place")
        return [GarPolicy(f"rule-{rule.priority}-keep", True, tag_state="TAGGED")] if later or earlier else []
    if rule.transitions or not whole:
        what = "there is no archive" if rule.transitions else "a tag can only be told by a prefix"
        notes.append(f"{said}: {what}; what it is about is kept")
        return [replace(chosen, id=f"rule-{rule.priority}-keep", keeps=True)] if later or earlier else []
    if rule.count_type == COUNT:
        return _count_to_gar(rule, chosen, bool(earlier or later), said, notes)
    age = timedelta(days=rule.number)
    policies = [replace(chosen, id=f"rule-{rule.priority}", older_than=age)]
    if later:
        policies.append(replace(chosen, id=f"rule-{rule.priority}-keep", keeps=True, newer_than=age))
        if any(_overlap(rule, other) for other in earlier):
            notes.append(
                f"{said}: what it holds back from later rules it holds back from earlier ones, too: keeping wins there"
            )
    return policies


def _count_to_gar(rule: EcrRule, chosen: GarPolicy, among_others: bool, said: str, notes: list[str]) -> list[GarPolicy]:
    """A count is of a whole package there, and not of some tags."""
    if rule.tag_status != "any":
        notes.append(
            f"{said}: keepCount counts every version of a package, and cannot count these alone; they are kept"
        )
        return [replace(chosen, id=f"rule-{rule.priority}-keep", keeps=True)]
    kept = GarPolicy(f"rule-{rule.priority}-newest", True, keep_count=rule.number)
    if among_others:
        notes.append(f"{said}: its newest are kept also from the other rules, for keeping wins there")
    return [replace(chosen, id=f"rule-{rule.priority}"), kept]


def _chosen(rule: EcrRule) -> tuple[GarPolicy | None, bool]:
    """The rule's images as a condition, and whether it is exactly these; a condition that is not exact names more."""
    if rule.tag_status != "tagged":
        return GarPolicy("", False, tag_state="UNTAGGED" if rule.tag_status == "untagged" else "ANY"), True
    if rule.patterns == ("*",):
        return GarPolicy("", False, tag_state="TAGGED"), True
    [first, *others] = rule.patterns
    prefix = first.partition("*")[0]
    if not prefix:
        return None, False
    exact = not others and first == f"{prefix}*"
    return GarPolicy("", False, tag_state="TAGGED", tag_prefixes=(prefix,)), exact


def _overlap(one: EcrRule, other: EcrRule) -> bool:
    """Whether an image can match both; unsure is yes."""
    return "any" in (one.tag_status, other.tag_status) or one.tag_status == other.tag_status


def to_ecr(policies: GarPolicies) -> Converted:
    """Cleanup policies as ECR's rules: what keeps comes first and shields, what deletes follows. One rule has one
    limit, so that a policy with an age and a kept number at once is not said."""
    notes: list[str] = []
    keeping = [policy for policy in policies.policies if policy.keeps]
    deleting = [policy for policy in policies.policies if not policy.keeps]
    counts = [policy for policy in keeping if policy.keep_count is not None]
    rules: list[EcrRule] = []
    for policy in keeping:
        if policy.keep_count is None:
            rules += _keeping_to_ecr(policy, notes)
    for policy in deleting:
        rules += _deleting_to_ecr(policy, counts, notes)
    rules = _ordered(rules, notes)
    if not any(rule.number < FOREVER_DAYS for rule in rules):
        notes.append("nothing that deletes is left, so there is nothing to write")
        return Converted(None, tuple(notes))
    if len(rules) > MOST_RULES:
        notes.append(f"{len(rules)} rules, of which a policy takes {MOST_RULES}: nothing is written")
        return Converted(None, tuple(notes))
    return Converted(EcrPolicy(tuple(rules)), tuple(notes))


def _keeping_to_ecr(policy: GarPolicy, notes: list[str]) -> list[EcrRule]:
    narrow = [
        text
        for text, told in (
            ("the age", policy.older_than or policy.newer_than),
            ("the package", policy.package_name_prefixes),
            ("the version", policy.version_name_prefixes),
        )
        if told
    ]
    if narrow:
        notes.append(f"{policy.name}: ECR has no rule that keeps by {' and '.join(narrow)}; all of its tags are kept")
    return _rules(policy, FOREVER_DAYS)


def _deleting_to_ecr(policy: GarPolicy, counts: Sequence[GarPolicy], notes: list[str]) -> list[EcrRule]:
    for told, text in (
        (policy.version_name_prefixes, "the version's name"),
        (policy.newer_than, "being newer than an age"),
    ):
        if told:
            notes.append(f"{policy.name}: ECR cannot choose by {text}; left out, nothing of it is deleted")
            return []
    if policy.package_name_prefixes:
        names = ", ".join(policy.package_name_prefixes)
        notes.append(f"{policy.name}: set this policy only on repositories whose name begins with {names}")
    if not counts:
        return _aged(policy, notes)
    most = max(each.keep_count or 0 for each in counts)
    if policy.tag_state == "ANY" and policy.older_than is None:
        if len(counts) > 1 or any(each.package_name_prefixes for each in counts):
            notes.append(f"{policy.name}: the greatest keepCount ({most}) holds for every repository")
        return [EcrRule(0, "any", (), COUNT, most)]
    notes.append(
        f"{policy.name}: keepCount ({most}) keeps the newest whatever their tags and age, and a rule of ECR "
        "has one limit; left out, nothing of it is deleted"
    )
    return []


def _aged(policy: GarPolicy, notes: list[str]) -> list[EcrRule]:
    """A policy that deletes by age: whole days, at least one."""
    span = policy.older_than or timedelta(0)
    days = max(1, math.ceil(span / timedelta(days=1)))
    if timedelta(days=days) != span:
        notes.append(f"{policy.name}: ECR counts whole days, at least one; older than {days} here")
    return _rules(policy, days)


def _rules(policy: GarPolicy, days: int) -> list[EcrRule]:
    """A rule for each prefix: an image needs any of them, and all those of one rule."""
    if policy.tag_state != "TAGGED":
        return [EcrRule(0, "untagged" if policy.tag_state == "UNTAGGED" else "any", (), PUSHED, days)]
    patterns = [f"{prefix}*" for prefix in policy.tag_prefixes] or ["*"]
    return [EcrRule(0, "tagged", (pattern,), PUSHED, days) for pattern in patterns]


def _ordered(rules: Sequence[EcrRule], notes: list[str]) -> list[EcrRule]:
    """Priorities: what keeps, then short ages before long ones, for the first rule that an image matches is its only
    one, and the shortest age is what several policies that delete come to. `any` is last by ECR's rules."""
    keeping = [rule for rule in rules if rule.number == FOREVER_DAYS and rule.count_type == PUSHED]
    if any(rule.tag_status == "any" for rule in keeping):
        notes.append("a policy keeps every version, so that nothing is deleted")
        return []
    rest = sorted(
        (rule for rule in rules if rule not in keeping), key=lambda rule: (rule.tag_status == "any", rule.number)
    )
    made: list[EcrRule] = []
    for rule in [*keeping, *rest]:
        same = [each for each in made if (each.tag_status, each.patterns) == (rule.tag_status, rule.patterns)]
        if same:  # an earlier one has all of its images
            continue
        made.append(rule)
    everything = next((rule for rule in made if rule.tag_status == "any"), None)
    if everything is not None and everything.count_type == PUSHED:
        longer = [
            rule for rule in made if rule not in keeping and rule is not everything and rule.number > everything.number
        ]
        made = [rule for rule in made if rule not in longer]
    elif everything is not None and len(made) > 1:
        notes.append("what a rule for tags is about is not deleted by the rule for any, though it counts there")
    return [replace(rule, priority=at) for at, rule in enumerate(made, 1)]
