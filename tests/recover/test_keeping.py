"""Which moments of a backup stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.recover.keeping import kept_moments
from registry_pipelines.recover.model import Keep
from registry_pipelines.recover.moment import EXPIRED, moment_tag, read_tag
from registry_pipelines.settings import Duration

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NIGHTS = [moment_tag(NOW - timedelta(days=each, hours=9)) for each in range(400)]


def test_days_weeks_and_months_add_up() -> None:
    kept = kept_moments(NIGHTS, Keep(daily=7, weekly=4, monthly=3), NOW, NIGHTS)
    assert list(kept)[:7] == NIGHTS[:7] and kept[NIGHTS[0]] == "the newest"
    sundays = [tag for tag in NIGHTS if read_tag(tag).isoweekday() == 7]
    assert kept[sundays[1]] == "one of 4 weekly" and sundays[3] in kept and sundays[4] not in kept
    assert "20261031T030000Z" in kept and "20260930T030000Z" in kept and "20260831T030000Z" not in kept
    assert len(kept) == 7 + 3 + 2  # the newest is the last of its week and its month, too


def test_a_night_that_was_missed_costs_no_place() -> None:
    tags = NIGHTS[::3]
    assert list(kept_moments(tags, Keep(daily=5), NOW, tags)) == tags[:5]


def test_what_is_young_stays() -> None:
    hours = [moment_tag(NOW - timedelta(hours=each)) for each in range(72)]
    assert len(kept_moments(hours, Keep(within=Duration(days=1), last=1), NOW, hours)) == 25


def test_broken_nights_never_push_the_last_whole_moment_out() -> None:
    kept = kept_moments(NIGHTS, Keep(daily=3, last=3), NOW, NIGHTS[10:])
    assert list(kept) == NIGHTS[:13]
    assert kept[NIGHTS[5]] == "no newer one is whole" and kept[NIGHTS[10]] == "the newest whole one"


def test_a_broken_night_among_whole_ones_goes() -> None:
    kept = kept_moments(NIGHTS, Keep(daily=3), NOW, [tag for tag in NIGHTS if tag != NIGHTS[1]])
    assert list(kept) == [NIGHTS[0], NIGHTS[2], NIGHTS[3]]


def test_one_that_is_being_let_go_does_not_count() -> None:
    tags = [*NIGHTS[:5], EXPIRED + NIGHTS[1]]
    assert list(kept_moments(tags, Keep(last=2), NOW, NIGHTS)) == [NIGHTS[0], NIGHTS[2]]


counts = st.integers(0, 5)


@given(
    st.lists(st.integers(-3 * 86_400, 800 * 86_400), unique=True, max_size=60),
    st.builds(Keep, last=st.integers(1, 5), daily=counts, weekly=counts, monthly=counts, yearly=counts),
    st.randoms(use_true_random=False),
)
def test_more_rules_never_keep_less_and_the_newest_stays(ages: list[int], keep: Keep, chance) -> None:  # type: ignore[no-untyped-def]
    tags = [moment_tag(NOW - timedelta(seconds=each)) for each in ages]
    whole = [tag for tag in tags if chance.random() < 0.8]
    kept = kept_moments(tags, keep, NOW, whole)
    assert set(kept_moments(tags, Keep(last=keep.last), NOW, whole)) <= set(kept) <= set(tags)
    assert not tags or max(tags) in kept
    assert not whole or max(whole) in kept
    # Run again on what stayed, nothing more goes.
    assert set(kept_moments(kept, keep, NOW, whole)) == set(kept)
