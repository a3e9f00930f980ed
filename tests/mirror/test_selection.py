from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.mirror.selection import Version, select_tags, version_range

TAGS = ["latest", "1.0", "1.2.0", "v1.10.3", "2.0.0-rc.1", "2.0.0", "3.12-slim", "3.9-slim", "nightly-2024"]


def test_patterns_versions_first_then_the_rest() -> None:
    assert select_tags(TAGS, patterns=("*-slim",)) == ["3.12-slim", "3.9-slim"]
    assert select_tags(TAGS, patterns=("latest", "1.*")) == ["1.2.0", "1.0", "latest"]
    assert select_tags(TAGS, patterns=("none*",)) == []


def test_newest_counts_versions_only() -> None:
    assert select_tags(TAGS, patterns=("1.*", "v1.*", "latest"), newest=2) == ["v1.10.3", "1.2.0"]
    assert select_tags(["latest"], newest=5) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">=1.2,<2", ["v1.10.3", "1.2.0"]),
        ("^1.2", ["v1.10.3", "1.2.0"]),
        ("~1.2", ["1.2.0"]),
        (">=2.0.0-rc.1", ["2.0.0", "2.0.0-rc.1"]),
        (">=2", ["2.0.0"]),
        ("=1.0.0", ["1.0"]),
        ("!=2, >1", ["v1.10.3", "1.2.0"]),
    ],
)
def test_ranges(text: str, expected: list[str]) -> None:
    assert select_tags(TAGS, semver=text) == expected


@pytest.mark.parametrize("text", ["", "x", ">=", ">=1.2,", "1.2 || 3", ">>1"])
def test_ranges_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="version comparison"):
        version_range(text)


def test_order_follows_semver_section_11() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    assert select_tags(reversed(ordered)) == ordered[::-1]
    assert Version.find("1.0.0+build") == Version.find("v1")


_VERSIONS = st.from_regex(r"\Av?[0-9]{1,3}(\.[0-9]{1,3}){0,3}(-[0-9a-z]{1,4}(\.[0-9a-z]{1,3})?)?\Z")


@settings(max_examples=100, deadline=None)
@given(st.lists(_VERSIONS, min_size=1, max_size=8), st.permutations(range(8)), st.integers(1, 9))
def test_selection_does_not_depend_on_the_order(tags: list[str], order: list[int], newest: int) -> None:
    shuffled = [tags[place] for place in order if place < len(tags)]
    assert select_tags(tags, newest=newest) == select_tags(shuffled, newest=newest)
    assert len(select_tags(tags, newest=newest)) == min(newest, len(set(tags)))


@settings(max_examples=100, deadline=None)
@given(_VERSIONS, _VERSIONS)
def test_the_order_is_total(one: str, two: str) -> None:
    a, b = Version.find(one), Version.find(two)
    assert a is not None and b is not None
    assert [a < b, a == b, b < a].count(True) == 1
