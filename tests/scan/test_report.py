"""The report as a value: JSON both ways, counting, breaches."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.interface import (
    MAX_BREACHES_LISTED,
    NO_ECOSYSTEM,
    AdvisoryFacts,
    Finding,
    Limits,
    Report,
    Severity,
    Unknown,
    undeclared_lines,
)

DIGEST = Digest.of(b"x")
UNCOVERED = Unknown(kind="uncovered", subject="pkg:conda/python@3.11.2", reason=NO_ECOSYSTEM)
CONDA = (
    "uncovered: pkg:conda/python@3.11.2: no advisory ecosystem covers it; "
    "accept pkg:conda/* by name (`accept_unknowns`)"
)


def report(*findings: Finding, unknowns: tuple[Unknown, ...] = ()) -> Report:
    return Report(
        subject=DIGEST,
        covers=(DIGEST,),
        advisories=AdvisoryFacts(digest=DIGEST, newest="2024-10-10T00:00:00Z", records=1, source="x"),
        findings=findings,
        unknowns=unknowns,
        components=3,
        scanned_at="2026-11-23T00:00:00Z",
    )


def finding(severity: Severity, *ids: str, suppressed: str = "", fixed: tuple[str, ...] = ()) -> Finding:
    return Finding(
        component="pkg:pypi/a@1", ids=ids or ("X-1",), severity=severity, suppressed=suppressed, fixed_versions=fixed
    )


ANY = Limits(critical=None, high=None, medium=None, low=None, unknown=None)


def test_nothing_found_passes_the_default_limits() -> None:
    assert report().breaches(Limits()) == []


@pytest.mark.parametrize(
    ("severity", "passes"), [("CRITICAL", False), ("HIGH", False), ("MEDIUM", True), ("LOW", True), ("UNKNOWN", False)]
)
def test_the_default_limits_stop_high_critical_and_unrated(severity: Severity, passes: bool) -> None:
    assert (report(finding(severity)).breaches(Limits()) == []) is passes
    assert report(finding(severity)).breaches(ANY) == []
    assert report(finding(severity, suppressed="os-owned")).breaches(Limits()) == []


def test_a_breach_names_component_ids_fix_and_limit() -> None:
    (reason,) = report(finding("HIGH", "A", "B", fixed=("2", "3"))).breaches(Limits())
    assert reason == "HIGH: pkg:pypi/a@1: A B; fixed in 2, 3 (0 permitted)"
    assert report(finding("HIGH"), finding("HIGH", "Y")).breaches(Limits(high=2)) == []


def test_excepted_ids_do_not_count() -> None:
    found = report(finding("HIGH", "CVE-1", "GHSA-1"))
    assert found.breaches(Limits(), excepted={"GHSA-1"}) == []
    assert found.breaches(Limits(), excepted={"GHSA-2"})
    assert found.counts()["HIGH"] == 1 and found.counts(excepted=["CVE-1"])["HIGH"] == 0


def test_unknowns_pass_only_by_name() -> None:
    found = report(unknowns=(UNCOVERED,))
    assert found.breaches(ANY) == [CONDA]
    accepting = Limits(accepted_unknowns=("uncovered:pkg:conda/*",))
    assert found.breaches(accepting) == [] and found.accepted(accepting) == [UNCOVERED]
    for pattern in ("uncovered:pkg:deb/*", "incomplete:*", "NO-DATA:*", "pkg:generic/*"):
        assert found.breaches(Limits(accepted_unknowns=(pattern,)))


def test_packages_without_advisories_are_one_line_that_says_what_to_do() -> None:
    """ruff's SBOM lists 400 crates, a Debian base dozens of packages: each kind is one reason with one way out."""
    crates = [Unknown(kind="uncovered", subject=f"pkg:cargo/c{number:03}@1", reason="none") for number in range(500)]
    debian = [
        Unknown(kind="uncovered", subject=f"pkg:deb/debian/{name}@1?distro=debian-12", reason="none")
        for name in ("libc6", "base-files")
    ]
    ubuntu = Unknown(kind="uncovered", subject="pkg:deb/ubuntu/libc6@1", reason="none")
    found = report(unknowns=(*crates, *debian, ubuntu, UNCOVERED))
    load = "load them (`advisories.source`) and scan again, or accept"
    lines = [
        f"uncovered: 500 packages, from pkg:cargo/c000@1 to pkg:cargo/c499@1: none; {load} pkg:cargo/* by name",
        "uncovered: 2 packages, from pkg:deb/debian/base-files@1 to pkg:deb/debian/libc6@1: none; "
        f"{load} pkg:deb/debian/* by name",
        f"uncovered: pkg:deb/ubuntu/libc6@1: none; {load} pkg:deb/ubuntu/* by name",
    ]
    assert found.breaches(Limits()) == [*(f"{line} (`accept_unknowns`)" for line in lines), CONDA]
    assert found.breaches(Limits(unknowns=503))[0].endswith("(503 permitted)")
    named = ("pkg:cargo/*", "pkg:deb/debian/*", "pkg:deb/ubuntu/*", "pkg:conda/*")
    accepting = tuple(f"uncovered:{pattern}" for pattern in named)
    assert found.breaches(Limits(accepted_unknowns=accepting)) == []
    assert all(found.breaches(Limits(accepted_unknowns=accepting[:number])) for number in range(4))


@given(
    st.lists(st.tuples(st.sampled_from(["npm", "npm/%40types", "deb/debian", "generic", "cargo"]), st.integers(0, 9)))
)
def test_the_pattern_that_a_line_names_accepts_all_that_it_is_about(packages: list[tuple[str, int]]) -> None:
    found = report(
        unknowns=tuple(
            Unknown(kind="uncovered", subject=f"pkg:{kind}/p{number}@1", reason="none") for kind, number in packages
        )
    )
    lines = found.breaches(Limits())
    patterns = [re.search(r"accept (\S+) by name", line)[1] for line in lines]  # type: ignore[index]
    assert bool(lines) == bool(packages) and len(set(patterns)) == len(lines)
    assert found.breaches(Limits(accepted_unknowns=tuple(f"uncovered:{each}" for each in patterns))) == []


def test_other_unknowns_that_are_alike_are_counted_beyond_the_first_ones() -> None:
    files = [Unknown(kind="unreadable", subject=f"p/{number:03}", reason="broken") for number in range(50)]
    reasons = report(unknowns=tuple(files)).breaches(Limits())
    assert reasons[0] == "unreadable: p/000: broken"
    assert reasons[MAX_BREACHES_LISTED:] == [f"unreadable: {50 - MAX_BREACHES_LISTED} more: broken"]


def test_unknowns_pass_up_to_a_number() -> None:
    found = report(unknowns=(UNCOVERED, Unknown(kind="incomplete", subject="var/lib/rpm/Packages", reason="rpm")))
    assert len(found.breaches(Limits(unknowns=1))) == 2
    assert found.breaches(Limits(unknowns=1))[0].endswith("(1 permitted)")
    assert found.breaches(Limits(unknowns=2)) == found.breaches(Limits(unknowns=None)) == []
    assert found.breaches(Limits(unknowns=0, accepted_unknowns=("incomplete:*",)))


def undeclared(*names: str) -> Report:
    return report(
        unknowns=tuple(Unknown(kind="undeclared", subject=f"pkg:generic/{name}", reason="its file") for name in names)
    )


def test_the_undeclared_are_one_line_and_deny_only_on_request() -> None:
    many = undeclared(*(f"lib{letter}.so" for letter in "fedcba"))
    assert many.breaches(Limits()) == many.breaches(Limits(unknowns=0)) == []
    assert len(many.undeclared) == 6 and many.uncertain(Limits()) == []
    deny = Limits(unknowns=None, undeclared="deny")
    line = "undeclared: 6 libraries and programs that no list names: from liba.so to libf.so"
    assert many.breaches(deny) == [line] == undeclared_lines(many.undeclared)
    assert undeclared("tool").breaches(deny) == ["undeclared: 1 library or program that no list names: tool"]
    named = Limits(undeclared="deny", accepted_unknowns=("undeclared:pkg:generic/lib[a-e].so",))
    assert many.breaches(named) == ["undeclared: 1 library or program that no list names: libf.so"]
    assert undeclared_lines([]) == []


def test_a_report_of_the_one_old_kind_asks_for_a_new_scan() -> None:
    old = report(unknowns=(UNCOVERED,)).encode().replace(b'"uncovered"', b'"no-data"')
    with pytest.raises(ManifestInvalid, match="earlier version") as caught:
        Report.decode(old)
    assert caught.value.do == "Scan the release again"


def test_long_lists_end_with_a_count() -> None:
    reasons = report(*(finding("HIGH", f"X-{number:03}") for number in range(50))).breaches(Limits())
    assert len(reasons) == MAX_BREACHES_LISTED + 1 and reasons[-1] == "HIGH: 30 more findings (0 permitted)"


FULL = report(finding("HIGH", "A", fixed=("2",)), finding("LOW", suppressed="why"), unknowns=(UNCOVERED,))


def test_json_round_trip_and_strictness() -> None:
    raw = FULL.encode()
    assert Report.decode(raw) == FULL and Report.decode(raw).encode() == raw
    document = msgspec.json.decode(raw)
    for changed in (
        {**document, "surprise": 1},
        {**document, "subject": "sha256:short"},
        {**document, "covers": "all"},
        {key: value for key, value in document.items() if key != "unknowns"},
        {**document, "findings": [{**document["findings"][0], "severity": "BAD"}]},
        {**document, "unknowns": [{**document["unknowns"][0], "kind": "fine"}]},
    ):
        with pytest.raises(ManifestInvalid):
            Report.decode(msgspec.json.encode(changed))


def test_every_truncation_is_our_error() -> None:
    raw = FULL.encode()
    for length in range(len(raw)):
        with pytest.raises(ManifestInvalid):
            Report.decode(raw[:length])


SEVERITY = st.sampled_from(["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SEVERITY, st.booleans()), max_size=8), st.integers(0, 4))
def test_a_stricter_limit_never_passes_more(rows: list[tuple[Severity, bool]], limit: int) -> None:
    found = report(*(finding(severity, suppressed="x" if out else "") for severity, out in rows))
    loose = Limits(critical=limit + 1, high=limit + 1, medium=limit + 1, low=limit + 1, unknown=limit + 1)
    strict = Limits(critical=limit, high=limit, medium=limit, low=limit, unknown=limit)
    assert len(found.breaches(strict)) >= len(found.breaches(loose))
    assert (found.breaches(strict) == []) == all(count <= limit for count in found.counts().values())
