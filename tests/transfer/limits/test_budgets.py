"""What is left of an announced quota, until when, and what a plan says of it."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import RateLimited
from registry_pipelines.registry.client.translate import translate_status
from registry_pipelines.registry.protocol import Quota
from registry_pipelines.transfer.limits.budgets import BudgetBook, Need, budget_notes
from registry_pipelines.transfer.limits.machine import MachineLimits

HOURS = 21600.0
NOON = datetime(2026, 11, 28, 8, 10, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_the_window_ends_six_hours_after_it_was_first_used() -> None:
    clock = Clock()
    book = BudgetBook(None, "docker.io", clock=clock)
    assert book.current() is None
    for remaining, minutes in ((100, 0), (60, 60), (37, 120)):
        clock.now = NOON + minutes * 60
        book.note(Quota(100, remaining, HOURS, "203.0.113.7"))
    budget = book.current()
    assert budget is not None
    assert (budget.remaining, budget.until_text) == (37, "14:10 UTC")
    (note,) = budget_notes("this mirror", [Need("docker.io", 140)], [budget])
    assert note.startswith(
        "this mirror needs 140 pulls of docker.io, 37 left until 14:10 UTC (100 in 6 h for 203.0.113.7): "
    )
    assert budget_notes("this mirror", [Need("docker.io", 12, exact=False)], [budget]) == [
        "this mirror needs at least 12 pulls of docker.io, 37 left until 14:10 UTC (100 in 6 h for 203.0.113.7)"
    ]
    assert budget_notes("this mirror", [Need("docker.io", 0), Need("quay.io", 3)], [budget]) == []
    clock.now = NOON + HOURS + 1
    assert book.current() is None


def test_more_left_or_another_account_begins_a_new_window() -> None:
    clock = Clock()
    book = BudgetBook(None, "docker.io", clock=clock)
    book.note(Quota(100, 3, HOURS, "203.0.113.7"))
    clock.now += 3600
    book.note(Quota(200, 3, HOURS, "account"))
    assert book.current() is not None
    assert book.current().until == NOON + 3600 + HOURS  # type: ignore[union-attr]
    clock.now += 60
    book.note(Quota(200, 0, HOURS, "account", resets_after_s=900))
    assert book.current().until == clock.now + 900  # type: ignore[union-attr]


def test_other_processes_know_what_one_was_told(tmp_path: Path) -> None:
    MachineLimits(tmp_path).quota("docker.io").observe(Quota(100, 37, HOURS, "203.0.113.7"))
    other = MachineLimits(tmp_path)
    budget = other.quota("docker.io").budget()
    assert budget is not None
    assert budget.remaining == 37
    assert [each.registry for each in other.budgets()] == ["docker.io"]
    assert other.quota_note("docker.io") == ""


@given(st.binary(max_size=200))
def test_a_damaged_file_says_nothing(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docker.io.quota").write_bytes(raw)
        assert MachineLimits(Path(folder)).budgets() == []
        BudgetBook(Path(folder) / "docker.io.quota", "docker.io").note(Quota(100, 1, HOURS))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit. https://www.docker.com/'
         b'increase-rate-limit"}]}', "the limit of pulls: wait for its window"),
        (b"Too Many Requests", "limit against abuse"),
        (b'{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 985us, allowed: 44000/minute"}]}',
         "limit against abuse"),
    ],
)  # fmt: skip
def test_docker_hub_has_two_limits_and_says_which(body: bytes, words: str) -> None:
    error = translate_status(429, body, where="docker.io/x", doing="reading a manifest", host="docker.io")
    elsewhere = translate_status(429, body, where="quay.io/x", doing="reading a manifest", host="quay.io")
    assert isinstance(error, RateLimited)
    assert words in error.do
    assert elsewhere.do == "Ask less often, or with credentials"
