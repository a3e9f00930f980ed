"""ECR's lifecycle policies: AWS's own examples, a table of cases, and any policy against a slow evaluator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from registry_pipelines.lifecycle.evaluation import QUESTIONS, Outcome, Question
from registry_pipelines.lifecycle.words import questions_text, rule_text, why
from tests.lifecycle.images import NOW, Image, inventory_of, plainly, rule


def evaluated(rules: Sequence[dict[str, Any]], images: Sequence[Image]) -> dict[str, str]:
    """By name ``expire 1``, ``transition 1``, ``follows``, or ``undecided DAYS``; those that stay are left out."""
    policy = read_ecr_policy(json.dumps({"rules": list(rules)}))
    found = evaluate_ecr(policy, inventory_of(images), now=NOW)
    said: dict[str, str] = {}
    for at, image in enumerate(images):
        outcome = Outcome(int(found.outcome[at]))
        assert why(policy, found, at)
        if found.questions[at]:
            bits = int(found.questions[at])
            assert outcome == Outcome.KEEP and questions_text(found, at)
            said[image.name] = "undecided " + " ".join(str(each.name) for each in QUESTIONS if bits & each)
        elif outcome in (Outcome.EXPIRE, Outcome.TRANSITION):
            said[image.name] = f"{outcome.name.lower()} {rule_text(found, at).removeprefix('rule ')}"
        elif outcome == Outcome.FOLLOWS:
            said[image.name] = "follows"
    return said


def tagged(name: str, tags: str, pushed: float) -> Image:
    return Image(name, tuple(tags.split(",")) if tags else (), pushed)


AWS_EXAMPLES = [
    (
        [rule(1, "tagged", ["prod*"], count=1), rule(2, "tagged", ["beta*"], count=1)],
        [tagged("A", "beta-1,prod-1", 10), tagged("B", "beta-2,prod-2", 9), tagged("C", "beta-3", 8)],
        {"A": "expire 1"},
    ),
    (
        [rule(1, "tagged", ["beta*"], count=1), rule(2, "tagged", ["prod*"], count=1)],
        [tagged("A", "beta-1,prod-1", 10), tagged("B", "beta-2,prod-2", 9), tagged("C", "beta-3", 8)],
        {"A": "expire 1", "B": "expire 1"},
    ),
    (
        [rule(1, "tagged", ["alpha*", "beta*"], pushed=5)],
        [
            tagged("A", "alpha-1", 12),
            tagged("B", "beta-1", 11),
            tagged("C", "alpha-2,beta-2", 10),
            tagged("D", "alpha-3", 4),
            tagged("E", "beta-3", 3),
            tagged("F", "alpha-4,beta-4", 2),
        ],
        {"C": "expire 1"},
    ),
    (
        [rule(1, "tagged", ["alpha*", "beta*"], count=1)],
        [
            tagged("A", "alpha-1,beta-1,gamma-1", 10),
            tagged("B", "alpha-2,beta-2", 9),
            tagged("C", "alpha-3,beta-3,gamma-2", 8),
        ],
        {"A": "expire 1", "B": "expire 1"},
    ),
    (
        [rule(1, "any", count=1)],
        [tagged("A", "alpha-1", 4), tagged("B", "beta-1", 3), tagged("C", "", 2), tagged("D", "alpha-2", 1)],
        {"A": "expire 1", "B": "expire 1", "C": "expire 1"},
    ),
    (  # D and E were both pushed "1 day ago"; D before E
        [rule(1, "tagged", ["alpha*"], count=1), rule(2, "untagged", pushed=1), rule(3, "any", count=1)],
        [
            tagged("A", "alpha-1,beta-1", 4),
            tagged("B", "", 3),
            tagged("C", "alpha-2", 2),
            tagged("D", "3a5f", 1.1),
            tagged("E", "", 1.0),
        ],
        {"A": "expire 1", "B": "expire 2", "D": "expire 3"},
    ),
]


@pytest.mark.parametrize("rules, images, expected", AWS_EXAMPLES, ids=range(1, 7))
def test_aws_worked_examples(rules: list[dict[str, Any]], images: list[Image], expected: dict[str, str]) -> None:
    assert evaluated(rules, images) == expected
    acted = {name: (said.split()[0], int(said.split()[1])) for name, said in expected.items()}
    assert plainly(rules, images) == acted, "the slow evaluator of the tests has these examples, too"


ALL_OLD = rule(9, "any", pushed=1)
UNTAGGED = rule(1, "untagged", pushed=7)
COUNT_ANY = rule(1, "any", count=2)

CASES: dict[str, tuple[list[dict[str, Any]], list[Image], dict[str, str]]] = {
    "no image": ([COUNT_ANY], [], {}),
    "fewer than the number": ([COUNT_ANY], [tagged("a", "x", 400)], {}),
    "exactly the number": ([COUNT_ANY], [tagged("a", "x", 400), tagged("b", "y", 300)], {}),
    "one more than the number": (
        [COUNT_ANY],
        [tagged("a", "x", 400), tagged("b", "y", 300), tagged("c", "z", 200)],
        {"a": "expire 1"},
    ),
    "younger than the days": ([UNTAGGED], [tagged("a", "", 6.9)], {}),
    "exactly the days": ([UNTAGGED], [tagged("a", "", 7)], {}),
    "between two days": ([UNTAGGED], [tagged("a", "", 7.5)], {"a": "undecided DAYS"}),
    "a whole day more": ([UNTAGGED], [tagged("a", "", 8)], {"a": "expire 1"}),
    "the push is not known": ([UNTAGGED], [Image("a", pushed=None)], {"a": "undecided UNKNOWN_TIME"}),
    "tagged is not untagged": ([UNTAGGED], [tagged("a", "x", 100)], {}),
    "a prefix": ([rule(1, "tagged", prefixes=["pr"], pushed=1)], [tagged("a", "prod", 9)], {"a": "expire 1"}),
    "a prefix is not an infix": ([rule(1, "tagged", prefixes=["od"], pushed=1)], [tagged("a", "prod", 9)], {}),
    "a pattern without star is the whole tag": (
        [rule(1, "tagged", ["v1"], pushed=1)],
        [tagged("a", "v1", 9), tagged("b", "v10", 9)],
        {"a": "expire 1"},
    ),
    "a pattern that ends so": (
        [rule(1, "tagged", ["*-rc"], pushed=1)],
        [tagged("a", "v1-rc", 9), tagged("b", "v1-rc2", 9)],
        {"a": "expire 1"},
    ),
    "a pattern within": ([rule(1, "tagged", ["*-sha-*"], pushed=1)], [tagged("a", "b-sha-1", 9)], {"a": "expire 1"}),
    "two stars": (
        [rule(1, "tagged", ["v*.*-rc"], pushed=1)],
        [tagged("a", "v1.2-rc", 9), tagged("b", "v1-rc", 9)],
        {"a": "expire 1"},
    ),
    "a dot is a dot": (
        [rule(1, "tagged", ["v1.*"], pushed=1)],
        [tagged("a", "v1x2", 9), tagged("b", "v1.2", 9)],
        {"b": "expire 1"},
    ),
    "case counts": ([rule(1, "tagged", ["Prod*"], pushed=1)], [tagged("a", "prod", 9)], {}),
    "a star is every tag": (
        [rule(1, "tagged", ["*"], pushed=1)],
        [tagged("a", "x", 9), tagged("b", "", 9)],
        {"a": "expire 1"},
    ),
    "entries are anded, by any tag each": (
        [rule(1, "tagged", ["a*", "b*"], pushed=1)],
        [tagged("a", "a1", 9), tagged("b", "a1,b1", 9)],
        {"b": "expire 1"},
    ),
    "one tag may satisfy two entries": (
        [rule(1, "tagged", ["a*", "*b"], pushed=1)],
        [tagged("a", "ab", 9)],
        {"a": "expire 1"},
    ),
    "a rule shields though it does not act": (
        [rule(1, "tagged", ["prod*"], count=10), ALL_OLD],
        [tagged("a", "prod-1", 400), tagged("b", "dev", 400)],
        {"b": "expire 9"},
    ),
    "a shielded image counts below": (
        [rule(1, "tagged", ["prod*"], count=10), rule(2, "any", count=1)],
        [tagged("a", "dev", 9), tagged("b", "prod", 8)],
        {"a": "expire 2"},
    ),
    "an image that a rule takes counts below": (
        [rule(1, "tagged", ["x*"], pushed=1), rule(2, "any", count=1)],
        [tagged("a", "y", 9), tagged("b", "x", 8)],
        {"a": "expire 2", "b": "expire 1"},
    ),
    "priority, not order": (
        [rule(2, "any", pushed=1), rule(1, "tagged", ["keep*"], pushed=999)],
        [tagged("a", "keep", 9), tagged("b", "x", 9)],
        {"b": "expire 2"},
    ),
    "transition by push": (
        [rule(1, "any", pushed=30, transition=True)],
        [tagged("a", "x", 40)],
        {"a": "transition 1"},
    ),
    "transition by number": (
        [rule(1, "any", count=1, transition=True)],
        [tagged("a", "x", 4), tagged("b", "y", 2)],
        {"a": "transition 1"},
    ),
    "a transition shields, too": (
        [rule(1, "tagged", ["x*"], pushed=300, transition=True), ALL_OLD],
        [tagged("a", "x", 40)],
        {},
    ),
    "pulled lately": (
        [rule(1, "any", pulled=90, transition=True)],
        [Image("a", ("x",), 400, pulled=3), Image("b", ("y",), 400, pulled=200)],
        {"b": "transition 1"},
    ),
    "never pulled counts from the push": (
        [rule(1, "any", pulled=90, transition=True)],
        [Image("a", ("x",), 400), Image("b", ("y",), 20)],
        {"a": "transition 1"},
    ),
    "restored and not pulled since": (
        [rule(1, "any", pulled=90, transition=True)],
        [Image("a", ("x",), 400, pulled=300, activated=20), Image("b", ("y",), 400, pulled=200, activated=300)],
        {"b": "transition 1"},
    ),
    "the archive by its time": (
        [rule(1, "any", transitioned=100)],
        [
            Image("a", ("x",), 900, status="ARCHIVED", archived=200),
            Image("b", ("y",), 900, status="ARCHIVED", archived=50),
            Image("c", ("z",), 900),
        ],
        {"a": "expire 1"},
    ),
    "rules of the standard class leave the archive": (
        [rule(1, "any", pushed=5)],
        [Image("a", ("x",), 900, status="ARCHIVED", archived=400)],
        {},
    ),
    "a shield of the standard class is none in the archive": (
        [rule(1, "tagged", ["x*"], count=9), rule(2, "any", transitioned=90)],
        [Image("a", ("x",), 900, status="ARCHIVED", archived=400)],
        {"a": "expire 2"},
    ),
    "the archived take no place": (
        [rule(1, "any", count=1)],
        [Image("a", ("x",), 20), Image("b", ("y",), 10, status="ARCHIVED", archived=5)],
        {},
    ),
    "being restored": ([ALL_OLD], [Image("a", ("x",), 900, status="ACTIVATING", archived=90)], {}),
    "restored, by its push": (
        [rule(1, "any", pushed=30)],
        [Image("a", ("x",), 400, activated=10)],
        {"a": "undecided RESTORED"},
    ),
    "restored long ago": ([rule(1, "any", pushed=30)], [Image("a", ("x",), 400, activated=100)], {"a": "expire 1"}),
    "a count takes the restoration": (
        [rule(1, "any", count=1)],
        [Image("a", ("x",), 400, activated=5), Image("b", ("y",), 10)],
        {"b": "expire 1"},
    ),
    "a tie at the edge": (
        [rule(1, "any", count=1)],
        [tagged("a", "x", 5), tagged("b", "y", 5)],
        {"a": "undecided TIES", "b": "undecided TIES"},
    ),
    "a tie within": (
        [rule(1, "any", count=2)],
        [tagged("a", "x", 5), tagged("b", "y", 5), tagged("c", "z", 9)],
        {"c": "expire 1"},
    ),
    "an unknown time in a count": (
        [rule(1, "any", count=1)],
        [Image("a", ("x",), 9), Image("b", ("y",), None)],
        {"a": "undecided UNKNOWN_TIME", "b": "undecided UNKNOWN_TIME"},
    ),
    "a child of a list that stays": (
        [UNTAGGED],
        [Image("l", ("v1",), 90, children=("c",)), Image("c", (), 90)],
        {},
    ),
    "a child of a list that goes": (
        [rule(1, "tagged", ["v*"], pushed=7), rule(2, "untagged", pushed=7)],
        [Image("l", ("v1",), 90, children=("c",)), Image("c", (), 90)],
        {"l": "expire 1", "c": "expire 2"},
    ),
    "a child of two lists": (
        [rule(1, "tagged", ["v*"], pushed=7), rule(2, "untagged", pushed=7)],
        [Image("l", ("v1",), 90, children=("c",)), Image("m", ("w",), 90, children=("c",)), Image("c", (), 90)],
        {"l": "expire 1"},
    ),
    "a list in a list that stays": (
        [UNTAGGED],
        [Image("t", ("v",), 90, children=("l",)), Image("l", (), 90, children=("c",)), Image("c", (), 90)],
        {},
    ),
    "a child in another repository": (
        [UNTAGGED],
        [Image("l", ("v1",), 90, children=("c",)), Image("c", (), 90, repository="other")],
        {"c": "expire 1"},
    ),
    "a child that is not there": (
        [UNTAGGED],
        [Image("l", ("v1",), 90, children=("gone",)), tagged("a", "", 9)],
        {"a": "expire 1"},
    ),
    "children take a place or not": (
        [rule(1, "any", count=2)],
        [Image("l", ("v2",), 3, children=("c",)), Image("c", (), 2), tagged("a", "v1", 9)],
        {"a": "undecided PLACES"},
    ),
    "a list whose children nobody read": (
        [UNTAGGED],
        [Image("l", ("v1",), 3, index=True), tagged("a", "", 90), Image("b", (), 90, repository="other")],
        {"a": "undecided CHILDREN_UNREAD", "b": "expire 1"},
    ),
    "a child of an archived list": (
        [UNTAGGED],
        [Image("l", ("v1",), 900, children=("c",), status="ARCHIVED", archived=30), Image("c", (), 90)],
        {"c": "undecided ARCHIVED_LIST"},
    ),
    "a child of a list that is archived now": (
        [rule(1, "tagged", ["v*"], pushed=7, transition=True), rule(2, "untagged", pushed=7)],
        [Image("l", ("v1",), 90, children=("c",)), Image("c", (), 90)],
        {"l": "transition 1", "c": "undecided ARCHIVED_LIST"},
    ),
    "a child of a list that is open": (
        [rule(1, "tagged", ["v*"], pushed=7), rule(2, "untagged", pushed=2)],
        [Image("l", ("v1",), 7.5, children=("c",)), Image("c", (), 90)],
        {"l": "undecided DAYS", "c": "undecided OPEN_LIST"},
    ),
    "a referrer of what stays": (
        [UNTAGGED],
        [Image("i", ("v1",), 90), Image("s", (), 90, subject="i")],
        {"s": "undecided REFERRER"},
    ),
    "a referrer of what goes": (
        [rule(1, "tagged", ["v*"], pushed=7)],
        [Image("i", ("v1",), 90), Image("s", (), 90, subject="i"), Image("t", (), 90, subject="s")],
        {"i": "expire 1", "s": "follows", "t": "follows"},
    ),
    "a referrer of what is not there": ([UNTAGGED], [Image("s", (), 90, subject="gone")], {"s": "expire 1"}),
    "repositories apart": (
        [rule(1, "any", count=1)],
        [tagged("a", "x", 4), Image("b", ("y",), 9, repository="other"), tagged("c", "z", 2)],
        {"a": "expire 1"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    rules, images, expected = CASES[name]
    assert evaluated(rules, images) == expected


def test_there_are_enough_cases_and_each_question_of_ecr_is_asked() -> None:
    said = " ".join(text for *_, expected in CASES.values() for text in expected.values())
    gar_alone = {Question.PACKAGES, Question.BOUNDARY, Question.CHILD_DELETED}
    assert len(CASES) >= 40
    assert {str(each.name) for each in QUESTIONS if each not in gar_alone} <= set(said.split())


TAGS = ("prod-1", "prod-2", "dev", "beta-x", "v1", "v1-rc")
PATTERNS = ("prod*", "*-rc", "v1", "*e*", "beta-*", "*")


@st.composite
def fleets(draw: st.DrawFn) -> list[Image]:
    """Images of which nothing is open: times apart, by whole days."""
    count = draw(st.integers(0, 12))
    days = draw(st.permutations(range(1, 40)))
    images = []
    for at in range(count):
        tags = tuple(draw(st.lists(st.sampled_from(TAGS), max_size=2, unique=True)))
        archived = draw(st.integers(0, 5)) == 0
        pulled = draw(st.none() | st.integers(1, 40))
        images.append(
            Image(
                f"i{at}",
                tags,
                days[at],
                pulled=pulled,
                status="ARCHIVED" if archived else "ACTIVE",
                archived=draw(st.integers(80, 120)) if archived else None,
                children=() if archived else None,
            )
        )
    return images


@st.composite
def policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules, priority = [], 1
    for pattern in draw(st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True)):
        days, count = draw(st.integers(1, 30)), draw(st.integers(1, 4))
        kind = draw(st.sampled_from(["count", "pushed", "pulled"]))
        if kind == "pulled":
            rules.append(rule(priority, "tagged", [pattern], pulled=days, transition=True))
        else:
            limit = {"count": count} if kind == "count" else {"pushed": days}
            rules.append(rule(priority, "tagged", [pattern], transition=draw(st.booleans()), **limit))  # type: ignore[arg-type]
        priority += draw(st.integers(1, 3))
    if draw(st.booleans()):
        rules.append(rule(priority, "untagged", pushed=draw(st.integers(1, 30))))
        priority += 1
    if draw(st.booleans()) or not rules:
        rules.append(rule(priority, "any", count=draw(st.integers(1, 6))))
        priority += 1
    if draw(st.booleans()):
        rules.append(rule(priority, "any", transitioned=draw(st.integers(90, 110))))
    return draw(st.permutations(rules))


@given(policies(), fleets())
@settings(max_examples=150, deadline=None)
def test_any_policy_is_what_the_slow_evaluator_says(rules: list[dict[str, Any]], images: list[Image]) -> None:
    expected = {name: f"{verb} {priority}" for name, (verb, priority) in plainly(rules, images).items()}
    assert evaluated(rules, images) == expected


@given(policies(), fleets(), st.data())
@settings(max_examples=60, deadline=None)
def test_lists_that_stay_keep_their_manifests(
    rules: list[dict[str, Any]], images: list[Image], data: st.DataObject
) -> None:
    """With lists, places in counts are open: nothing goes that the slow evaluator keeps, whichever way they count."""
    names = [each.name for each in images]
    listed = [
        Image(f"l{at}", ("v1",), 50 + at, children=tuple(data.draw(st.lists(st.sampled_from(names), max_size=3))))
        for at in range(2 if names else 0)
    ]
    fleet = [*images, *listed]
    gone = {name for name, said in evaluated(rules, fleet).items() if said.startswith("expire")}
    assert gone <= {name for name, (verb, _) in plainly(rules, fleet).items() if verb == "expire"}
