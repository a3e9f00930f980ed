"""The two policies that production teams write, on a fleet of a stated make-up: what they save is computed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from tests.lifecycle.images import NOW, Image, inventory_of, plainly, rule

GIB = 1 << 30
REPOSITORIES = 20


def production(prod: int, untagged: int) -> list[dict[str, Any]]:
    """Keep the last 10 (or 5) of prod, dev for 14 days, untagged for 7 days (or 1)."""
    return [
        rule(1, "tagged", ["prod*"], count=prod),
        rule(2, "tagged", ["dev*"], pushed=14),
        rule(3, "untagged", pushed=untagged),
    ]


def fleet() -> list[Image]:
    """A year and a half of 20 teams, 8 GiB an image. Each repository: a release a month (18), two builds of a branch a
    week for 24 weeks (48), each second of which lost its tag when it was built again, and 12 tools that stay."""
    made = []
    for number in range(REPOSITORIES):
        name = f"team-{number}/app"
        releases = [(f"prod-{at}",) for at in range(18)]
        builds = [(f"dev-{at}",) if at % 2 else () for at in range(48)]
        tools = [(f"tool-{at}",) for at in range(12)]
        for about, days in ((releases, 30.0), (builds, 3.5), (tools, 20.0)):
            for at, tags in enumerate(about):
                image = f"{name}/{len(made)}"
                made.append(Image(image, tags, 0.25 + at * days + number / 1000, repository=name, size=8 * GIB))
    return made


@pytest.mark.parametrize("prod, untagged, saved", [(10, 7, 66.7), (5, 1, 74.4)])
def test_the_saving_is_computed(prod: int, untagged: int, saved: float) -> None:
    images = fleet()
    rules = production(prod, untagged)
    found = evaluate_ecr(read_ecr_policy(json.dumps({"rules": rules})), inventory_of(images), now=NOW)
    of_all = sum(each.size for each in images)
    assert round(100 * found.deleted_bytes / of_all, 1) == saved
    assert 60 <= saved <= 80
    slowly: set[str] = set()
    for name in {each.repository for each in images}:
        slowly |= plainly(rules, [each for each in images if each.repository == name]).keys()
    open_ = {each.name for each, asked in zip(images, found.undecided, strict=True) if asked}
    gone = {each.name for each, goes in zip(images, found.deletes, strict=True) if goes}
    assert gone == slowly - open_
    kept = [each for each, goes in zip(images, found.deletes, strict=True) if not goes]
    assert sum(any(tag.startswith("prod") for tag in each.tags) for each in kept) == prod * REPOSITORIES
