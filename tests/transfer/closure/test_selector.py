"""Which names a selector takes."""

from __future__ import annotations

import pytest

from registry_pipelines.errors import InputError
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.selector import Selector

TAGS = ["latest", "v1.2.0", "v1.10.0", "v1.9.3", "2.0.0-rc.1", "2.0.0", "main-abc", "v1.2", "v1.10.0-debug"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), TAGS),
        (Selector(glob=("v1.*",)), ["v1.2.0", "v1.10.0", "v1.9.3", "v1.2", "v1.10.0-debug"]),
        (Selector(glob=("v1.*",), exclude=("*-debug",)), ["v1.2.0", "v1.10.0", "v1.9.3", "v1.2"]),
        (Selector(regex=(r"v1\.\d+\.0",)), ["v1.2.0", "v1.10.0"]),
        (Selector(semver=">=1.9, <2"), ["v1.10.0", "v1.9.3"]),
        (Selector(semver="^1.2"), ["v1.2.0", "v1.10.0", "v1.9.3", "v1.2"]),
        (Selector(semver="~1.9"), ["v1.9.3"]),
        (Selector(semver=">=2.0.0-rc.1"), ["2.0.0-rc.1", "2.0.0"]),
        (Selector(newest=2), ["2.0.0", "v1.10.0"]),
        (Selector(semver=">=2.0.0-0", newest=2), ["2.0.0", "2.0.0-rc.1"]),
        (Selector(semver="^1", newest=2), ["v1.10.0", "v1.9.3"]),
        (Selector(glob=("main-*", "latest"), newest=1), ["main-abc"]),
    ],
)
def test_takes_what_it_says(selector: Selector, expected: list[str]) -> None:
    assert selector.select(TAGS) == expected


@pytest.mark.parametrize("text", ["abc", ">=x", "1..2", ">>1", ">=1,,<2", ">=" + "9" * 5000])
def test_unreadable_ranges_are_errors(text: str) -> None:
    with pytest.raises(InputError, match="range of versions"):
        Selector(semver=text)


def test_unreadable_patterns_are_errors() -> None:
    with pytest.raises(InputError, match="regular expression"):
        Selector(regex=("(",))
    with pytest.raises(InputError, match="newest"):
        Selector(newest=-1)


def test_knows_tags_that_travel_with_their_subject() -> None:
    digest = "a" * 64
    assert all(is_named_after_digest(f"sha256-{digest}{end}") for end in ("", ".sig", ".att", ".sbom"))
    assert not any(is_named_after_digest(tag) for tag in ("v1", "sha256-short", f"x-{digest}"))
