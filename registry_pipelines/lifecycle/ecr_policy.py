"""ECR's lifecycle policy: the grammar of the user guide's "Lifecycle policy properties" and of PutLifecyclePolicy.

A policy is the very text that is given to AWS. What AWS refuses is refused here, all of it at once and before a call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from registry_pipelines.lifecycle.document import (
    MISSING,
    Problems,
    known,
    mapping,
    number,
    read_json,
    shown,
    texts,
    word,
)
from registry_pipelines.lifecycle.pull_clock import PULLED_EXPIRES, instead
from registry_pipelines.progress import count_text

FEWEST_CHARACTERS, MOST_CHARACTERS = 100, 30_720
"""Of a policy's text (LifecyclePolicyText in ECR's API model)."""
MOST_RULES = 50
MOST_WILDCARDS = 4
"""In one pattern."""
FEWEST_ARCHIVED_DAYS = 90
"""An archived image is kept, and paid for, so long."""

TagStatus = Literal["tagged", "untagged", "any"]
CountType = Literal["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned"]
COUNT: CountType = "imageCountMoreThan"
PUSHED: CountType = "sinceImagePushed"
PULLED: CountType = "sinceImagePulled"
TRANSITIONED: CountType = "sinceImageTransitioned"


@dataclass(frozen=True)
class EcrRule:
    """One rule. patterns: tags as the rule writes them, all of which an image must have; a prefix is a pattern that
    ends in ``*`` (``prefixes`` says that it was written so). number: images or days. transitions: to the archive;
    otherwise it expires."""

    priority: int
    tag_status: TagStatus
    patterns: tuple[str, ...]
    count_type: CountType
    number: int
    transitions: bool = False
    archive: bool = False
    prefixes: bool = False
    description: str = ""

    @property
    def name(self) -> str:
        """``rule 10``."""
        return f"rule {self.priority}"

    @property
    def about(self) -> str:
        """``tagged prod*; keeps the newest 10``, ``untagged; 7 days since the push``."""
        first = " ".join([self.tag_status, *self.patterns[:1]])
        chosen = " and ".join([first, *self.patterns[1:]])
        chosen = f"{chosen} in the archive" if self.archive else chosen
        if self.count_type == COUNT:
            return f"{chosen}; keeps the newest {self.number}"
        since = {PULLED: "the last pull", TRANSITIONED: "it was archived"}.get(self.count_type, "the push")
        return f"{chosen}; {count_text(self.number, 'day')} since {since}"

    def plain(self) -> dict[str, Any]:
        """The rule as the policy's JSON has it."""
        selection: dict[str, Any] = {"tagStatus": self.tag_status}
        if self.patterns:
            written = [each[:-1] for each in self.patterns] if self.prefixes else list(self.patterns)
            selection["tagPrefixList" if self.prefixes else "tagPatternList"] = written
        if self.archive:
            selection["storageClass"] = "archive"
        selection["countType"] = self.count_type
        if self.count_type != COUNT:
            selection["countUnit"] = "days"
        selection["countNumber"] = self.number
        action = {"type": "transition", "targetStorageClass": "archive"} if self.transitions else {"type": "expire"}
        described = {"description": self.description} if self.description else {}
        return {"rulePriority": self.priority, **described, "selection": selection, "action": action}


@dataclass(frozen=True)
class EcrPolicy:
    """Rules by priority, the first one first. warnings: what AWS takes and is hardly meant so."""

    rules: tuple[EcrRule, ...]
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """The policy's JSON, for PutLifecyclePolicy."""
        return json.dumps({"rules": [rule.plain() for rule in self.rules]}, indent=2)


def read_ecr_policy(text: str, *, where: str = "") -> EcrPolicy:
    """Read a policy's text. Raises LifecycleInvalid with every problem: those of each field, and those between
    rules (priorities, `any` last, one rule for untagged images, prefixes that stand twice, each per storage class)."""
    problems = Problems()
    document = mapping(read_json(text, where=where), "the policy", problems)
    if document is None:
        problems.end(where)
        return EcrPolicy(())
    if len(text) > MOST_CHARACTERS or len(text) < FEWEST_CHARACTERS:
        problems.add("", f"{len(text)} characters; a policy has {FEWEST_CHARACTERS} to {MOST_CHARACTERS}")
    known(document, ["rules"], "", problems)
    found = document.get("rules", MISSING)
    if not isinstance(found, list) or not found:
        problems.add("rules", "must be a list with at least one rule")
        found = []
    if len(found) > MOST_RULES:
        problems.add("rules", f"{len(found)} rules; at most {MOST_RULES}")
    rules = [_rule(each, f"rules[{at}]", problems) for at, each in enumerate(found)]
    whole = [(f"rules[{at}]", rule) for at, rule in enumerate(rules) if rule is not None]
    _between(whole, problems)
    last = max((rule.priority for _, rule in whole), default=0)
    problems.end(where, free=last + 1)
    return EcrPolicy(
        tuple(sorted((rule for _, rule in whole), key=lambda rule: rule.priority)), tuple(problems.warnings)
    )


def _rule(value: Any, path: str, problems: Problems) -> EcrRule | None:
    """A rule; None where so much of it is wrong that it cannot be compared with others."""
    rule = mapping(value, path, problems)
    if rule is None:
        return None
    known(rule, ["rulePriority", "description", "selection", "action"], path, problems)
    priority = number(rule.get("rulePriority", MISSING), f"{path}.rulePriority", problems)
    description = rule.get("description", "")
    if not isinstance(description, str):
        problems.add(f"{path}.description", "must be text")
    selection = mapping(rule.get("selection", MISSING), f"{path}.selection", problems)
    action = mapping(rule.get("action", MISSING), f"{path}.action", problems)
    if selection is None:
        return None
    transitions = _action(action, f"{path}.action", problems) if action is not None else None
    return _selected(selection, f"{path}.selection", problems, priority, str(description), transitions)


def _action(action: Mapping[str, Any], path: str, problems: Problems) -> bool | None:
    known(action, ["type", "targetStorageClass"], path, problems)
    kind = word(action.get("type", MISSING), ["expire", "transition"], f"{path}.type", problems)
    target = action.get("targetStorageClass", MISSING)
    if kind == "transition":
        word(target, ["archive"], f"{path}.targetStorageClass", problems)
    elif kind and target is not MISSING:
        problems.add(f"{path}.targetStorageClass", "only with type transition; leave it out, null is refused, too")
    return kind == "transition" if kind else None


_FIELDS = ["tagStatus", "tagPatternList", "tagPrefixList", "storageClass", "countType", "countUnit", "countNumber"]


def _selected(
    selection: Mapping[str, Any],
    path: str,
    problems: Problems,
    priority: int,
    description: str,
    transitions: bool | None,
) -> EcrRule | None:
    known(selection, _FIELDS, path, problems)
    status = word(selection.get("tagStatus", MISSING), ["tagged", "untagged", "any"], f"{path}.tagStatus", problems)
    patterns, prefixes = _tags(selection, status, path, problems)
    types = [COUNT, PUSHED, PULLED, TRANSITIONED]
    count_type = word(selection.get("countType", MISSING), types, f"{path}.countType", problems)
    _unit(selection, count_type, path, problems)
    count = number(selection.get("countNumber", MISSING), f"{path}.countNumber", problems)
    archive = _storage_class(selection, count_type, path, problems)
    if count_type == PULLED and transitions is False:
        problems.add(f"{path}.countType", PULLED_EXPIRES)
        problems.propose(lambda free: instead(selection, priority, free, count))
    if count_type == TRANSITIONED:
        if transitions:
            problems.add(f"{path}.countType", "sinceImageTransitioned is for images of the archive, which only expire")
        if 0 < count < FEWEST_ARCHIVED_DAYS:
            problems.add(
                f"{path}.countNumber",
                f"{count_text(count, 'day')}; an archived image stays {FEWEST_ARCHIVED_DAYS} at least",
            )
    if not (status and count_type):
        return None
    return EcrRule(
        priority=priority,
        tag_status=status,  # type: ignore[arg-type]
        patterns=patterns,
        count_type=count_type,  # type: ignore[arg-type]
        number=count,
        transitions=bool(transitions),
        archive=archive,
        prefixes=prefixes,
        description=description,
    )


def _tags(selection: Mapping[str, Any], status: str, path: str, problems: Problems) -> tuple[tuple[str, ...], bool]:
    """Patterns, and whether they were written as prefixes."""
    both = [name for name in ("tagPatternList", "tagPrefixList") if name in selection]
    if status in ("untagged", "any"):
        for name in both:
            problems.add(f"{path}.{name}", f"not with tagStatus {status}; leave it out")
        return (), False
    if status and not both:
        problems.add(
            path, 'tagStatus tagged needs tagPatternList or tagPrefixList; write ["*"] for all that have a tag'
        )
    if len(both) == 2:
        problems.add(path, "tagPatternList and tagPrefixList stand side by side; one rule has one of them")
    found: tuple[str, ...] = ()
    for name in both:
        found = texts(selection[name], f"{path}.{name}", problems)
        if name == "tagPatternList":
            for each in found:
                if each.count("*") > MOST_WILDCARDS:
                    problems.add(f"{path}.{name}", f"{shown(each)} has more than {MOST_WILDCARDS} wildcards")
        else:
            for each in (one for one in found if "*" in one):
                problems.warn(
                    f"{path}.{name}", f"{shown(each)} is a prefix, in which * stands for itself: no tag has one"
                )
            found = tuple(f"{each}*" for each in found)
    if len(found) > 1:
        listed = ", ".join(found)
        problems.warn(path, f"an image must match all of {listed}; write a rule for each where any of them is meant")
    return found, both == ["tagPrefixList"]


def _unit(selection: Mapping[str, Any], count_type: str, path: str, problems: Problems) -> None:
    unit = selection.get("countUnit", MISSING)
    if count_type == COUNT:
        if unit is not MISSING:
            problems.add(f"{path}.countUnit", "not with imageCountMoreThan, which counts images; leave it out")
    elif count_type:
        word(unit, ["days"], f"{path}.countUnit", problems)


def _storage_class(selection: Mapping[str, Any], count_type: str, path: str, problems: Problems) -> bool:
    """Whether the rule is for the archive."""
    told = selection.get("storageClass", MISSING)
    if count_type == TRANSITIONED:
        word(told, ["archive"], f"{path}.storageClass", problems)
        return True
    if told is not MISSING and count_type:
        if told == "archive":
            problems.add(
                f"{path}.storageClass", f"archive only with sinceImageTransitioned; {count_type} is for standard"
            )
        else:
            word(told, ["standard"], f"{path}.storageClass", problems)
    return bool(told == "archive")


def _between(rules: Sequence[tuple[str, EcrRule]], problems: Problems) -> None:
    """What rules may not do together. Each storage class has its own `any`, its own rule for untagged images and its
    own prefixes."""
    seen: dict[int, str] = {}
    for path, rule in rules:
        if rule.priority and rule.priority in seen:
            problems.add(f"{path}.rulePriority", f"{rule.priority} is also that of {seen[rule.priority]}")
        seen.setdefault(rule.priority, path)
    for archive in (False, True):
        ours = [(path, rule) for path, rule in rules if rule.archive == archive]
        where = "of the archive" if archive else "of the standard class"
        last = max((rule.priority for _, rule in ours), default=0)
        for status in ("any", "untagged"):
            several = [path for path, rule in ours if rule.tag_status == status]
            if len(several) > 1:
                problems.add(f"{several[1]}.selection.tagStatus", f"a second rule with `{status}` {where}")
        for path, rule in ours:
            if rule.tag_status == "any" and 0 < rule.priority < last:
                problems.add(f"{path}.rulePriority", f"`any` must have the highest number {where}, which is {last}")
        _repeated(ours, where, problems)


def _repeated(rules: Sequence[tuple[str, EcrRule]], where: str, problems: Problems) -> None:
    first: dict[str, str] = {}
    for path, rule in rules:
        for each in rule.patterns:
            if each in first and rule.prefixes:
                problems.add(f"{path}.selection.tagPrefixList", f"{each[:-1]} stands in {first[each]}, too, {where}")
            elif each in first:
                said = f"{each} stands in {first[each]}, too; whether AWS takes that is not documented"
                problems.warn(f"{path}.selection.tagPatternList", said)
        first.update({each: path for each in rule.patterns if each not in first})
