"""Version comparison on stored vectors (Google osv-scalibr, Apache-2.0; tests/data/version-vectors.NOTICE.txt)."""

from __future__ import annotations

import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.scan.versions import normal_ecosystem, normal_name, parse_version

VECTORS = Path(__file__).parent.parent / "data" / "version-vectors.tar.gz"
LINE = re.compile(r"(.*?) ([<=>]) (.*)\Z")


@cache
def vectors(name: str) -> list[tuple[str, str, str]]:
    with tarfile.open(VECTORS) as archive:
        member = archive.extractfile(f"version-vectors/{name}.txt")
        assert member is not None
        lines = member.read().decode().splitlines()
    matches = [LINE.match(line) for line in lines if line.strip() and not line.startswith(("//", "#"))]
    return [(match[1], match[2], match[3]) for match in matches if match]


# right, refused; never wrong. PyPI: the 80 refused lines hold versions that PEP 440 rejects.
COUNTS = [
    ("PyPI", "pypi-versions", 26, 11),
    ("PyPI", "pypi-versions-generated", 12306, 69),
    ("Debian", "debian-versions", 30, 0),
    ("Debian", "debian-versions-generated", 14442, 0),
    ("Alpine", "alpine-versions", 729, 49),
    ("Alpine", "alpine-versions-generated", 13921, 58),
    ("npm", "semver-versions", 84, 2),
    ("Go", "semver-versions", 84, 2),
    ("Maven", "maven-versions", 102, 0),
    ("Maven", "maven-versions-generated", 14752, 0),
    ("RubyGems", "rubygems-versions", 23, 2),
    ("RubyGems", "rubygems-versions-generated", 4098, 0),
    ("NuGet", "nuget-versions", 35, 0),
    ("AlmaLinux:9", "redhat-versions", 128, 37),
]


@pytest.mark.parametrize(("ecosystem", "name", "right", "refused"), COUNTS)
def test_every_vector_is_right_or_refused(ecosystem: str, name: str, right: int, refused: int) -> None:
    wrong = []
    counted = {"right": 0, "refused": 0}
    for first, operator, second in vectors(name):
        one, two = parse_version(ecosystem, first), parse_version(ecosystem, second)
        if one is None or two is None:
            counted["refused"] += 1
            continue
        if {"<": one < two, "=": one == two, ">": one > two}[operator]:
            counted["right"] += 1
        else:
            wrong.append((first, operator, second))
    assert (wrong, counted) == ([], {"right": right, "refused": refused})


def samples(ecosystem: str, *names: str) -> list[str]:
    texts = {text for name in names for first, _, second in vectors(name)[:1500] for text in (first, second)}
    return sorted(text for text in texts if parse_version(ecosystem, text) is not None)


def _known(value: Any) -> Any:
    assert value is not None
    return value


TRIPLES = {
    "PyPI": ("pypi-versions", "pypi-versions-generated"),
    "Debian": ("debian-versions", "debian-versions-generated"),
    "Alpine": ("alpine-versions", "alpine-versions-generated"),
    "npm": ("semver-versions",),
    "Maven": ("maven-versions", "maven-versions-generated"),
    "RubyGems": ("rubygems-versions", "rubygems-versions-generated"),
    "NuGet": ("nuget-versions",),
    "Red Hat": ("redhat-versions",),
}


@pytest.mark.parametrize("ecosystem", sorted(TRIPLES))
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_the_order_is_total(ecosystem: str, data: st.DataObject) -> None:
    pick = st.sampled_from(samples(ecosystem, *TRIPLES[ecosystem]))
    one, two, three = (_known(parse_version(ecosystem, data.draw(pick))) for _ in range(3))
    assert [one < two, one == two, two < one].count(True) == 1
    if one <= two and two <= three:
        assert one <= three
    if one == two:
        assert (one < three) == (two < three)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(
        ["PyPI", "Debian:12", "Ubuntu:22.04", "Alpine:v3.20", "npm", "Go", "Maven", "RubyGems", "NuGet", "SUSE", ""]
    ),
    st.one_of(st.text(max_size=60), st.text("0123456789abc.-+~^:_", max_size=300)),
)
def test_any_text_is_parsed_or_refused(ecosystem: str, text: str) -> None:
    value = parse_version(ecosystem, text)
    if value is not None:
        assert value == parse_version(ecosystem, text) and not value < value


@pytest.mark.parametrize(
    ("ecosystem", "text"),
    [
        ("PyPI", "0.9-doduo"),
        ("PyPI", "2019-09-12"),
        ("npm", "1.2"),
        ("npm", "1.2.3.4"),
        ("npm", "latest"),
        ("Maven", ""),
        ("Maven", "1.0 or so"),
        ("Maven", "1." * 120),
        ("RubyGems", "1..2"),
        ("NuGet", "1.2.3.4.5"),
        ("AlmaLinux:9", "a:1-1"),
        ("AlmaLinux:9", "1-"),
        ("Packagist", "1.0"),
        ("Go", "(devel)"),
        ("PyPI", ""),
        ("PyPI", "1" * 300),
        ("Debian:12", "not a version"),
        ("Alpine:v3.20", "x"),
    ],
)
def test_what_is_no_version_is_refused(ecosystem: str, text: str) -> None:
    assert parse_version(ecosystem, text) is None


def test_releases_of_go_itself_are_what_vulndb_calls_them() -> None:
    ascending = [
        "go1.20.14",
        "1.21.0-0",
        "go1.21rc2",
        "1.21.0-rc.3",
        "go1.21",
        "1.21.1",
        "v1.21.2-0.20230801000000-abcdefabcdef",
    ]
    values = [_known(parse_version("Go", text)) for text in ascending]
    assert values == sorted(values) and len(set(values)) == len(values)
    assert parse_version("Go", "go1.22") == parse_version("Go", "1.22.0")


def test_equal_versions_have_equal_hashes() -> None:
    for ecosystem, one, two in (
        ("Maven", "1.0.RELEASE", "1"),
        ("Maven", "1.0-cr1", "1-RC1"),
        ("RubyGems", "1.0.a.0", "1.a"),
        ("NuGet", "1.0-Beta", "1.0.0.0-beta"),
        ("Rocky Linux:8", "0:1.02-1", "1.2-1"),
    ):
        assert hash(_known(parse_version(ecosystem, one))) == hash(_known(parse_version(ecosystem, two)))
        assert parse_version(ecosystem, one) == parse_version(ecosystem, two)


def test_names_and_ecosystems_are_brought_to_one_form() -> None:
    assert normal_name("PyPI", "Foo._Bar") == "foo-bar"
    assert normal_name("NuGet", "Newtonsoft.Json") == "newtonsoft.json"
    assert normal_name("npm", "@A/b_c") == "@A/b_c"
    assert normal_ecosystem("Ubuntu:22.04:LTS") == "Ubuntu:22.04"
    assert normal_ecosystem("Ubuntu:Pro:18.04:LTS") == "Ubuntu:Pro:18.04"
    assert normal_ecosystem("Debian:12") == "Debian:12"
