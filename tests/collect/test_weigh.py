"""Bytes of a plan: each blob once, and the sums of repositories, teams and rules are the whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.collect.plan import Entry, RepositoryPlan
from registry_pipelines.collect.weigh import KEPT, Held, totals, weigh
from registry_pipelines.oci.digest import Digest

ENTRIES = 4
SIZES = {f"blob{at}": size for at, size in enumerate((1, 2, 3, 5, 7, 100, 1_000_003))}
needs = st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, ENTRIES - 1) | st.just(KEPT)), max_size=12)
fleets = st.lists(needs, min_size=1, max_size=4)


def held(found: list[tuple[str, int]]) -> Held:
    made = Held(ENTRIES)
    for blob, entry in found:
        made.add(blob, SIZES[blob], entry)
    return made


@given(fleets)
@settings(max_examples=30, deadline=None)
def test_what_is_freed_is_what_nothing_needs_any_more(fleet: list[list[tuple[str, int]]]) -> None:
    """Against a plain simulation: entries go one after the other, and what nobody holds any more is gone."""
    weights = weigh([held(found) for found in fleet])
    left = {(at, blob, entry) for at, found in enumerate(fleet) for blob, entry in found}
    before = stored = sum(SIZES[blob] for blob in {blob for _, blob, _ in left})
    for at in range(len(fleet)):
        for number in range(ENTRIES):
            left = {each for each in left if (each[0], each[2]) != (at, number)}
            now = sum(SIZES[blob] for blob in {blob for _, blob, _ in left})
            assert weights.freed[at][number] == stored - now
            stored = now
    assert sum(weights.held) == before
    assert sum(weights.gone) == before - stored


@given(fleets)
@settings(max_examples=30, deadline=None)
def test_teams_and_rules_sum_to_the_registry(fleet: list[list[tuple[str, int]]]) -> None:
    weights = weigh([held(found) for found in fleet])
    entries = tuple(Entry(Digest.of(b"%d" % at), (), "", (), rule=f"rule {at % 3}") for at in range(ENTRIES))
    plans = [RepositoryPlan(f"team{at % 2}/app{at}", {}, entries) for at in range(len(fleet))]
    found = totals(plans, weights)
    [whole] = [each for each in found if each.of == "registry"]
    for of in ("team", "repository"):
        some = [each for each in found if each.of == of]
        assert sum(each.before for each in some) == whole.before
        assert sum(each.freed for each in some) == whole.freed
        assert sum(each.after for each in some) == whole.after
        assert sum(each.going for each in some) == whole.going == ENTRIES * len(fleet)
    assert sum(each.freed for each in found if each.of == "rule") == whole.freed


def test_nothing_is_no_bytes() -> None:
    assert [each.before for each in totals([], weigh([]))] == [0]
