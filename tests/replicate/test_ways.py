"""Which way a release takes: each reason against ECR's own replication, and each for it."""

from __future__ import annotations

import pytest

from registry_pipelines.replicate.ways import UNJUDGED, End, Rule, way

EU = End("ecr-eu", "ecr", "111122223333", "eu-west-1", "aws")
US = End("ecr-us", "ecr", "111122223333", "us-east-1", "aws")
ABROAD = End("ecr-other", "ecr", "222233334444", "us-east-1", "aws")
CHINA = End("ecr-cn", "ecr", "111122223333", "cn-north-1", "aws-cn")
GAR = End("gar-eu", "gar")
TO_US = Rule("111122223333/us-east-1", ("ml/",))


@pytest.mark.parametrize(
    ("source", "target", "there", "rules", "why"),
    [
        (GAR, EU, "ml/app", [], "gar-eu is of kind gar; only ECR replicates, and only to ECR"),
        (EU, GAR, "ml/app", [TO_US], "gar-eu is of kind gar"),
        (EU, CHINA, "ml/app", [Rule("111122223333/cn-north-1")], "cn-north-1 is in partition aws-cn"),
        (EU, EU, "ml/app", [Rule("111122223333/eu-west-1")], "within which ECR replicates nothing"),
        (EU, US, "copies/ml/app", [TO_US], "it is copies/ml/app there, and ECR keeps names"),
        (EU, US, "ml/app", [], "infra.ecr-eu.replication names no 111122223333/us-east-1"),
        (EU, ABROAD, "ml/app", [TO_US], "infra.ecr-eu.replication names no 222233334444/us-east-1"),
        (EU, US, "ml/app", [Rule("111122223333/us-east-1", ("tools/",))], "takes tools/ to"),
    ],
)
def test_what_ecr_does_not_do_is_copied_and_the_plan_says_why(
    source: End, target: End, there: str, rules: list[Rule], why: str
) -> None:
    found = way(source, target, "ml/app", there, rules)
    assert not found.native and why in found.why


def test_what_a_rule_covers_ecr_does_itself() -> None:
    found = way(EU, US, "ml/app", "ml/app", [Rule("111122223333/us-east-1", ("tools/",)), TO_US])
    assert found.native and found.notes == (UNJUDGED,)
    abroad = way(EU, ABROAD, "ml/app", "ml/app", [Rule("222233334444/us-east-1")])
    assert abroad.native and "must allow it in its registry policy" in abroad.notes[1]
