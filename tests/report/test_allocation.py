"""How shared bytes are split: the textbook's sums, the values of the game worked out the long way, and what adds up."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Source
from registry_pipelines.report.allocation import LEVELS, Holding, Split
from registry_pipelines.report.holdings import Billing, Held, hold, teams_of
from registry_pipelines.report.prices import FilePrices
from tests.report.shelf import AT, IMAGE, INDEX, digest, image, index, shelf

ALONE = {"r": Billing("repository", 0, 0)}
TOGETHER = {"r": Billing("registry", 0, 0)}


def by_name(held: Held, level: str) -> dict[str, tuple[int, float, int]]:
    """Needed, fair and freed bytes."""
    names = {
        "team": held.teams,
        "repository": ["/".join(each) for each in held.repositories],
        "image": [held.image_name(at) for at in range(len(held.images))],
    }[level]
    found = Split(held.holding).shares(level, len(names))  # type: ignore[arg-type]
    return {
        name: (int(found.needed[at]), float(found.fair[at]), int(found.freed[at]))
        for at, name in enumerate(names)
        if found.needed[at]
    }


def test_the_textbook_500_images_of_5_gb_without_sharing_are_250_dollars() -> None:
    held = hold([shelf([image(f"app/{at}", "v1", {f"own{at}": 5 * 10**9}) for at in range(500)])], ALONE, {})
    assert FilePrices().price("aws/ecr/storage").cost(int(Split(held.holding).blob_sizes.sum())) == pytest.approx(250)


def test_the_textbook_a_base_of_3_gb_below_100_images_is_stored_once() -> None:
    held = hold(
        [shelf([image("app", f"v{at}", {"base": 3 * 10**9, f"own{at}": 10**4}) for at in range(100)])], ALONE, {}
    )
    assert int(Split(held.holding).blob_sizes.sum()) == 3 * 10**9 + 100 * 10**4
    needed, fair, freed = by_name(held, "image")["r/app:v7"]
    assert (needed, freed) == (3 * 10**9 + 10**4, 10**4)
    assert fair == pytest.approx(3 * 10**7 + 10**4)


def test_what_a_team_has_is_the_sum_of_what_its_repositories_and_images_have() -> None:
    """The base is half of each team's, whatever the number of their images."""
    rows = [image("a/one", f"v{at}", {"base": 600, f"a{at}": 10}) for at in range(3)]
    rows += [image("a/two", "v0", {"base": 600, "shared": 40}), image("b/only", "v0", {"base": 600, "shared": 40})]
    held = hold([shelf(rows)], TOGETHER, {"a": ["a/*"], "b": ["b/*"]})
    assert by_name(held, "team") == {"a": (670, 350.0, 30), "b": (640, 320.0, 0)}
    assert by_name(held, "repository") == {
        "r/a/one": (630, 180.0, 30), "r/a/two": (640, 170.0, 0), "r/b/only": (640, 320.0, 0),
    }  # fmt: skip
    assert by_name(held, "image")["r/a/one:v1"] == (610, 60.0, 10)


def test_where_a_blob_is_stored_once_is_the_clouds_matter() -> None:
    rows = [image(f"p/r{at // 2}/app{at}", "v1", {"base": 100}) for at in range(4)]
    stored = {once: int(Split(hold([shelf(rows)], {"r": Billing(once, 0, 0)}, {}).holding).blob_sizes.sum())  # type: ignore[arg-type]
              for once in ("repository", "project", "registry")}  # fmt: skip
    assert stored == {"repository": 400, "project": 200, "registry": 100}


def test_an_image_has_what_its_index_names_and_what_refers_to_it() -> None:
    rows = [
        index("app", "v1", ("amd64", "arm64")),
        index("app", "v2", ("amd64",)),
        image("app", "", {"x": 100}, named="amd64"),
        image("app", "", {"y": 50}, named="arm64"),
        image("app", "", {"signature": 8}, named="signed", subject="amd64"),
        image("app", "", {"of a signature": 2}, named="twice", subject="signed"),
    ]
    held = hold([shelf(rows)], ALONE, {})
    assert by_name(held, "image") == {"r/app:v1": (160, 105.0, 50), "r/app:v2": (110, 55.0, 0)}
    assert held.scans.all.sum() == 2  # what refers is no image


def test_what_a_tag_is_named_after_has_it() -> None:
    tag = "sha256-" + digest("main").split(":")[1]
    rows = [
        image("app", "v1", {"x": 100}, named="main"),
        image("app", f"{tag}.sig", {"signature": 8}),
        index("app", tag, ("signed",)),
        image("app", "", {"statement": 4}, named="signed", subject="main"),
        image("app", "sha256-" + "0" * 64, {"of one that is gone": 2}),
    ]
    held = hold([shelf(rows)], ALONE, {})
    assert by_name(held, "image") == {"r/app:v1": (112, 112.0, 112), f"r/app:sha256-{'0' * 64}": (2, 2.0, 2)}


def test_manifests_that_name_each_other_in_a_circle_are_counted_all_the_same() -> None:
    rows = [image("app", "a", {"x": 5}, named="a", subject="b"), image("app", "b", {"y": 7}, named="b", subject="a")]
    held = hold([shelf(rows)], ALONE, {})
    assert int(Split(held.holding).blob_sizes.sum()) == 12


def test_an_image_whose_blobs_are_not_known_counts_whole_and_is_told() -> None:
    rows = Rows()
    for at in range(2):
        rows.add(Row("r", "app", digest(f"m{at}"), AT, tags=[f"v{at}"], size_bytes=100, media_type=IMAGE))
    rows.add(Row("r", "app", digest("list"), AT, size_bytes=100, media_type=INDEX, children=(digest("m0"),)))
    rows.add(Row("r", "app", digest("no size"), AT, media_type=IMAGE))
    held = hold([rows.inventory([Source(registry="r", kind="gar", answered=AT)])], ALONE, {})
    assert (held.at_most, held.no_size, int(Split(held.holding).blob_sizes.sum())) == (3, 1, 200)


def test_what_is_archived_and_needed_by_nothing_else_has_its_own_tariff() -> None:
    rows = [
        image("app", "v1", {"base": 100, "old": 10}, status="ARCHIVED"),
        image("app", "v2", {"base": 100, "new": 20}, status="ACTIVE"),
    ]
    split = Split(hold([shelf(rows)], {"r": Billing("repository", 0, 1)}, {}).holding)
    assert np.bincount(split.blob_tariffs, weights=split.blob_sizes).tolist() == [120, 10]


def test_the_first_team_that_claims_a_repository_has_it() -> None:
    teams = {"vision": ["team/vision/*"], "all": ["team/*"]}
    assert teams_of("team/vision/app", teams) == ["vision", "all"]
    assert teams_of("other", teams) == []
    assert teams_of("rp-quarantine/team/vision/app", teams) == ["vision", "all"]


def test_nothing_held_is_nothing() -> None:
    held = hold([], {}, {"a": ["*"]})
    assert Split(held.holding).shares("team", 2).fair.tolist() == [0.0, 0.0]


NEEDS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=20
)
"""Team, repository of the team, image of the repository, blob."""


def long_way(needs: set[tuple[int, int, int, int]], sizes: Mapping[int, int]) -> dict[int, Fraction]:
    """Shapley's value of the teams by its definition: what each adds, on average over all orders in which they come."""
    teams = sorted({team for team, *_ in needs})
    found = dict.fromkeys(teams, Fraction(0))
    orders = list(permutations(teams))
    for order in orders:
        there: set[int] = set()
        for team in order:
            own = {blob for each, _, _, blob in needs if each == team}
            found[team] += Fraction(sum(sizes[blob] for blob in own - there), len(orders))
            there |= own
    return found


@given(needs=NEEDS, sizes=st.lists(st.integers(0, 10**12), min_size=6, max_size=6))
@settings(max_examples=150)
def test_the_split_is_the_value_of_the_game_and_adds_up_on_every_level(
    needs: list[tuple[int, int, int, int]], sizes: list[int]
) -> None:
    rows = np.array(needs, dtype=np.int64)
    repository = rows[:, 0] * 4 + rows[:, 1]
    held = Holding(
        place=rows[:, 0] * 0,
        blob=rows[:, 3],
        size=np.array(sizes, dtype=np.int64)[rows[:, 3]],
        registry=rows[:, 0] * 0,
        team=rows[:, 0],
        repository=repository,
        image=repository * 4 + rows[:, 2],
        tariff=rows[:, 0] * 0,
    )
    split = Split(held)
    counts = {"registry": 1, "team": 3, "repository": 12, "image": 48}
    found = {level: split.shares(level, counts[level]) for level in LEVELS}
    stored = int(split.blob_sizes.sum())
    assert stored == sum(sizes[blob] for blob in {blob for *_, blob in needs})
    for level, shares in found.items():
        assert shares.fair.sum() == pytest.approx(stored), level
        assert (shares.freed <= shares.fair + 1).all() and (shares.fair <= shares.needed + 1).all(), level
    for team, value in long_way(set(needs), dict(enumerate(sizes))).items():
        assert found["team"].fair[team] == pytest.approx(float(value))
    assert found["image"].fair.reshape(12, 4).sum(axis=1) == pytest.approx(found["repository"].fair)
    assert found["repository"].fair.reshape(3, 4).sum(axis=1) == pytest.approx(found["team"].fair)
