"""Tags as versions: the tables of docs/tags.md, an order that is one, and semver's own vectors."""

from __future__ import annotations

import itertools
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.oci.references import check_tag
from registry_pipelines.oci.tags import Range, TagVersion, order_key, read_version
from registry_pipelines.transfer.closure.selector import Selector

ROOT = Path(__file__).parent.parent.parent
TABLE = re.compile(r"^\|(.*)\|$", re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """The body of the first table below a heading of docs/tags.md."""
    text = (ROOT / "docs" / "tags.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")] for line in TABLE.findall(text)[2:]]


def shown(version: TagVersion | None) -> list[str]:
    if version is None:
        return ["none", "", "", "", ""]
    numbers = ".".join(map(str, version.numbers)) + version.letter
    pre = ".".join(word or str(number) for _, number, word in version.pre)
    revision = str(version.revision) if version.revision >= 0 else ""
    return [f"day {numbers}" if version.date else numbers, pre, revision, version.variant, version.build]


@pytest.mark.parametrize("row", rows("One tag"), ids=lambda row: row[0])
def test_a_tag_reads_as_the_table_says(row: list[str]) -> None:
    tag = check_tag(row[0].strip("`"))
    assert shown(read_version(tag)) == row[1:6]


def selector(text: str) -> Selector:
    words = dict(part.partition(": ")[::2] for part in re.findall(r"`([^`]*)`", text))
    assert words.keys() <= {"tags", "semver", "newest"}
    globs = (words["tags"],) if "tags" in words else ()
    return Selector(glob=globs, semver=words.get("semver", ""), newest=int(words.get("newest", "0")))


@pytest.mark.parametrize("row", rows("A choice of tags"), ids=lambda row: f"{row[1]} of {row[0]}")
def test_a_choice_takes_what_the_table_says(row: list[str]) -> None:
    tags, chosen = (re.findall(r"`([^`]*)`", cell) for cell in (row[0], row[2]))
    for order in (tags, tags[::-1]):
        selected = selector(row[1]).select(order)
        assert sorted(selected) == sorted(chosen)
        assert "newest" not in row[1] or selected == chosen


WORDS = st.sampled_from(
    ["slim", "alpine3.20", "rc1", "rc.2", "b1", "alpha", "dev", "1", "20", "r5", "debian", "4e5f6a7", "x", "jdk", "lts"]
)
VERSIONS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "v", "release-"]),
        st.lists(st.integers(0, 12).map(str), min_size=1, max_size=5).map(".".join),
        st.sampled_from(["", "rc1", "b2", "a", "p1"]),
        st.lists(st.tuples(st.sampled_from("-_."), WORDS).map("".join), max_size=3).map("".join),
    ),
)
TAGS = st.one_of(
    VERSIONS,
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.sampled_from(["20261128", "latest"]),
)


@settings(deadline=None)
@given(st.lists(TAGS, min_size=3, max_size=3))
def test_the_order_is_total_and_transitive(tags: list[str]) -> None:
    for one, two in itertools.product(tags, tags):
        assert (order_key(one) < order_key(two)) + (order_key(one) > order_key(two)) + (one == two) == 1
    for one, two, three in itertools.permutations(tags, 3):
        if order_key(one) <= order_key(two) <= order_key(three):
            assert order_key(one) <= order_key(three)


@settings(deadline=None)
@given(st.lists(TAGS, max_size=12), st.integers(1, 4))
def test_newest_never_takes_a_pre_release_while_there_is_a_release(tags: list[str], count: int) -> None:
    taken = [read_version(tag) for tag in Selector(newest=count).select(tags)]
    releases = [tag for tag in tags if (version := read_version(tag)) and not version.is_pre_release]
    assert not releases or not any(version and version.is_pre_release for version in taken)


@settings(deadline=None)
@given(st.lists(VERSIONS, max_size=12), st.integers(1, 4))
def test_newest_never_drops_a_higher_release(tags: list[str], count: int) -> None:
    plain = [tag for tag in dict.fromkeys(tags) if (version := read_version(tag)) and not version.is_pre_release]
    assert set(Selector(newest=count).select(plain)) == set(sorted(plain, key=order_key)[-count:])


@settings(deadline=None)
@given(TAGS)
def test_helm_s_underscore_is_a_plus(tag: str) -> None:
    assert read_version(tag) == read_version(tag.replace("_", "+", 1)) or tag.lower().startswith(("release_", "rel_"))


ELSEWISE = {
    ("1.2.3-5-foo", "1.2.3-5"): "foo is a variant, and the plain tag comes before it",
    ("1.2.3-5-foo", "1.2.3-5-Foo"): "variants are ordered without regard to case",
    ("1.2.3-r2", "1.2.3-r100"): "revisions are numbers",
    ("1.2.3-r100", "1.2.3-R2"): "revisions are numbers",
    ("1.2.3-a.b", "1.2.3-a.5"): "a word alone is a variant; `alpha` is a pre-release",
    ("1.2.3-a.b", "1.2.3-a"): "the same",
    ("1.2.3-a.b.c.10.d.5", "1.2.3-a.b.c.5.d.100"): "the same",
}
"""Where a tag is read otherwise than semver.org has it, and why."""


def test_semver_s_vectors_hold_but_for_what_is_meant_otherwise() -> None:
    with tarfile.open(ROOT / "tests" / "data" / "version-vectors.tar.gz") as archive:
        member = archive.extractfile("version-vectors/semver-versions.txt")
        assert member is not None
        lines = [re.match(r"(\S+) ([<=>]) (\S+)", line) for line in member.read().decode().splitlines()]
    right = 0
    for line in filter(None, lines):
        one, two = read_version(line[1]), read_version(line[3])
        if one is None or two is None or {(line[1], line[3]), (line[3], line[1])} & ELSEWISE.keys():
            continue
        order = (order_key(line[1]) > order_key(line[3])) - (order_key(line[1]) < order_key(line[3]))
        same = one.precedence == two.precedence
        assert (line[2] == "=" and same) or order == {"<": -1, "=": 0, ">": 1}[line[2]], line[0]
        right += 1
    assert right >= 70


@pytest.mark.parametrize("text", ["", "abc", ">=x", "1..2", ">>1", ">=1,,<2", "1.2.x", "^"])
def test_what_is_no_range_is_told(text: str) -> None:
    with pytest.raises(InputError, match="range of versions"):
        Range.read(text)


@given(st.text(max_size=20))
def test_any_text_is_a_range_or_an_input_error(text: str) -> None:
    try:
        Range.read(text)
    except InputError:
        return


@given(st.text(max_size=40))
def test_any_text_is_a_version_or_none(text: str) -> None:
    read_version(text)
    order_key(text)
