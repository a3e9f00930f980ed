"""ECR's grammar: what AWS refuses is refused, all of it at once; what it takes is read back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LifecycleInvalid
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from registry_pipelines.lifecycle.reading import read_policy
from tests.lifecycle.images import rule


def text_of(*rules: Any, **more: Any) -> str:
    return json.dumps({"rules": list(rules), **more}, indent=2)


def changed(part: str = "selection", **fields: Any) -> dict[str, Any]:
    """A good rule with other fields; None takes one away."""
    made = rule(1, "tagged", ["prod*"], pushed=14)
    target = made if part == "rule" else made[part]
    for name, value in fields.items():
        if value is None:
            del target[name]
        else:
            target[name] = value
    return made


def problems_of(text: str) -> list[str]:
    with pytest.raises(LifecycleInvalid) as caught:
        read_ecr_policy(text)
    return caught.value.problems


REFUSED: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "this is no JSON"),
    "a list": ("[1]", "must be an object"),
    "NaN": ('{"rules": NaN}', "NaN is no JSON"),
    "twice in one object": ('{"rules": [], "rules": []}', "`rules` stands twice"),
    "too short": ('{"rules":[{}]}', "14 characters"),
    "too long": (text_of(changed("rule", description="x" * 31_000)), "characters; a policy has"),
    "no rules": (text_of(description="x" * 100), "at least one rule"),
    "51 rules": (text_of(*(rule(at, "tagged", [f"v{at}*"], pushed=1) for at in range(1, 52))), "51 rules"),
    "another field": (text_of(changed("rule", priority=1)), "did you mean `rulePriority`?"),
    "no priority": (text_of(changed("rule", rulePriority=None)), "rulePriority: is missing"),
    "priority 0": (text_of(changed("rule", rulePriority=0)), "0 is not permitted"),
    "priority true": (text_of(changed("rule", rulePriority=True)), "true is not permitted"),
    "description": (text_of(changed("rule", description=5)), "description: must be text"),
    "no selection": (text_of(changed("rule", selection=None)), "selection: is missing"),
    "no action": (text_of(changed("rule", action=None)), "action: is missing"),
    "tag status": (text_of(changed(tagStatus="all")), '"all" is not permitted; write tagged or untagged or any'),
    "tagged without tags": (text_of(changed(tagPatternList=None)), "needs tagPatternList or tagPrefixList"),
    "both lists": (text_of(changed(tagPrefixList=["a"])), "stand side by side"),
    "untagged with tags": (text_of(changed(tagStatus="untagged")), "not with tagStatus untagged"),
    "any with tags": (text_of(changed(tagStatus="any")), "not with tagStatus any"),
    "no pattern": (text_of(changed(tagPatternList=[])), "must be a list of texts"),
    "empty pattern": (text_of(changed(tagPatternList=[""])), "must be a list of texts"),
    "one pattern twice": (text_of(changed(tagPatternList=["a*", "a*"])), "names one twice"),
    "five stars": (text_of(changed(tagPatternList=["*a*b*c*d*"])), "more than 4 wildcards"),
    "count type": (text_of(changed(countType="sinceImageCreated")), "is not permitted"),
    "unit missing": (text_of(changed(countUnit=None)), "countUnit: is missing; write days"),
    "unit hours": (text_of(changed(countUnit="hours")), "write days"),
    "unit with a count": (text_of(changed(countType="imageCountMoreThan")), "leave it out"),
    "number 0": (text_of(changed(countNumber=0)), "at least 1"),
    "number 1.5": (text_of(changed(countNumber=1.5)), "whole number"),
    "number as text": (text_of(changed(countNumber="14")), "whole number"),
    "storage class": (text_of(changed(storageClass="cold")), "write standard"),
    "storage class null": (
        text_of({**changed(), "selection": {**changed()["selection"], "storageClass": None}}),
        "null",
    ),
    "archive by push": (text_of(changed(storageClass="archive")), "archive only with sinceImageTransitioned"),
    "transitioned in standard": (text_of(changed(countType="sinceImageTransitioned", countNumber=90)), "write archive"),
    "89 days in the archive": (
        text_of(changed(countType="sinceImageTransitioned", storageClass="archive", countNumber=89)),
        "an archived image stays 90",
    ),
    "the archive transitions": (
        text_of(rule(1, "any", transitioned=100, transition=True)),
        "images of the archive, which only expire",
    ),
    "action": (text_of(changed("action", type="delete")), "write expire or transition"),
    "transition to nothing": (text_of(changed("action", type="transition")), "targetStorageClass: is missing"),
    "expire with a target": (text_of(changed("action", targetStorageClass="archive")), "only with type transition"),
    "one priority twice": (
        text_of(rule(1, "tagged", ["a*"], pushed=1), rule(1, "tagged", ["b*"], pushed=1)),
        "rules[1].rulePriority: 1 is also that of rules[0]",
    ),
    "any is not last": (text_of(rule(1, "any", count=5), rule(2, "untagged", pushed=1)), "highest number"),
    "any twice": (text_of(rule(1, "any", count=5), rule(2, "any", pushed=1)), "a second rule with `any`"),
    "untagged twice": (
        text_of(rule(1, "untagged", count=5), rule(2, "untagged", pushed=1)),
        "a second rule with `untagged`",
    ),
    "one prefix twice": (
        text_of(rule(1, "tagged", prefixes=["a"], pushed=1), rule(2, "tagged", prefixes=["a", "b"], count=1)),
        "a stands in rules[0]",
    ),
    "pulled expires": (text_of(rule(1, "any", pulled=30)), "sinceImagePulled cannot expire"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, said = REFUSED[name]
    assert said in "\n".join(problems_of(text))


def test_every_error_is_said_at_once() -> None:
    bad = changed("rule", rulePriority=0, extra=1)
    bad["selection"] |= {"countNumber": 0, "countUnit": "weeks", "tagStatus": "none"}
    bad["action"]["type"] = "remove"
    found = problems_of(text_of(bad, rule(2, "any", count=1), rule(3, "untagged", pushed=1)))
    paths = [each.partition(": ")[0] for each in found]
    assert paths == [
        "rules[0].extra",
        "rules[0].rulePriority",
        "rules[0].action.type",
        "rules[0].selection.tagStatus",
        "rules[0].selection.countUnit",
        "rules[0].selection.countNumber",
        "rules[1].rulePriority",
    ]


def test_the_consoles_example_is_explained_with_rules_that_aws_takes() -> None:
    with pytest.raises(LifecycleInvalid) as caught:
        read_ecr_policy(text_of(rule(5, "tagged", ["dev*"], pulled=30), rule(6, "untagged", pushed=7)))
    said = str(caught.value)
    assert "takes it with a transition to the archive alone" in said and "a pull by a scanner counts" in said
    instead = [json.loads(line) for line in said.splitlines() if line.strip().startswith("{")]
    archive, out, by_push = instead
    assert [each["rulePriority"] for each in instead] == [5, 7, 5]
    others = rule(6, "untagged", pushed=7)
    for rules in ([archive, out, others], [by_push, others]):
        assert read_ecr_policy(text_of(*rules)).rules[0].patterns == ("dev*",)


def test_each_storage_class_has_its_own_rules() -> None:
    both = [
        rule(1, "any", pulled=90, transition=True),
        rule(2, "any", transitioned=365),
    ]
    policy = read_ecr_policy(text_of(*both))
    assert [each.archive for each in policy.rules] == [False, True] and not policy.warnings


def test_what_aws_takes_and_is_hardly_meant_is_a_warning() -> None:
    policy = read_ecr_policy(
        text_of(
            rule(1, "tagged", ["a*", "b*"], pushed=1),
            rule(2, "tagged", prefixes=["c*"], pushed=1),
            rule(3, "tagged", ["a*"], count=1),
        )
    )
    assert [each.partition(": ")[2][:24] for each in policy.warnings] == [
        "an image must match all ",
        '"c*" is a prefix, in whi',
        "a* stands in rules[0], t",
    ]


def test_a_policy_inside_what_the_api_answers() -> None:
    text = text_of(rule(1, "any", count=5))
    assert read_policy(json.dumps({"repositoryName": "app", "lifecyclePolicyText": text})) == read_ecr_policy(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 100)
    | st.sampled_from(["tagged", "any", "days", "archive", "expire", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "rules",
                    "rulePriority",
                    "selection",
                    "action",
                    "type",
                    "tagStatus",
                    "tagPatternList",
                    "countType",
                    "countUnit",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_document_is_read_or_refused(document: Any) -> None:
    text = json.dumps(document)
    try:
        policy = read_ecr_policy(text)
    except LifecycleInvalid as error:
        assert error.problems
    else:
        assert read_ecr_policy(policy.text()).rules == policy.rules


@given(st.text(max_size=50))
@settings(max_examples=50, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(LifecycleInvalid):
        read_policy(text)
