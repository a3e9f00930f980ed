"""Reading OSV records and judging versions by them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.scan.osv import (
    Affected,
    Judgement,
    Record,
    RecordInvalid,
    entries_for,
    judge,
    rate,
    read_record,
)


def record(*affected: object, **fields: object) -> Record:
    raw = {"id": "X-1", "modified": "2024-01-01T00:00:00Z", "affected": list(affected), **fields}
    return read_record(msgspec.json.encode(raw), is_yaml=False)


def package(*events: dict[str, str], versions: tuple[str, ...] = (), kind: str = "ECOSYSTEM", **more: Any) -> object:
    ranges = [{"type": kind, "events": list(events)}] if events else []
    return {"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": ranges, "versions": list(versions), **more}


def judged(version: str, *affected: object) -> Judgement:
    found = record(*affected)
    return judge(entries_for(found, "PyPI", "a"), "PyPI", version)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("0.0.dev1", True),
        ("1.0", True),
        ("1.1.9", True),
        ("1.2", False),
        ("1.2.0", False),
        ("1.2rc1", True),
        ("2.0", True),
        ("2.5", False),
    ],
)
def test_ranges(version: str, affected: bool) -> None:
    events = ({"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.1"})
    assert judged(version, package(*events)).affected is affected
    assert judged(version, package(*reversed(events))).affected is affected


def test_fixed_versions_are_those_above_ascending() -> None:
    events = ({"introduced": "0"}, {"fixed": "10.2"}, {"introduced": "20"}, {"fixed": "9.1"}, {"fixed": "20.1"})
    assert judged("9.5", package(*events)).fixed == ["10.2", "20.1"]


@pytest.mark.parametrize(
    ("version", "affected"), [("0.9", False), ("1.0", True), ("1.3", True), ("1.3.post1", False), ("2", False)]
)
def test_last_affected_is_inside(version: str, affected: bool) -> None:
    assert judged(version, package({"introduced": "1.0"}, {"last_affected": "1.3"})).affected is affected


def test_one_version_introduced_and_last_affected() -> None:
    events = ({"last_affected": "1.0"}, {"introduced": "1.0"})
    assert judged("1.0", package(*events)).affected and not judged("1.1", package(*events)).affected


@pytest.mark.parametrize(("version", "affected"), [("1.9", True), ("2.0", False), ("3.0", False)])
def test_a_limit_bounds_the_range(version: str, affected: bool) -> None:
    assert judged(version, package({"introduced": "0"}, {"limit": "2.0"})).affected is affected
    assert judged(version, package({"introduced": "0"}, {"limit": "*"})).affected


def test_versions_or_ranges_never_one_instead_of_the_other() -> None:
    assert judged("3.0", package({"introduced": "0"}, {"fixed": "2.0"}, versions=("3.0",))).affected
    assert judged("1.0", package({"introduced": "0"}, {"fixed": "2.0"}, versions=("3.0",))).affected
    assert not judged("2.5", package({"introduced": "0"}, {"fixed": "2.0"}, versions=("3.0",))).affected


def test_listed_versions_are_compared_parsed() -> None:
    assert judged("1.0.0", package(versions=("1.0",))).affected
    assert judged("1.0a1", package(versions=("1.0-alpha.1",))).affected


def test_git_ranges_are_skipped() -> None:
    result = judged("1.0", package({"introduced": "0"}, kind="GIT"))
    assert not result.affected and result.problems == ["the record names neither versions nor version ranges"]
    assert judged("1.0", package({"introduced": "0"}, kind="GIT", versions=("2.0",))) == Judgement()


def test_legacy_versions_hit_by_exact_text_and_are_unknown_otherwise() -> None:
    entry = package({"introduced": "0"}, {"fixed": "1.0"}, versions=("0.9-doduo",))
    assert judged("0.9-doduo", entry).affected
    other = judged("0.8-bla", entry)
    assert not other.affected and "'0.8-bla' is not a PyPI version" in other.problems[0]


def test_a_bad_event_makes_unknown_and_leaves_the_other_ranges() -> None:
    bad = package({"introduced": "0"}, {"fixed": "0.2.0-n653"})
    assert "0.2.0-n653" in judged("0.1", bad).problems[0] and not judged("0.1", bad).affected
    assert judged("0.1", bad, package({"introduced": "0"})).affected
    assert judged("0.1", package({"introduced": "0", "fixed": "1"})).problems
    assert judged("0.1", package({"surprise": "1"})).problems


def test_only_entries_of_the_package_count() -> None:
    other = {"package": {"ecosystem": "npm", "name": "a"}, "versions": ["1.0"]}
    assert not judged("1.0", other, {"versions": ["1.0"]}).affected
    cased = {"package": {"ecosystem": "PyPI", "name": "A"}, "versions": ["1.0"]}
    assert judged("1.0", cased).affected


HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
FOUR = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


def v3(vector: str) -> dict[str, object]:
    return {"severity": [{"type": "CVSS_V3", "score": vector}]}


@pytest.mark.parametrize(
    ("entry", "whole", "expected"),
    [
        ({}, {}, ("UNKNOWN", None)),
        ({}, v3(CRITICAL), ("CRITICAL", 9.8)),
        (v3(HIGH), v3(CRITICAL), ("HIGH", 7.5)),
        ({}, {"severity": [{"type": "CVSS_V4", "score": FOUR}]}, ("UNKNOWN", None)),
        (
            {},
            {"severity": [{"type": "CVSS_V4", "score": FOUR}], "database_specific": {"severity": "MODERATE"}},
            ("MEDIUM", None),
        ),
        ({"ecosystem_specific": {"severity": "High"}}, {}, ("HIGH", None)),
        ({}, {"severity": [{"type": "Ubuntu", "score": "negligible"}]}, ("LOW", None)),
        ({}, {"database_specific": {"severity": ["odd"]}}, ("UNKNOWN", None)),
    ],
)
def test_severity(entry: dict[str, Any], whole: dict[str, object], expected: tuple[str, float | None]) -> None:
    found = record(package(versions=("1",), **entry), **whole)
    assert rate(found, entries_for(found, "PyPI", "a")) == expected


def test_yaml_timestamps_and_texts() -> None:
    found = read_record(
        b"id: A\nmodified: 2024-05-01 10:00:00+02:00\nwithdrawn: 2024-05-02\ndetails: |\n  one\n  two\n", is_yaml=True
    )
    assert (found.modified, found.withdrawn, found.summary) == (
        "2024-05-01T08:00:00Z",
        "2024-05-02T00:00:00Z",
        "one two",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"id: A",
        b"modified: 2024-01-01T00:00:00Z",
        b"id: A\nmodified: yesterday",
        b"id: A\nmodified: 2024-01-01T00:00:00Z\naffected: [{package: {ecosystem: PyPI, name: a}, versions: [1.10]}]",
        b"id: &a [x]\nmodified: *a",
        b"id: A\nmodified: 2024-01-01T00:00:00Z\nschema_version: 2.0.0",
        b"{",
        b"\xff\xfe",
        b"a: [" * 5000,
        b"id: A\nmodified: 9999-99-99T00:00:00Z",
        b"!!python/object:os.system {}",
    ],
)
def test_unreadable_yaml_says_why(raw: bytes) -> None:
    with pytest.raises(RecordInvalid):
        read_record(raw, is_yaml=True)


def test_a_star_in_a_text_is_no_alias() -> None:
    assert (
        read_record(b"id: A\nmodified: 2024-01-01T00:00:00Z\ndetails: 'see *this* one'", is_yaml=True).summary
        == "see *this* one"
    )


GOOD = msgspec.json.encode(
    {"id": "A", "modified": "2024-01-01T00:00:00Z", "affected": [package({"introduced": "0"}, versions=("1",))]}
)


def test_every_truncation_of_json_is_our_error() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(RecordInvalid):
            read_record(GOOD[:length], is_yaml=False)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, len(GOOD)), st.booleans())
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, is_yaml: bool) -> None:
    for raw in (noise, GOOD[:at] + noise[:3] + GOOD[at:]):
        try:
            read_record(raw, is_yaml=is_yaml)
        except RecordInvalid:
            continue


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["introduced", "fixed", "last_affected", "limit"]),
        st.sampled_from(["0", "1", "1.5", "2", "bad-", "*"]),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=200)
@given(EVENTS, st.sampled_from(["0.1", "1", "1.5", "3", "odd one"]))
def test_judging_never_fails_and_ignores_the_order_of_events(events: list[tuple[str, str]], version: str) -> None:
    def judge_events(ordered: list[tuple[str, str]]) -> bool:
        entries = msgspec.convert([package(*({name: text} for name, text in ordered))], list[Affected])
        return judge(entries, "PyPI", version).affected

    assert judge_events(events) == judge_events(events[::-1])
