"""Reading OSV records and judging versions by them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from registry_pipelines.scan.judging import Judgement, entries_for, judge
from registry_pipelines.scan.osv import Affected, Form, Record, RecordInvalid, read_record
from registry_pipelines.scan.rating import Rating, rate, worst


def record(*affected: object, **fields: object) -> Record:
    raw = {"id": "X-1", "modified": "2024-01-01T00:00:00Z", "affected": list(affected), **fields}
    return read_record(msgspec.json.encode(raw), form="json")


def package(*events: dict[str, str], versions: tuple[str, ...] = (), kind: str = "ECOSYSTEM", **more: Any) -> object:
    ranges = [{"type": kind, "events": list(events)}] if events else []
    return {"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": ranges, "versions": list(versions), **more}


def judged(version: str, *affected: object) -> Judgement:
    advisory = record(*affected)
    return judge(entries_for(advisory, ["PyPI"], "a"), "PyPI", version)


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


# What a label says: PEP 440 ("Version matching"), `packaging.SpecifierSet("<=2.6.0").contains("2.6.0+cu124")`.
PUBLIC = "2.6.0 (public part of 2.6.0+cu124)"
SNAPSHOT = "2.6.0a0+ecf3bae40a.nv25.1"


@pytest.mark.parametrize(
    ("version", "events", "matched"),
    [
        ("2.6.0+cu124", ({"introduced": "0"}, {"last_affected": "2.6.0"}), PUBLIC),
        ("2.6.0+cu124", ({"introduced": "2.6.0"}, {"last_affected": "2.6.0"}), PUBLIC),
        ("2.5.1+cu124", ({"introduced": "0"}, {"last_affected": "2.6.0"}), ""),
        ("2.6.1+cu124", ({"introduced": "0"}, {"last_affected": "2.6.0"}), None),
        ("2.6.0+cu124", ({"introduced": "0"}, {"fixed": "2.6.0"}), None),
        ("2.6.0+cu124", ({"introduced": "0"}, {"fixed": "2.6.1"}), ""),
        ("1!2.6.0+cu124", ({"introduced": "0"}, {"last_affected": "2.6.0"}), None),
        # Labels of one series are an order; what another builder patched is not known.
        ("2.6.0+patch.2", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), None),
        ("2.6.0+patch.1", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), None),
        ("2.6.0+patch.0", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), ""),
        ("2.6.0+cu124", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), ""),
        ("2.6.0+zz9", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), "2.6.0 (public part of 2.6.0+zz9)"),
        ("2.6.0+zz9", ({"introduced": "0"}, {"fixed": "2.6+patch.1"}), "2.6.0 (public part of 2.6.0+zz9)"),
        ("2.6.0", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), ""),
        ("2.6.1+cu124", ({"introduced": "0"}, {"fixed": "2.6.0+patch.1"}), None),
        ("2.6.0+cu124", ({"introduced": "0"}, {"last_affected": "2.6.0+cu118"}), PUBLIC),
        # A builder's snapshot from before a release may hold what the release brought.
        (SNAPSHOT, ({"introduced": "0"}, {"fixed": "2.6.0"}), ""),
        (SNAPSHOT, ({"introduced": "2.6.0"}, {"fixed": "2.6.1"}), f"2.6.0 ({SNAPSHOT} was built before it)"),
        (SNAPSHOT, ({"introduced": "2.6.1"}, {"fixed": "2.6.2"}), None),
        ("2.6.0a0", ({"introduced": "2.6.0"}, {"fixed": "2.6.1"}), None),
    ],
)
def test_local_labels(version: str, events: tuple[dict[str, str], ...], matched: str | None) -> None:
    judgement = judged(version, package(*events))
    assert (judgement.affected, judgement.matched) == (matched is not None, matched or "")


@pytest.mark.parametrize(
    ("version", "listed", "matched"),
    [
        ("2.6.0+cu124", "2.6.0", PUBLIC),
        ("2.6.0+cu124", "2.6", "2.6.0 (public part of 2.6.0+cu124)"),
        ("2.6.0+cu124", "2.6.0+CU124", ""),
        ("2.6.0+cu124", "2.6.0+cu118", None),
        ("2.6.0", "2.6.0+cu124", None),
        (SNAPSHOT, "2.6.0", f"2.6.0 ({SNAPSHOT} was built before it)"),
        (SNAPSHOT, "2.6.0a0", f"2.6.0a0 (public part of {SNAPSHOT})"),
    ],
)
def test_local_labels_in_lists(version: str, listed: str, matched: str | None) -> None:
    judgement = judged(version, package(versions=(listed,)))
    assert (judgement.affected, judgement.matched) == (matched is not None, matched or "")


@pytest.mark.parametrize("events", [({"fixed": "2"},), ({"last_affected": "2"},), ({"limit": "2"},)])
def test_a_range_without_a_beginning_cannot_be_compared(events: tuple[dict[str, str], ...]) -> None:
    """The schema asks for one; read as "nothing is affected" it would clear every version."""
    judgement = judged("1", package(*events))
    assert not judgement.affected and "does not say where it begins" in judgement.problems[0]


def test_the_installed_version_itself_wins_over_its_public_part() -> None:
    entry = package({"introduced": "0"}, {"last_affected": "2.6.0"}, versions=("2.6.0+cu124",))
    assert judged("2.6.0+cu124", entry).matched == judged("2.6.0+cu124", package(), entry).matched == ""


RELEASES = st.builds(
    "{}{}.{}{}".format,
    st.sampled_from(["", "1!"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["", ".0", "a1", "rc1", ".post1", ".dev1", "a1.dev1"]),
)
LABELS = st.sampled_from(["", "+cu118", "+cu124", "+cpu", "+1", "+ubuntu.1"])


@settings(deadline=None, max_examples=300)
@given(RELEASES, LABELS, RELEASES)
def test_ranges_agree_with_packaging(release: str, label: str, bound: str) -> None:
    """The oracle is ``packaging.specifiers``: a bound without a label is compared with the public part. Beyond it goes
    only what a labelled pre-release stands for; and ``<`` leaves pre-releases of the bound out, which OSV does not."""
    version = Version(release + label)

    def affected(*events: dict[str, str], versions: tuple[str, ...] = ()) -> bool:
        return judged(str(version), package(*events, versions=versions)).affected

    def contains(specifier: str) -> bool:
        return SpecifierSet(f"{specifier}{bound}").contains(version, prereleases=True)

    snapshot = bool(label) and version.is_prerelease and Version(version.base_version) >= Version(bound)
    start = {"introduced": "0"}
    assert affected(start, {"last_affected": bound}) == contains("<=")
    assert affected(start, {"fixed": bound}) == (Version(version.public) < Version(bound))
    assert affected(start, {"fixed": bound}) or not contains("<")
    assert affected({"introduced": bound}) == (contains(">=") or snapshot)
    listed = affected(versions=(bound,))
    assert listed == (contains("==") or (snapshot and Version(version.base_version) == Version(bound)))


@settings(deadline=None, max_examples=300)
@given(RELEASES, LABELS, RELEASES, LABELS)
def test_labelled_bounds_never_lose_what_version_order_finds(release: str, label: str, bound: str, other: str) -> None:
    version, limit = Version(release + label), Version(bound + other)
    for kind, inside in (("fixed", version < limit), ("last_affected", version <= limit)):
        affected = judged(str(version), package({"introduced": "0"}, {kind: str(limit)})).affected
        assert affected >= inside
        if Version(version.public) != Version(limit.public) or not label:
            assert affected == inside


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


SMALL = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
TWO = "AV:N/AC:L/Au:N/C:C/I:C/A:C"


def scores(**vectors: str) -> dict[str, object]:
    return {"severity": [{"type": kind, "score": vector} for kind, vector in vectors.items()]}


@pytest.mark.parametrize(
    ("entry", "whole", "expected"),
    [
        ({}, {}, Rating()),
        ({}, v3(CRITICAL), Rating("CRITICAL", 9.8, "CVSS 3.1")),
        (v3(HIGH), v3(CRITICAL), Rating("HIGH", 7.5, "CVSS 3.1")),
        ({}, scores(CVSS_V4=FOUR), Rating("CRITICAL", 9.3, "CVSS 4.0")),
        ({}, scores(CVSS_V3=HIGH, CVSS_V4=FOUR), Rating("CRITICAL", 9.3, "CVSS 4.0")),
        ({}, scores(CVSS_V3=CRITICAL, CVSS_V4=FOUR), Rating("CRITICAL", 9.8, "CVSS 3.1")),
        ({}, scores(CVSS_V2=TWO), Rating("HIGH", 10.0, "CVSS 2.0")),
        (
            {},
            scores(CVSS_V2=TWO, CVSS_V3=SMALL),
            Rating("LOW", 1.6, "CVSS 3.1"),
        ),
        ({}, scores(CVSS_V4="CVSS:4.0/AV:N"), Rating()),
        ({}, {**scores(CVSS_V4=FOUR), "database_specific": {"severity": "LOW"}}, Rating("CRITICAL", 9.3, "CVSS 4.0")),
        ({}, {"database_specific": {"severity": "MODERATE"}}, Rating("MEDIUM", None, "publisher's severity")),
        ({"ecosystem_specific": {"severity": "High"}}, {}, Rating("HIGH", None, "publisher's severity")),
        ({"database_specific": {"cvss": HIGH}}, {}, Rating("HIGH", 7.5, "CVSS 3.1")),
        ({"ecosystem_specific": {"urgency": "low"}}, {}, Rating()),
        ({}, scores(Ubuntu="negligible"), Rating("LOW", None, "severity of type Ubuntu")),
        ({}, {"database_specific": {"severity": ["odd"]}}, Rating()),
        ({}, {"database_specific": {"severity": {"odd": 1}, "cvss": 7.5, "urgency": None}}, Rating()),
    ],
)
def test_severity(entry: dict[str, Any], whole: dict[str, object], expected: Rating) -> None:
    advisory = record(package(versions=("1",), **entry), **whole)
    assert rate(advisory, entries_for(advisory, ["PyPI"], "a")) == expected


def of_distribution(ecosystem: str, whole: dict[str, object], **entry: object) -> Rating:
    affected = {"package": {"ecosystem": ecosystem, "name": "a"}, "versions": ["1"], **entry}
    advisory = record(affected, **whole)
    return rate(advisory, entries_for(advisory, [ecosystem], "a"))


@pytest.mark.parametrize(
    ("urgency", "severity"),
    [("unimportant", "LOW"), ("low", "LOW"), ("low**", "LOW"), ("medium", "MEDIUM"), ("high", "HIGH")]
    + [(word, "UNKNOWN") for word in ("not yet assigned", "end-of-life", "", "new")],
)
def test_debian_rates_its_own_packages(urgency: str, severity: str) -> None:
    assert of_distribution("Debian:12", {}, ecosystem_specific={"urgency": urgency}).severity == severity
    rated = of_distribution("Debian:12", scores(CVSS_V2=TWO), ecosystem_specific={"urgency": urgency})
    assert rated.severity == (severity if severity != "UNKNOWN" else "HIGH") and rated.score == 10.0
    assert rated.by == ("Debian's urgency" if severity != "UNKNOWN" else "CVSS 2.0")


def test_ubuntu_rates_its_own_packages() -> None:
    both = scores(CVSS_V3=CRITICAL, Ubuntu="medium")
    assert of_distribution("Ubuntu:22.04", both) == Rating("MEDIUM", 9.8, "Ubuntu's priority")
    assert of_distribution("Debian:12", both) == Rating("CRITICAL", 9.8, "CVSS 3.1"), "not those of others"
    assert of_distribution("Ubuntu:22.04", scores(Ubuntu="untriaged", CVSS_V3=HIGH)).severity == "HIGH"


def test_the_worst_known_rating_counts() -> None:
    assert worst([]) == worst([Rating()]) == Rating()
    assert worst([Rating(score=9.8), Rating("LOW", None, "a"), Rating("HIGH", 7.0, "b")]) == Rating("HIGH", 9.8, "b")


def test_yaml_timestamps_and_texts() -> None:
    advisory = read_record(
        b"id: A\nmodified: 2024-05-01 10:00:00+02:00\nwithdrawn: 2024-05-02\ndetails: |\n  one\n  two\n", form="yaml"
    )
    assert (advisory.modified, advisory.withdrawn, advisory.summary) == (
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
        read_record(raw, form="yaml")


def test_a_star_in_a_text_is_no_alias() -> None:
    assert (
        read_record(b"id: A\nmodified: 2024-01-01T00:00:00Z\ndetails: 'see *this* one'", form="yaml").summary
        == "see *this* one"
    )


GOOD = msgspec.json.encode(
    {"id": "A", "modified": "2024-01-01T00:00:00Z", "affected": [package({"introduced": "0"}, versions=("1",))]}
)


def test_every_truncation_of_json_is_our_error() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(RecordInvalid):
            read_record(GOOD[:length], form="json")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, len(GOOD)), st.sampled_from(["json", "yaml", "markdown"]))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, form: Form) -> None:
    for raw in (noise, GOOD[:at] + noise[:3] + GOOD[at:]):
        try:
            read_record(raw, form=form)
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


def test_a_record_of_before_all_records_is_as_new_as_it_was_published() -> None:
    zero = record(modified="0001-01-01T00:00:00Z", published="2022-07-01T20:11:09Z")
    assert zero.modified == "2022-07-01T20:11:09Z"
    assert record(modified="2024-05-01T00:00:00Z", published="2022-07-01T20:11:09Z").modified == "2024-05-01T00:00:00Z"
    assert record(modified="0001-01-01T00:00:00Z").modified == "0001-01-01T00:00:00Z"
