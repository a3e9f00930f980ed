"""Images of one repository for policies, written in one line, and a slow evaluator that takes the guide at its word."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Inventory
from registry_pipelines.oci import media_types

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Image:
    """Times are days before now; None is not known."""

    name: str
    tags: tuple[str, ...] = ()
    pushed: float | None = 0.0
    pulled: float | None = None
    status: str = "ACTIVE"
    archived: float | None = None
    activated: float | None = None
    children: tuple[str, ...] | None = field(default=None)
    subject: str = ""
    index: bool = False
    repository: str = "app"
    size: int = 100


def ago(days: float | None) -> datetime | None:
    return None if days is None else NOW - timedelta(days=days)


def digest_of(name: str) -> str:
    return f"sha256:{name.encode().hex():0>64}"


def inventory_of(images: Sequence[Image], registry: str = "ecr") -> Inventory:
    rows = Rows()
    for each in images:
        rows.add(
            Row(
                registry=registry,
                repository=each.repository,
                digest=digest_of(each.name),
                answered=NOW,
                tags=each.tags,
                size_bytes=each.size,
                media_type=media_types.OCI_INDEX if each.index or each.children else media_types.OCI_MANIFEST,
                subject=digest_of(each.subject) if each.subject else None,
                children=None if each.children is None else [digest_of(one) for one in each.children],
                pushed=ago(each.pushed),
                pulled=ago(each.pulled),
                status=each.status,
                archived=ago(each.archived),
                activated=ago(each.activated),
            )
        )
    return rows.inventory([])


def rule(
    priority: int,
    status: str,
    patterns: Sequence[str] = (),
    *,
    count: int = 0,
    pushed: int = 0,
    pulled: int = 0,
    transitioned: int = 0,
    transition: bool = False,
    prefixes: Sequence[str] = (),
) -> dict[str, Any]:
    """A rule of ECR's JSON with one limit."""
    limits = {
        "imageCountMoreThan": count,
        "sinceImagePushed": pushed,
        "sinceImagePulled": pulled,
        "sinceImageTransitioned": transitioned,
    }
    [(count_type, number)] = [(name, number) for name, number in limits.items() if number]
    selection: dict[str, Any] = {"tagStatus": status, "countType": count_type, "countNumber": number}
    if count_type != "imageCountMoreThan":
        selection["countUnit"] = "days"
    if patterns:
        selection["tagPatternList"] = list(patterns)
    if prefixes:
        selection["tagPrefixList"] = list(prefixes)
    if transitioned:
        selection["storageClass"] = "archive"
    action = {"type": "transition", "targetStorageClass": "archive"} if transition else {"type": "expire"}
    return {"rulePriority": priority, "selection": selection, "action": action}


def plainly(rules: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> dict[str, tuple[str, int]]:
    """By name what happens and the priority of the rule that does it, image by image and rule by rule; only for images
    of which nothing is open: each time known, none twice, no restored ones, ages not between two days."""
    acted: dict[str, tuple[str, int]] = {}
    claimed: set[str] = set()
    for each in sorted(rules, key=lambda one: int(one["rulePriority"])):
        selection = each["selection"]
        matching = [image for image in images if _matches(selection, image)]
        if selection["countType"] == "imageCountMoreThan":
            youngest_first = sorted(matching, key=lambda one: one.pushed or 0)
            beyond = [image.name for image in youngest_first[selection["countNumber"] :]]
        else:
            beyond = [image.name for image in matching if _age(selection, image) > selection["countNumber"]]
        for name in beyond:
            if name not in claimed:
                acted[name] = (each["action"]["type"], each["rulePriority"])
        claimed |= {image.name for image in matching}
    changed = True
    while changed:
        changed = False
        for image in images:
            goes = acted.get(image.name, ("", 0))[0] == "expire"
            for child in image.children or ():
                if not goes and acted.get(child, ("", 0))[0] == "expire":
                    del acted[child]
                    changed = True
    return acted


def _matches(selection: Mapping[str, Any], image: Image) -> bool:
    if (image.status == "ARCHIVED") != (selection.get("storageClass") == "archive"):
        return False
    status = selection["tagStatus"]
    if status == "untagged":
        return not image.tags
    if status == "tagged":
        wanted = selection.get("tagPatternList") or [f"{one}*" for one in selection["tagPrefixList"]]
        return all(any(fnmatch.fnmatchcase(tag, one) for tag in image.tags) for one in wanted)
    return True


def _age(selection: Mapping[str, Any], image: Image) -> float:
    if selection["countType"] == "sinceImagePulled":
        return (image.pushed if image.pulled is None else image.pulled) or 0
    return (image.archived if selection["countType"] == "sinceImageTransitioned" else image.pushed) or 0
