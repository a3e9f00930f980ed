"""From one cloud's policy to the other's: what translates deletes the same, what does not deletes less and is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.lifecycle.convert import Converted, to_ecr, to_gar
from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
from registry_pipelines.lifecycle.ecr_policy import EcrPolicy, read_ecr_policy
from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar
from registry_pipelines.lifecycle.gar_policy import GarPolicies, read_gar_policies
from tests.lifecycle.images import NOW, Image, inventory_of, rule
from tests.lifecycle.test_ecr import TAGS, policies
from tests.lifecycle.test_gar import delete, keep, newest, policy_sets


def from_ecr(*rules: dict[str, Any]) -> Converted:
    return to_gar(read_ecr_policy(json.dumps({"rules": list(rules)}, indent=2)))


def from_gar(*wanted: dict[str, Any]) -> Converted:
    return to_ecr(read_gar_policies(json.dumps(list(wanted))))


def plain_of(converted: Converted) -> Any:
    return json.loads(converted.policy.text()) if converted.policy else None


def test_the_dev_and_untagged_rules_translate() -> None:
    done = from_ecr(rule(1, "tagged", ["dev*"], pushed=14), rule(2, "untagged", pushed=7))
    assert done.notes == ()
    assert plain_of(done) == [
        delete("rule-1", tagState="tagged", tagPrefixes=["dev"], olderThan="1209600s"),
        keep("rule-1-keep", tagState="tagged", tagPrefixes=["dev"], newerThan="1209600s"),
        delete("rule-2", tagState="untagged", olderThan="604800s"),
    ]


def test_the_newest_of_all_translates() -> None:
    assert plain_of(from_ecr(rule(1, "any", count=10))) == [
        delete("rule-1", tagState="any"),
        newest(10, name="rule-1-newest"),
    ]


TO_GAR_NOTES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a number of some tags": (
        [rule(1, "tagged", ["prod*"], count=10), rule(2, "untagged", pushed=7)],
        "cannot count these",
    ),
    "a suffix": ([rule(1, "tagged", ["*-rc"], pushed=7), rule(2, "untagged", pushed=7)], "only be told by one prefix"),
    "a whole tag": ([rule(1, "tagged", ["v1"], pushed=7), rule(2, "untagged", pushed=7)], "only be told by a prefix"),
    "two tags at once": ([rule(1, "tagged", ["a*", "b*"], pushed=7), rule(2, "untagged", pushed=7)], "by a prefix"),
    "the archive": ([rule(1, "any", pulled=30, transition=True), rule(2, "any", transitioned=90)], "no archive"),
    "nothing is left": ([rule(1, "any", pulled=30, transition=True)], "nothing that deletes is left"),
    "tags that overlap": (
        [rule(1, "tagged", ["a*"], pushed=7), rule(2, "tagged", ["b*"], pushed=9), rule(3, "any", pushed=30)],
        "keeping wins there",
    ),
    "too many": ([rule(at, "tagged", [f"v{at}*"], pushed=at) for at in range(1, 12)], "takes 10"),
}


@pytest.mark.parametrize("name", TO_GAR_NOTES)
def test_what_artifact_registry_cannot_say_is_said(name: str) -> None:
    rules, said = TO_GAR_NOTES[name]
    assert said in "\n".join(from_ecr(*rules).notes)


def test_conditions_translate_to_a_rule_for_each_prefix() -> None:
    done = from_gar(
        delete("old", tagState="tagged", tagPrefixes=["dev", "pr"], olderThan="14d"),
        delete("bare", tagState="untagged", olderThan="7d"),
        keep("releases", tagState="tagged", tagPrefixes=["release"]),
    )
    assert done.notes == ()
    assert plain_of(done)["rules"] == [
        rule(1, "tagged", ["release*"], pushed=36_500),
        rule(2, "untagged", pushed=7),
        rule(3, "tagged", ["dev*"], pushed=14),
        rule(4, "tagged", ["pr*"], pushed=14),
    ]


TO_ECR_NOTES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "hours": ([delete(olderThan="36h")], "ECR counts whole days, at least one; older than 2 here"),
    "no age": ([delete(tagState="untagged")], "older than 1 here"),
    "a version": ([delete(versionNamePrefixes=["sha256:0"])], "the version's name"),
    "newer than": ([delete(newerThan="3d")], "being newer than an age"),
    "a package": (
        [delete(olderThan="3d", packageNamePrefixes=["web"])],
        "only on repositories whose name begins with web",
    ),
    "an age and a number": ([delete(olderThan="3d"), newest(5)], "has one limit; left out"),
    "kept by age": ([delete(olderThan="3d"), keep(tagState="tagged", newerThan="9d")], "keeps by the age"),
    "all is kept": ([delete(olderThan="3d"), keep()], "keeps every version"),
    "two numbers": ([delete(), newest(5), newest(9, "web", name="m")], "the greatest keepCount (9)"),
}


@pytest.mark.parametrize("name", TO_ECR_NOTES)
def test_what_ecr_cannot_say_is_said(name: str) -> None:
    wanted, said = TO_ECR_NOTES[name]
    assert said in "\n".join(from_gar(*wanted).notes)


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    """Of one package, apart in time, none at an edge or between the days of ECR and Artifact Registry."""
    days = draw(st.permutations(range(1, 60)))
    tags = st.lists(st.sampled_from([*TAGS, "release-1"]), max_size=2, unique=True)
    return [
        Image(f"i{at}", tuple(draw(tags)), days[at], repository="p/repo/web") for at in range(draw(st.integers(0, 9)))
    ]


def _gone(policy: EcrPolicy | GarPolicies | None, fleet: list[Image]) -> set[str]:
    """Names that go; ECR's ages a little more than a day later, where whole days decide."""
    if policy is None:
        return set()
    if isinstance(policy, EcrPolicy):
        found = evaluate_ecr(policy, inventory_of(fleet), now=NOW)
    else:
        later = [replace(each, pushed=(each.pushed or 0) - 0.5) for each in fleet]  # neither at the edge of a day
        found = evaluate_gar(policy, inventory_of(later), now=NOW)
    return {each.name for each, goes in zip(fleet, found.deletes, strict=True) if goes}


@given(policies(), images())
@settings(max_examples=120, deadline=None)
def test_from_ecr_nothing_more_goes_and_the_same_without_notes(rules: list[dict[str, Any]], fleet: list[Image]) -> None:
    read = read_ecr_policy(json.dumps({"rules": rules}, indent=2))
    done = to_gar(read)
    before, after = _gone(read, fleet), _gone(done.policy, fleet)
    assert after <= before
    if not done.notes:
        assert after == before


@given(policy_sets(), images())
@settings(max_examples=120, deadline=None)
def test_from_artifact_registry_nothing_more_goes_and_the_same_without_notes(
    wanted: list[dict[str, Any]], fleet: list[Image]
) -> None:
    read = read_gar_policies(json.dumps(wanted))
    done = to_ecr(read)
    before, after = _gone(read, fleet), _gone(done.policy, fleet)
    about_packages = any("name begins with" in note for note in done.notes)
    if not about_packages:  # such a policy is for some repositories alone, and this one is not among them
        assert after <= before
    if not done.notes:
        assert after == before
