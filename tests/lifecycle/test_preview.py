"""Our evaluation against a preview: AWS's double evaluates by code of its own, from the same guide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from registry_pipelines.lifecycle.aws_preview import differences, preview
from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from tests.doubles.aws.ecr_places import Image as Pushed
from tests.doubles.aws.ecr_places import Repository
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, AwsDouble
from tests.lifecycle.images import NOW, Image, digest_of, inventory_of
from tests.lifecycle.test_ecr import AWS_EXAMPLES

DAY_S = 86400.0
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


EXPIRE = {"type": "expire"}


@pytest.fixture
def calls(aws: AwsDouble, monkeypatch: pytest.MonkeyPatch) -> AwsCalls:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return AwsCalls(AwsAccess("eu-west-1", endpoint=aws.url))


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        double.clock = NOW.timestamp
        yield double


def held(aws: AwsDouble, images: Sequence[Image]) -> None:
    """The images in a repository of the double, in their order, under the digests that the inventory has."""
    there = Repository("app", 1.0)
    for each in images:
        pushed = Pushed(json.dumps({"schemaVersion": 2, "about": each.name}).encode(), MANIFEST)
        pushed.digest = digest_of(each.name)
        pushed.pushed_at = NOW.timestamp() - (each.pushed or 0.0) * DAY_S
        there.images[pushed.digest] = pushed
        there.tags |= dict.fromkeys(each.tags, pushed.digest)
    aws.area(EcrRegistries).at(ACCOUNT, "eu-west-1").repositories["app"] = there


@pytest.mark.parametrize(("rules", "images", "expected"), AWS_EXAMPLES)
def test_the_worked_examples_come_out_alike(
    aws: AwsDouble, calls: AwsCalls, rules: Sequence[Any], images: Sequence[Image], expected: dict[str, str]
) -> None:
    held(aws, images)
    text = json.dumps({"rules": list(rules)}).ljust(100)
    found = preview(partial(calls.call, where="here"), "app", policy=text, sleep=lambda _: None)
    ours = evaluate_ecr(read_ecr_policy(text), inventory_of(images), now=NOW)
    assert {act.digest for act in found.acts} >= {digest_of(name) for name in expected}
    assert [each for each in differences(ours, found) if not each.open] == []


def test_a_rule_that_reads_otherwise_is_a_difference(aws: AwsDouble, calls: AwsCalls) -> None:
    images = [Image(f"v{number}", (f"v{number}",), float(number)) for number in range(4)]
    held(aws, images)
    selected = {"tagStatus": "tagged", "tagPatternList": ["v*"], "countType": "imageCountMoreThan"}
    texts = [
        json.dumps({"rules": [{"rulePriority": 1, "selection": {**selected, "countNumber": kept}, "action": EXPIRE}]})
        for kept in (2, 3)
    ]
    found = preview(partial(calls.call, where="here"), "app", policy=texts[0].ljust(100), sleep=lambda _: None)
    ours = evaluate_ecr(read_ecr_policy(texts[1]), inventory_of(images), now=NOW)
    assert [each.digest for each in differences(ours, found)] == [digest_of("v2")]
