"""ECR's lifecycle policies as a preview evaluates them: written for the double alone, from the ECR user guide
("Lifecycle policy properties", "How lifecycle policies work") and its worked examples."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from typing import Any

from tests.doubles.aws.ecr_places import Image, Repository
from tests.doubles.aws.model import ApiError

DAY_S = 86400.0
_COUNTS = ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")


@dataclass(frozen=True)
class Action:
    digest: str
    tags: tuple[str, ...]
    kind: str
    priority: int
    storage: str
    pushed_at: float


def check(text: str) -> None:
    """Raises ApiError, as PutLifecyclePolicy refuses a policy."""
    try:
        rules = json.loads(text)["rules"]
        assert isinstance(rules, list) and 1 <= len(rules) <= 50, "rules"
        for rule in rules:
            _check_rule(rule)
        priorities = [rule["rulePriority"] for rule in rules]
        assert len(set(priorities)) == len(priorities), "rulePriority stands there twice"
        for storage in ("standard", "archive"):
            own = [rule for rule in rules if _storage(rule) == storage]
            catch_all = [rule["rulePriority"] for rule in own if rule["selection"]["tagStatus"] == "any"]
            assert len(catch_all) <= 1, "two rules for any"
            assert not catch_all or catch_all[0] == max(rule["rulePriority"] for rule in own), "any is not the last"
            assert sum(rule["selection"]["tagStatus"] == "untagged" for rule in own) <= 1, "two rules for untagged"
    except (AssertionError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation"
        raise ApiError("InvalidParameterException", f"{said} failure: {error}'") from error


def _check_rule(rule: Any) -> None:
    selection, action = rule["selection"], rule["action"]
    assert isinstance(rule["rulePriority"], int) and rule["rulePriority"] >= 1, "rulePriority"
    assert rule.keys() <= {"rulePriority", "description", "selection", "action"}, "unknown field of a rule"
    known = {"tagStatus", "tagPatternList", "tagPrefixList", "storageClass", "countType", "countUnit", "countNumber"}
    assert selection.keys() <= known, "unknown field of a selection"
    assert action.keys() <= {"type", "targetStorageClass"}, "unknown field of an action"
    status, counted = selection["tagStatus"], selection["countType"]
    lists = [selection[name] for name in ("tagPatternList", "tagPrefixList") if selection.get(name)]
    assert status in ("tagged", "untagged", "any"), "tagStatus"
    assert (len(lists) == 1) == (status == "tagged"), "a list of tags goes with tagged, and one of them alone"
    assert all(pattern.count("*") <= 4 for pattern in selection.get("tagPatternList") or ()), "more than four *"
    assert counted in _COUNTS, "countType"
    assert isinstance(selection["countNumber"], int) and selection["countNumber"] >= 1, "countNumber"
    assert (selection.get("countUnit") == "days") == counted.startswith("since"), "countUnit"
    assert action["type"] in ("expire", "transition"), "type of an action"
    assert (action.get("targetStorageClass") == "archive") == (action["type"] == "transition"), "targetStorageClass"
    if counted == "sinceImagePulled":
        assert action["type"] == "transition", "sinceImagePulled transitions alone"
    if counted == "sinceImageTransitioned":
        assert action["type"] == "expire" and _storage(rule) == "archive", "sinceImageTransitioned expires the archive"
    if _storage(rule) == "archive":
        assert action["type"] == "expire", "what is archived only expires"
        assert counted != "sinceImageTransitioned" or selection["countNumber"] >= 90, "90 days at least"


def _storage(rule: Any) -> str:
    return str(rule["selection"].get("storageClass", "standard"))


def evaluate(text: str, repository: Repository, now: float) -> list[Action]:
    """What a policy would do now: at most one action for an image."""
    rules = sorted(json.loads(text)["rules"], key=lambda rule: int(rule["rulePriority"]))
    tags = repository.tags_by_digest()
    claimed: set[str] = set()
    found: dict[str, Action] = {}
    for rule in rules:
        matching = [
            image
            for image in repository.images.values()
            if image.status(now) != "ACTIVATING"
            and ("archive" if image.archived else "standard") == _storage(rule)
            and _selects(rule["selection"], tags.get(image.digest, []))
        ]
        for image in _due(rule["selection"], matching, now):
            if image.digest not in claimed:
                own = tuple(tags.get(image.digest, []))
                kind, storage = str(rule["action"]["type"]), _storage(rule)
                found[image.digest] = Action(image.digest, own, kind, rule["rulePriority"], storage, image.pushed_at)
        claimed |= {image.digest for image in matching}
    staying = [each for each in repository.images.values() if each.is_index and each.digest not in found]
    needed = {child for index in staying for child in index.children}
    return [each for digest, each in found.items() if digest not in needed]


def _selects(selection: Any, tags: list[str]) -> bool:
    if selection["tagStatus"] == "any":
        return True
    if selection["tagStatus"] == "untagged":
        return not tags
    patterns = selection.get("tagPatternList") or [f"{prefix}*" for prefix in selection["tagPrefixList"]]
    return all(any(fnmatch.fnmatchcase(tag, pattern) for tag in tags) for pattern in patterns)


def _due(selection: Any, matching: list[Image], now: float) -> list[Image]:
    number = int(selection["countNumber"])
    if selection["countType"] == "imageCountMoreThan":
        # Of equal times the one that is listed later is younger.
        ordered = sorted(enumerate(matching), key=lambda pair: (_pushed(pair[1]), pair[0]))
        return [image for _, image in ordered[: max(len(ordered) - number, 0)]]
    clocks = {
        "sinceImagePushed": _pushed,
        "sinceImagePulled": lambda image: image.pulled_at or _pushed(image),
        "sinceImageTransitioned": lambda image: image.archived_at,
    }
    clock = clocks[selection["countType"]]
    return [image for image in matching if now - clock(image) > number * DAY_S]


def _pushed(image: Image) -> float:
    return image.activated_at or image.pushed_at


__all__ = ["Action", "check", "evaluate"]
