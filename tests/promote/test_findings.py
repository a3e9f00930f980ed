"""A report against a policy's limits, and what is accepted by name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.promote.documents import AcceptedKind, AcceptedUnknown, Policy
from registry_pipelines.promote.findings import MAX_LISTED
from registry_pipelines.promote.gate import report_breaches
from registry_pipelines.scan.report import FindingLimits, Report, Severity, Undeclared, Unknown
from tests.promote.parts import NOW
from tests.scan.reports import UNCOVERED, finding, report, undeclared

CONDA = (
    "uncovered: pkg:conda/python@3.11.2: no advisory ecosystem covers it; "
    "accept pkg:conda/* by name (`accept_unknowns`)"
)


def accepted(subject: str, kind: AcceptedKind = "uncovered") -> AcceptedUnknown:
    return AcceptedUnknown(kind=kind, subject=subject, reason="r")


def breaches(
    found: Report, limits: FindingLimits | None = None, *accepting: AcceptedUnknown, undeclared: Undeclared = "list"
) -> list[str]:
    policy = Policy(limits=limits or FindingLimits(), undeclared=undeclared, accept_unknowns=accepting)
    return report_breaches(found, policy, image="app", now=NOW)


ANY = FindingLimits(critical=None, high=None, medium=None, low=None, unknown=None)


def test_nothing_found_passes_the_default_limits() -> None:
    assert breaches(report()) == []


@pytest.mark.parametrize(
    ("severity", "passes"), [("CRITICAL", False), ("HIGH", False), ("MEDIUM", True), ("LOW", True), ("UNKNOWN", False)]
)
def test_the_default_limits_stop_high_critical_and_unrated(severity: Severity, passes: bool) -> None:
    assert (breaches(report(finding(severity))) == []) is passes
    assert breaches(report(finding(severity)), ANY) == []
    assert breaches(report(finding(severity, suppressed="os-owned"))) == []


def test_a_breach_names_component_ids_fix_and_limit() -> None:
    (reason,) = breaches(report(finding("HIGH", "A", "B", fixed=("2", "3"))))
    assert reason == "HIGH: pkg:pypi/a@1: A B; fixed in 2, 3 (0 permitted)"
    assert breaches(report(finding("HIGH"), finding("HIGH", "Y")), FindingLimits(high=2)) == []


def test_unknowns_pass_only_by_name() -> None:
    found = report(unknowns=(UNCOVERED,))
    assert breaches(found, ANY) == [CONDA]
    assert breaches(found, ANY, accepted("pkg:conda/*")) == []
    for wrong in (accepted("pkg:deb/*"), accepted("*", "incomplete"), accepted("PKG:CONDA/*"), accepted("pkg:conda")):
        assert breaches(found, ANY, wrong) == [CONDA]


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
    assert breaches(found) == [*(f"{line} (`accept_unknowns`)" for line in lines), CONDA]
    assert breaches(found, FindingLimits(unknowns=503))[0].endswith("(503 permitted)")
    named = ("pkg:cargo/*", "pkg:deb/debian/*", "pkg:deb/ubuntu/*", "pkg:conda/*")
    accepting = [accepted(pattern) for pattern in named]
    assert breaches(found, FindingLimits(), *accepting) == []
    assert all(breaches(found, FindingLimits(), *accepting[:number]) for number in range(4))


@given(
    st.lists(st.tuples(st.sampled_from(["npm", "npm/%40types", "deb/debian", "generic", "cargo"]), st.integers(0, 9)))
)
def test_the_pattern_that_a_line_names_accepts_all_that_it_is_about(packages: list[tuple[str, int]]) -> None:
    found = report(
        unknowns=tuple(
            Unknown(kind="uncovered", subject=f"pkg:{kind}/p{number}@1", reason="none") for kind, number in packages
        )
    )
    lines = breaches(found)
    patterns = [re.search(r"accept (\S+) by name", line)[1] for line in lines]  # type: ignore[index]
    assert bool(lines) == bool(packages) and len(set(patterns)) == len(lines)
    assert breaches(found, FindingLimits(), *map(accepted, patterns)) == []


def test_other_unknowns_that_are_alike_are_counted_beyond_the_first_ones() -> None:
    files = [Unknown(kind="unreadable", subject=f"p/{number:03}", reason="broken") for number in range(50)]
    reasons = breaches(report(unknowns=tuple(files)))
    assert reasons[0] == "unreadable: p/000: broken"
    assert reasons[MAX_LISTED:] == [f"unreadable: {50 - MAX_LISTED} more: broken"]


def test_unknowns_pass_up_to_a_number() -> None:
    found = report(unknowns=(UNCOVERED, Unknown(kind="incomplete", subject="var/lib/rpm/Packages", reason="rpm")))
    assert len(breaches(found, FindingLimits(unknowns=1))) == 2
    assert breaches(found, FindingLimits(unknowns=1))[0].endswith("(1 permitted)")
    assert breaches(found, FindingLimits(unknowns=2)) == breaches(found, FindingLimits(unknowns=None)) == []
    assert breaches(found, FindingLimits(unknowns=0), accepted("*", "incomplete")) == [CONDA]


def test_the_undeclared_are_one_line_and_deny_only_on_request() -> None:
    many = undeclared(*(f"lib{letter}.so" for letter in "fedcba"))
    assert breaches(many) == breaches(many, FindingLimits(unknowns=0)) == []
    any_number = FindingLimits(unknowns=None)
    line = "undeclared: 6 libraries and programs that no list names: from liba.so to libf.so"
    assert breaches(many, any_number, undeclared="deny") == [line]
    assert breaches(undeclared("tool"), any_number, undeclared="deny") == [
        "undeclared: 1 library or program that no list names: tool"
    ]
    named = accepted("pkg:generic/lib[a-e].so", "undeclared")
    assert breaches(many, any_number, accepted("pkg:pypi/*", "undeclared"), named, undeclared="deny") == [
        "undeclared: 1 library or program that no list names: libf.so"
    ]


def test_long_lists_end_with_a_count() -> None:
    reasons = breaches(report(*(finding("HIGH", f"X-{number:03}") for number in range(50))))
    assert len(reasons) == MAX_LISTED + 1 and reasons[-1] == "HIGH: 30 more findings (0 permitted)"


SEVERITY = st.sampled_from(["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SEVERITY, st.booleans()), max_size=8), st.integers(0, 4))
def test_a_stricter_limit_never_passes_more(rows: list[tuple[Severity, bool]], limit: int) -> None:
    found = report(*(finding(severity, suppressed="x" if out else "") for severity, out in rows))
    loose = FindingLimits(critical=limit + 1, high=limit + 1, medium=limit + 1, low=limit + 1, unknown=limit + 1)
    strict = FindingLimits(critical=limit, high=limit, medium=limit, low=limit, unknown=limit)
    assert len(breaches(found, strict)) >= len(breaches(found, loose))
    assert (breaches(found, strict) == []) == all(count <= limit for count in found.counts().values())
