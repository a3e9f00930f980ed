"""What AWS writes in several ways is one form, and any text is read or refused with a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.infra.ecr import forms
from registry_pipelines.infra.ecr.wanted import lifecycle_text

ACCOUNTS = st.lists(st.from_regex(r"[0-9]{12}", fullmatch=True), min_size=1, max_size=3, unique=True)
ACTIONS = st.lists(st.sampled_from(["ecr:BatchGetImage", "ecr:PutImage", "ecr:*"]), min_size=1, max_size=3, unique=True)
STATEMENTS = st.lists(st.tuples(ACCOUNTS, ACTIONS), min_size=1, max_size=4)


@given(STATEMENTS, st.booleans())
def test_a_policy_means_the_same_however_it_is_written(told: list[tuple[list[str], list[str]]], roots: bool) -> None:
    def policy(*, other: bool) -> str:
        listed = []
        for number, (accounts, actions) in enumerate(told):
            named = [f"arn:aws:iam::{each}:root" if other and roots else each for each in accounts]
            named = named[::-1] if other else named
            alone = named[0] if other and len(named) == 1 else named
            does = actions[0] if other and len(actions) == 1 else actions[::-1] if other else actions
            listed.append({"Sid": f"S{number}", "Effect": "Allow", "Principal": {"AWS": alone}, "Action": does})
        return json.dumps({"Version": "2012-10-17", "Statement": listed[::-1] if other else listed})

    found = forms.statements(policy(other=False))
    assert found == forms.statements(policy(other=True))
    assert forms.statements(forms.policy_text(found)) == found


@given(st.text(max_size=60) | st.recursive(st.none() | st.text(max_size=3), lambda inner: st.dictionaries(
    st.sampled_from(["Statement", "Sid", "Effect", "rules", "x"]), inner | st.lists(inner, max_size=2), max_size=3,
)).map(json.dumps))  # fmt: skip
def test_any_text_is_a_policy_or_is_refused(text: str) -> None:
    for read in (forms.statements, forms.lifecycle):
        try:
            read(text)
        except ValueError as error:
            assert str(error)


PREFIXES = st.lists(st.sampled_from(["ml/", "tools", "a/b"]), max_size=3, unique=True)
DESTINATIONS = st.lists(
    st.sampled_from(["1" * 12 + "/us-east-1", "1" * 12 + "/ap-south-1", "2" * 12 + "/eu-west-1"]),
    min_size=1, max_size=3, unique=True,
)  # fmt: skip
RULES = st.lists(st.tuples(DESTINATIONS, PREFIXES, st.booleans()), max_size=5)


@given(RULES)
def test_rules_of_replication_survive_being_set(rules: list[tuple[list[str], list[str], bool]]) -> None:
    """What is declared by rules, set by as few rules as it takes, and read back, replicates and deletes the same."""
    edges = forms.edges(rules)
    made = forms.rules(edges)
    back = forms.edges(
        (
            [forms.destination_name(each) for each in rule["destinations"]],
            [each["filter"] for each in rule.get("repositoryFilters", ())],
            "deleteReplication" in rule,
        )
        for rule in made
    )
    assert back == edges
    for destinations, prefixes, deletes in rules:
        for destination in destinations:
            for prefix in prefixes or ["any"]:
                assert forms.covers(edges[destination], f"{prefix}x")
                assert not deletes or (prefix if prefixes else forms.ALL) in edges[destination]["deletes"]


def test_a_lifecycle_policy_is_compared_by_its_rules_in_order() -> None:
    rules = [{"rulePriority": number} for number in (10, 2, 1)]
    assert forms.lifecycle(json.dumps({"rules": rules})) == forms.lifecycle(json.dumps({"rules": rules[::-1]}))
    assert len(lifecycle_text({"rules": []})) == 100


@pytest.mark.parametrize("action", ["ecr:BatchGetImage", "ecr:*", "*", "ecr:Batch*", ["x", "ECR:batchgetimage"]])
def test_who_may_pull_is_found_by_any_action_that_matches(action: object) -> None:
    fields = {"statement.A": {"Effect": "Allow", "Principal": {"AWS": ["1", "2"]}, "Action": action}}
    assert [row["principal"] for row in forms.readers_rows("r", fields, "policy")] == ["1", "2"]
