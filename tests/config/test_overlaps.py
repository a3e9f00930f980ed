"""Two sources for one place: what is told, and what is no clash."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.config import load
from registry_pipelines.config.overlaps import _example
from registry_pipelines.errors import ConfigInvalid
from tests.config.files import SMALL, problems, written

UPSTREAMS = "mirrors: {m: {via: there, to: here, upstreams: [%s]}}\ntargets:\n"
SYNCS = "syncs: {one: {source: here, repositories: [%s], targets: [eu]}, two: {source: more, repositories: [%s], %s}}\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("targets:\n", UPSTREAMS % "{image: python}, {image: quay.io/x/python, repository: library/python}"),
            "mirrors.m.upstreams[1]: brings quay.io/x/python to there/library/python, "
            "where `mirrors.m.upstreams[0]` brings docker.io/library/python under the same tags",
        ),
        (
            ("targets:\n", UPSTREAMS % '{image: a/b, tags: ["1.*"]}, {image: q.io/a, repository: a/b, tags: ["2.*"]}'),
            "",
        ),
        (
            ("targets:\n", UPSTREAMS % '{image: a/b, tags: ["1.*"]}, {image: q.io/a, repository: a/b, tags: ["1.1"]}'),
            "brings q.io/a to there/a/b",
        ),
        (("targets:\n", UPSTREAMS % "{image: a/b, tags: [x]}, {image: q.io/a, repository: a/b, tags: [y, z]}"), ""),
        (
            (
                "targets:\n",
                UPSTREAMS % '{image: a/b, exclude_tags: ["2.*"]}, {image: q.io/a, repository: a/b, tags: ["2.*"]}',
            ),
            "",
        ),
        (("targets:\n", UPSTREAMS % "{image: python, tags: ['3.11']}, {image: docker.io/library/python}"), ""),
        (("targets:\n", SYNCS % ("base/a", "base/b, base/a", "targets: [eu]") + "targets:\n"), "more/base/a to there"),
        (("targets:\n", SYNCS % ("base/a", "base/b", "targets: [eu]") + "targets:\n"), ""),
        (
            ("targets:\n", SYNCS % ("base/a", "ml/forecaster", "targets: [eu]") + "targets:\n"),
            "where `images.forecaster.targets` brings here/ml/forecaster",
        ),
        (
            ("  eu:", "  deep: {registry: there, prefix: replica/x}\n  eu:"),
            "syncs.two.targets[1]: brings more/y to there/replica/x/y, where `syncs.two.targets[0]` brings more/x/y",
        ),
    ],
)
def test_two_sources_for_one_place_and_tag_are_named_both(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = SMALL.replace("images:", '  more: {kind: distribution, host: "more.example"}\nimages:', 1)
    if "deep" in change[1]:
        text += "syncs: {two: {source: more, repositories: [x/y, y], targets: [eu, deep]}}\n"
    text = text.replace(*change, 1)
    if not said:
        load(written(tmp_path, text), {"TOKEN": "x"})
    else:
        [problem] = problems(tmp_path, text)
        assert said in problem


ONE = "{source: here, targets: [eu], %s}"
MORE = "{source: more, targets: [%s], %s}"


def told(folder: Path, one: str, two: str, target: str = "eu", *, image: bool = False) -> list[str]:
    """The problems of two syncs from two registries; `deep` is below `eu`. image: there is one of ours, too."""
    text = SMALL.replace("images:", '  more: {kind: distribution, host: "more.example"}\nimages:', 1)
    text += "  deep: {registry: there, prefix: replica/backup}\n"
    text += f"syncs:\n  one: {ONE % one}\n  two: {MORE % (target, two)}\n"
    if not image:
        text = text[: text.index("images:")] + text[text.index("targets:\n") :]
    try:
        load(written(folder, text), {"TOKEN": "x"})
    except ConfigInvalid:
        return problems(folder, text)
    return []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("repositories: ['base/*']", "repositories: ['base/*']"),
        ("repositories: ['base/*']", "repositories: ['base/python-*']"),
        ("repositories: ['base/*']", "repositories: ['*']"),
        ("repositories: ['base/*']", "newest: 3"),
        ("repositories: [base/a]", "repositories: ['base/*']"),
        ("repositories: [base/a]", "repositories_regex: ['base/.*']"),
        ("repositories: ['base/*']", "repositories_regex: ['base/.*']"),
        ("repositories: ['base/?']", "repositories: ['base/*']"),
        ("repositories: ['base/[ab]']", "repositories: ['base/*']"),
        ("repositories: ['base/*'], exclude_repositories: ['*/tmp']", "repositories: ['base/*']"),
        ("repositories: ['base/*'], tags: ['v*']", "repositories: ['base/*'], tags: [v1]"),
        ("repositories: ['base/*'], semver: '>=1'", "repositories: ['base/*']"),
        ("repositories: ['base/*'], strip: base", "repositories: [a]"),
        ("repositories: ['base/*'], strip: base", "repositories: ['other/*'], strip: other"),
    ],
)
def test_patterns_that_hold_each_other_are_told_either_way_round(tmp_path: Path, one: str, two: str) -> None:
    for first, second in ((one, two), (two, one)):
        [problem] = told(tmp_path, first, second)
        assert "`syncs.one.targets[0]` brings" in problem or "`syncs.two.targets[0]` brings" in problem
        assert "`exclude_repositories`" in problem and "under the same tags" in problem


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("repositories: ['team-*']", "repositories: ['*-base']"),
        ("repositories: ['a/*']", "repositories: ['b/*']"),
        ("repositories: ['a/*'], strip: a", "repositories: ['a/*'], exclude_repositories: ['a/*'], strip: a"),
        ("repositories: [a/x], strip: a", "repositories: [a/x]"),
        ("repositories: ['a/?']", "repositories: ['a/??']"),
        ("repositories: ['base/*']", "repositories: ['base/*'], exclude_repositories: ['base/*']"),
        ("repositories: [base/a]", "repositories: ['base/*'], exclude_repositories: [base/a]"),
        ("repositories: [base/a], exclude_repositories: [base/a]", "repositories: ['base/*']"),
        ("repositories: ['base/*'], exclude_repositories: ['*/[a-m]*']",
         "repositories: ['base/*'], exclude_repositories: ['*/[n-z]*']"),
        ("repositories: ['base/*'], tags: ['v1*']", "repositories: ['base/*'], tags: ['v2*']"),
        ("repositories: ['base/*'], exclude_tags: ['v2*']", "repositories: ['base/*'], tags: ['v2.*']"),
        ("repositories: ['base/*'], semver: '<2'", "repositories: ['base/*'], semver: '>=2'"),
        ("repositories_regex: ['base/.*']", "repositories_regex: ['base/.*']"),
        ("repositories: ['x/[!a]*']", "repositories: ['x/[!b]*']"),
    ],
)  # fmt: skip
def test_what_need_not_meet_is_no_problem(tmp_path: Path, one: str, two: str) -> None:
    for first, second in ((one, two), (two, one)):
        assert told(tmp_path, first, second) == []


def test_names_that_are_alike_without_their_beginnings_are_told(tmp_path: Path) -> None:
    [problem] = told(tmp_path, "repositories: [base/a], strip: base", "repositories: [other/a], strip: other")
    assert "brings more/other/a to there/replica/a, where `syncs.one.targets[0]` brings here/base/a" in problem


def test_a_pattern_reaches_below_another_s_prefix_only_when_it_names_it(tmp_path: Path) -> None:
    assert told(tmp_path, "repositories: ['*']", "repositories: ['*']", "deep") == []
    assert told(tmp_path, "repositories: [backup/a]", "repositories: ['*']", "deep")
    assert told(tmp_path, "repositories: ['backup/*']", "repositories: ['*']", "deep")
    assert told(tmp_path, "repositories: ['backup/*']", "repositories: [a]", "deep")
    assert told(tmp_path, "repositories: ['*']", "repositories: [a]", "deep") == []


def test_one_registry_s_repositories_are_one_source_and_its_images_are_never_taken(tmp_path: Path) -> None:
    text = SMALL + "syncs:\n"
    text += "  one: {source: here, targets: [eu], semver: '>=1'}\n  two: {source: here, targets: [eu], newest: 3}\n"
    assert load(written(tmp_path, text), {"TOKEN": "x"}).syncs.keys() == {"one", "two"}


def test_what_another_registry_could_put_in_an_image_s_place_is_told(tmp_path: Path) -> None:
    """It would take the place of a release that was promoted."""
    [problem] = told(tmp_path, "repositories: [x]", "exclude_repositories: [x]", image=True)
    assert "brings more/* to there/replica/*, where `images.forecaster.targets` brings here/ml/forecaster" in problem
    assert told(tmp_path, "repositories: [x]", "exclude_repositories: [ml/*, x]", image=True) == []


@given(st.text("ab*?[]!-/", max_size=12))
def test_an_example_is_taken_by_its_pattern(pattern: str) -> None:
    made = _example(pattern)
    assert not made or fnmatch.fnmatchcase(made, pattern)
