"""A report against a policy's limits, and what is accepted by name."""

from __future__ import annotations

import re
from datetime import date
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.promote.documents import (
    AcceptedKind,
    AcceptedUnknown,
    Policy,
    PolicyException,
    Step,
    in_order,
)
from registry_pipelines.promote.findings import MAX_LISTED
from registry_pipelines.promote.gate import against_limits, report_breaches
from registry_pipelines.scan.report import (
    HOLD_NOTHING,
    NO_ECOSYSTEM,
    Finding,
    FindingLimits,
    Report,
    Severity,
    Undeclared,
    Unknown,
)
from tests.promote.parts import NOW
from tests.scan.reports import UNCOVERED, finding, report, undeclared

CONDA = "uncovered: pkg:conda/python@3.11.2 (pkg:conda/*): no advisory ecosystem covers it"


def accepted(subject: str, kind: AcceptedKind = "uncovered") -> AcceptedUnknown:
    return AcceptedUnknown(kind=kind, subject=subject, reason="r")


def uncovered(subject: str, ecosystem: str = "") -> Unknown:
    reason = f"{HOLD_NOTHING}{ecosystem}" if ecosystem else NO_ECOSYSTEM
    return Unknown(kind="uncovered", subject=subject, reason=reason)


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


def test_no_limit_lets_a_malicious_package_through() -> None:
    evil = finding("MALICIOUS", "GHSA-1", "MAL-2025-1")
    (reason,) = breaches(report(evil), ANY)
    assert reason == (
        "MALICIOUS: pkg:pypi/a@1: GHSA-1 MAL-2025-1; no limit permits it: remove the package, "
        "or write an exception for MAL-2025-1"
    )
    fixable = Policy(limits=ANY, fixable_only=True)
    assert report_breaches(report(evil), fixable, image="app", now=NOW) == [reason]
    many = report(*(finding("MALICIOUS", f"MAL-{number}") for number in range(MAX_LISTED + 5)))
    assert len(breaches(many, ANY)) == MAX_LISTED + 5


@pytest.mark.parametrize(("advisory", "passes"), [("GHSA-1", False), ("MAL-2025-1", True), ("MAL-2025-2", False)])
def test_an_exception_names_the_malicious_package_by_its_own_id(advisory: str, passes: bool) -> None:
    exception = PolicyException(
        advisory=advisory, owner="sec", reason="a test package of ours", expires=date(2027, 1, 1)
    )
    policy = Policy(limits=ANY, exceptions=(exception,))
    found = report_breaches(report(finding("MALICIOUS", "GHSA-1", "MAL-2025-1")), policy, image="app", now=NOW)
    assert (found == []) is passes


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


def test_packages_without_advisories_are_two_lines_however_many_there_are() -> None:
    """ruff's SBOM lists 400 crates, a Debian base dozens of packages: what can be loaded is one reason, what cannot
    another."""
    crates = [uncovered(f"pkg:cargo/c{number:03}@1", "crates.io") for number in range(500)]
    debian = [uncovered(f"pkg:deb/debian/{name}@1?distro=debian-12", "Debian:12") for name in ("libc6", "base-files")]
    ubuntu = uncovered("pkg:deb/ubuntu/libc6@1", "Ubuntu:24.04")
    found = report(unknowns=(*crates, *debian, ubuntu, UNCOVERED))
    line = (
        "uncovered: 503 packages (pkg:cargo/*, pkg:deb/debian/*, pkg:deb/ubuntu/*): no advisories are loaded for "
        "Debian:12, Ubuntu:24.04, crates.io"
    )
    assert breaches(found) == [line, CONDA]
    assert breaches(found, FindingLimits(unknowns=503)) == [f"{line} (503 permitted)", f"{CONDA} (503 permitted)"]
    named = ("pkg:cargo/*", "pkg:deb/debian/*", "pkg:deb/ubuntu/*", "pkg:conda/*")
    accepting = [accepted(pattern) for pattern in named]
    assert breaches(found, FindingLimits(), *accepting) == []
    assert all(breaches(found, FindingLimits(), *accepting[:number]) for number in range(4))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["npm", "npm/%40types", "deb/debian", "generic", "cargo"]),
            st.integers(0, 9),
            st.sampled_from(["", "npm", "Debian:12"]),
        )
    )
)
def test_the_patterns_that_lines_name_accept_all_that_they_are_about(packages: list[tuple[str, int, str]]) -> None:
    found = report(unknowns=tuple(uncovered(f"pkg:{kind}/p{number}@1", eco) for kind, number, eco in packages))
    lines = breaches(found)
    patterns = [name for line in lines for name in re.search(r"\((.+?)\)", line)[1].split(", ")]  # type: ignore[index]
    assert len(lines) == len({bool(ecosystem) for _, _, ecosystem in packages})
    assert breaches(found, FindingLimits(), *map(accepted, patterns)) == []
    assert all(breaches(found, FindingLimits(), *map(accepted, set(patterns) - {each})) for each in patterns)


def test_other_unknowns_that_are_alike_are_one_line() -> None:
    files = [Unknown(kind="unreadable", subject=f"p/{number:03}", reason="broken") for number in range(50)]
    assert breaches(report(unknowns=tuple(files))) == ["unreadable: p/000, p/001, p/002 and 47 more: broken"]
    records = [Unknown(kind="cannot-compare", subject="p", reason=f"X-{number:03}") for number in range(50)]
    reasons = breaches(report(unknowns=tuple(records)))
    assert reasons[0] == "cannot-compare: p: X-000"
    assert reasons[MAX_LISTED:] == [f"cannot-compare: {50 - MAX_LISTED} more reasons, which the report lists"]


def test_what_the_distribution_has_not_fixed_is_one_line_until_the_policy_denies_it() -> None:
    """A base image has findings that no version of it is without: zlib's CVE-2023-45853 is CRITICAL in Debian 12."""
    zlib = finding("CRITICAL", "CVE-2023-45853", component="pkg:deb/debian/zlib1g@1?distro=debian-12", fixed=())
    unrated = finding("UNKNOWN", "CVE-2", component="pkg:apk/alpine/musl@1", fixed=())
    fixed = finding("HIGH", "CVE-3", component="pkg:deb/debian/libssl3@3.0.1", fixed=("3.0.2",))
    wheel = finding("HIGH", "CVE-4", component="pkg:pypi/a@1", fixed=())
    found = against_limits(report(zlib, unrated), Policy(), image="app", now=NOW)
    assert found.passes and found.accepted == [
        "unfixed: 2 findings (1 CRITICAL, 1 UNKNOWN) in 2 packages, from musl to zlib1g: "
        "the distribution has published no fix"
    ]
    [alone] = against_limits(report(zlib), Policy(), image="app", now=NOW).accepted
    assert alone == "unfixed: 1 finding (1 CRITICAL) in zlib1g: the distribution has published no fix"
    assert [line[:12] for line in breaches(report(zlib, unrated, fixed, wheel))] == ["HIGH: pkg:de", "HIGH: pkg:py"]
    strict = Policy(unfixed_by_distribution="deny")
    assert len(report_breaches(report(zlib, unrated), strict, image="app", now=NOW)) == 2


def test_what_would_remove_the_reasons_is_told_by_step() -> None:
    found = report(
        finding("HIGH", "CVE-1", fixed=("2", "3")),
        finding("CRITICAL", "CVE-2", fixed=("2.1",)),
        finding("HIGH", "CVE-3", fixed=()),
        unknowns=(uncovered("pkg:npm/x@1", "npm"), UNCOVERED, Unknown(kind="unreadable", subject="p", reason="r")),
    )
    assert in_order(against_limits(found, Policy(), image="app", now=NOW).steps) == (
        Step(kind="advisories", about=("npm",)),
        Step(kind="accept", about=("uncovered:pkg:conda/*", "unreadable:p")),
        Step(kind="except", about=("CVE-3 pkg:pypi/a@1",)),
        Step(kind="image", about=("pkg:pypi/a@1: fixed in 2", "pkg:pypi/a@1: fixed in 2.1")),
        Step(kind="scan"),
        Step(kind="sign"),
        Step(kind="judge"),
    )
    assert in_order([]) == ()


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
    line = "undeclared: 6 libraries and programs that no package list names: from liba.so to libf.so"
    assert breaches(many, any_number, undeclared="deny") == [line]
    assert breaches(undeclared("tool"), any_number, undeclared="deny") == [
        "undeclared: 1 library or program that no package list names: tool"
    ]
    named = accepted("pkg:generic/lib[a-e].so", "undeclared")
    assert breaches(many, any_number, accepted("pkg:pypi/*", "undeclared"), named, undeclared="deny") == [
        "undeclared: 1 library or program that no package list names: libf.so"
    ]


def test_long_lists_end_with_a_count() -> None:
    reasons = breaches(report(*(finding("HIGH", f"X-{number:03}") for number in range(50))))
    assert len(reasons) == MAX_LISTED + 1 and reasons[-1] == "HIGH: 30 more findings (0 permitted)"


SEVERITY = st.sampled_from(["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"])
PACKAGE = st.sampled_from(["pkg:pypi/a@1", "pkg:pypi/b@1", "pkg:deb/debian/c@1", "pkg:deb/debian/d@1"])
FINDING = st.builds(
    finding,
    SEVERITY,
    st.sampled_from(["CVE-1", "CVE-2"]),
    component=PACKAGE,
    score=st.sampled_from([None, 7.5, 9.8]),
    fixed=st.sampled_from([(), ("2",), ("2", "3")]),
    suppressed=st.sampled_from(["", "", "x"]),
)
UNKNOWN = st.builds(
    Unknown,
    kind=st.sampled_from(["uncovered", "undeclared", "cannot-compare", "unreadable", "incomplete"]),
    subject=st.sampled_from(["pkg:deb/debian/c@1", "pkg:npm/d@1", "pkg:generic/e"]),
    reason=st.sampled_from([NO_ECOSYSTEM, f"{HOLD_NOTHING}npm", "broken"]),
)
WEIGHTS = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN", "cannot-compare", "incomplete", "unreadable", "uncovered")


def weight(line: str) -> int:
    return [*WEIGHTS, "undeclared"].index(re.split("[ :]", line)[0])


@settings(deadline=None, max_examples=150)
@given(st.lists(FINDING, max_size=8), st.lists(UNKNOWN, max_size=8), st.randoms(), st.integers(0, 3), st.booleans())
def test_the_order_of_reasons_is_total_and_neither_it_nor_folding_decides(
    findings: list[Finding], unknowns: list[Unknown], random: Random, limit: int, strict: bool
) -> None:
    """The same texts in the same order however the report is ordered, the weightiest first; and the decision is that of
    the numbers."""
    policy = Policy(
        limits=FindingLimits(critical=limit, high=limit, unknown=limit, unknowns=limit),
        undeclared="deny" if strict else "list",
        unfixed_by_distribution="deny" if strict else "list",
    )
    told = against_limits(report(*findings, unknowns=tuple(unknowns)), policy, image="app", now=NOW)
    random.shuffle(findings)
    random.shuffle(unknowns)
    again = against_limits(report(*findings, unknowns=tuple(unknowns)), policy, image="app", now=NOW)
    assert (told.reasons, told.accepted, told.counts) == (again.reasons, again.accepted, again.counts)
    assert in_order(told.steps) == in_order(again.steps)
    assert [weight(line) for line in told.reasons] == sorted(weight(line) for line in told.reasons)
    counting = [
        each.severity
        for each in findings
        if not each.suppressed and (strict or each.fixed_versions or not each.component.startswith("pkg:deb"))
    ]
    uncertain = [each for each in unknowns if each.kind != "undeclared"]
    assert told.passes == (
        all(counting.count(severity) <= limit for severity in ("CRITICAL", "HIGH", "UNKNOWN"))
        and len(uncertain) <= limit
        and not (strict and len(uncertain) < len(unknowns))
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SEVERITY, st.booleans()), max_size=8), st.integers(0, 4))
def test_a_stricter_limit_never_passes_more(rows: list[tuple[Severity, bool]], limit: int) -> None:
    found = report(*(finding(severity, suppressed="x" if out else "") for severity, out in rows))
    loose = FindingLimits(critical=limit + 1, high=limit + 1, medium=limit + 1, low=limit + 1, unknown=limit + 1)
    strict = FindingLimits(critical=limit, high=limit, medium=limit, low=limit, unknown=limit)
    assert len(breaches(found, strict)) >= len(breaches(found, loose))
    assert (breaches(found, strict) == []) == all(count <= limit for count in found.counts().values())


def test_what_other_scanners_do_not_cover_is_told_of_each_and_counts_no_packages() -> None:
    said = [
        Unknown(kind="uncovered", subject=f"scanner/{name}", reason=f"{name} does not scan it")
        for name in ("google", "ecr")
    ]
    assert breaches(report(unknowns=(*said, uncovered("pkg:conda/python@3.11.2")))) == [
        CONDA,
        "uncovered: scanner/ecr (scanner/*): ecr does not scan it",
        "uncovered: scanner/google (scanner/*): google does not scan it",
    ]
