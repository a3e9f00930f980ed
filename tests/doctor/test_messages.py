"""Real messages and their answers; every rule has a message, and nothing that is fed in breaks the reader."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.doctor.clues import read_message
from registry_pipelines.doctor.diagnosis import diagnose
from registry_pipelines.doctor.rules import RULES, rule_of
from tests.doctor.messages import MESSAGES, Message


def test_the_table_is_large_enough() -> None:
    assert len({each.text for each in MESSAGES}) == len(MESSAGES) >= 40


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: each.source)
def test_a_message_has_its_answer(message: Message) -> None:
    answer = diagnose(message.text)[0]
    assert answer.cause == message.cause, answer
    told = " ".join((answer.what, answer.do, answer.command))
    assert [words for words in message.words if words not in told] == []
    assert answer.what
    assert not answer.what.endswith(".")
    assert not re.search(r"<[A-Z]+>", told), "a place that was not filled"


def test_every_rule_decides_some_message() -> None:
    deciding = {id(found[0]) for each in MESSAGES if (found := rule_of(each.text))}
    assert [rule.text for rule in RULES if id(rule) not in deciding] == []


def test_what_a_message_tells() -> None:
    denied = read_message(MESSAGES[2].text)
    assert denied.image == "111122223333.dkr.ecr.eu-west-1.amazonaws.com/ml/app:1"
    assert denied.principal.endswith("assumed-role/eks-node/i-03543d3e416f0f883")
    assert (denied.action, denied.missing_by) == ("ecr:BatchGetImage", "resource-based policy")
    assert denied.kubelet


@given(st.text(max_size=400) | st.lists(st.sampled_from([each.text for each in MESSAGES]), max_size=3).map(" ".join))
def test_any_text_is_answered(text: str) -> None:
    answers = diagnose(text)
    assert answers
    assert all(each.what for each in answers)


@given(st.sampled_from(MESSAGES), st.integers(0, 400), st.text(max_size=20))
def test_a_cut_or_spoilt_message_is_answered(message: Message, at: int, text: str) -> None:
    assert diagnose(message.text[:at] + text + message.text[at:])
    assert diagnose(message.text[:at])
