"""What the clouds' scanners answer: every end state is an answer of its own, and none but the last reads as clean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from grafeas import grafeas_v1
from hypothesis import example, given
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.clouds.components import Components
from registry_pipelines.scan.clouds.ecr import EcrAnswer, read_ecr
from registry_pipelines.scan.clouds.google import read_google, status_of
from registry_pipelines.scan.clouds.on_demand import package_data
from registry_pipelines.scan.clouds.states import ecr_end, google_end, inspector_end
from registry_pipelines.scan.clouds.waiting import Waiting
from registry_pipelines.scan.report import Component, UnknownKind
from tests.doubles.aws.ecr_scans import basic_finding, enhanced_finding

NOW = datetime(2026, 11, 29, tzinfo=UTC)
MANIFEST = Digest.of(b"manifest")


def component(purl: str, name: str, version: str, kind: str, **more: Any) -> Component:
    return Component(purl=purl, name=name, version=version, type=kind, **more)


GLIBC = component(
    "pkg:deb/debian/libc6@2.36-9?distro=debian-12", "libc6", "2.36-9", "deb", source_name="glibc", ecosystem="Debian:12"
)
JINJA = component("pkg:pypi/jinja2@3.1.2", "Jinja2", "3.1.2", "pypi", locations=("usr/lib/jinja2",))
KNOWN = Components([GLIBC, JINJA])

KINDS: dict[str, UnknownKind | None] = {
    "COMPLETE": None,
    "ACTIVE": None,
    "IN_PROGRESS": "pending",
    "PENDING": "pending",
    "FAILED": "incomplete",
    "UNSUPPORTED_IMAGE": "uncovered",
    "SCAN_ELIGIBILITY_EXPIRED": "incomplete",
    "FINDINGS_UNAVAILABLE": "unreadable",
    "LIMIT_EXCEEDED": "pending",
    "IMAGE_ARCHIVED": "incomplete",
    "IMAGE_SIZE_EXCEEDED": "uncovered",
}


def test_every_state_that_ecr_knows_has_its_answer() -> None:
    model = botocore.session.get_session().get_service_model("ecr")
    assert set(model.shape_for("ScanStatus").enum) == set(KINDS)
    for status, kind in KINDS.items():
        end = ecr_end(status, "as  told")
        assert (end.kind if end else None) == kind
        assert end is None or "(as told)" in end.reason
        read = read_ecr(EcrAnswer(status=status, source_updated=NOW), MANIFEST, KNOWN, scanner="ecr", now=NOW)
        assert [each.kind for each in read.unknowns] == ([kind] if kind else [])
        assert bool(read.scanner.covers) == (kind is None)
    assert ecr_end("A_NEW_STATE") is not None and ecr_end("") is not None


def test_every_reason_that_inspector_knows_has_its_answer() -> None:
    reasons = botocore.session.get_session().get_service_model("inspector2").shape_for("ScanStatusReason").enum
    fine = {reason for reason in reasons if inspector_end(reason) is None}
    assert fine == {"SUCCESSFUL", "SCAN_FREQUENCY_SCAN_ON_PUSH"}
    kinds = {reason: end.kind for reason in reasons if (end := inspector_end(reason))}
    assert kinds["PENDING_INITIAL_SCAN"] == "pending" and kinds["UNSUPPORTED_OS"] == "uncovered"
    assert kinds["SCAN_ELIGIBILITY_EXPIRED"] == "incomplete" and kinds["RESOURCE_TERMINATED"] == "incomplete"


def test_every_state_that_google_knows_has_its_answer() -> None:
    names = [each.name for each in grafeas_v1.DiscoveryOccurrence.AnalysisStatus]
    assert {name for name in names if google_end(name) is None} == {"FINISHED_SUCCESS"}
    kinds = {name: end.kind for name in names if (end := google_end(name))}
    assert kinds == {
        "ANALYSIS_STATUS_UNSPECIFIED": "incomplete",
        "PENDING": "pending",
        "SCANNING": "pending",
        "FINISHED_FAILED": "incomplete",
        "FINISHED_UNSUPPORTED": "uncovered",
    }


def test_findings_of_a_basic_scan_are_about_our_components() -> None:
    answer = EcrAnswer(
        status="COMPLETE",
        source_updated=NOW - timedelta(days=2),
        completed=NOW,
        findings=[
            basic_finding("CVE-2026-1", "glibc", "2.36-9", fixed="2.36-10"),
            basic_finding("CVE-2026-2", "openssl", "3.0", severity="UNDEFINED"),
        ],
    )
    read = read_ecr(answer, MANIFEST, KNOWN, scanner="ecr", now=NOW)
    first, second = read.findings
    assert (first.component, first.severity, first.score) == (GLIBC.purl, "HIGH", 7.5)
    assert first.fixed_versions == ("2.36-10",) and first.found_by == ("ecr",)
    assert (second.component, second.severity) == ("pkg:deb/openssl@3.0", "UNKNOWN")
    assert read.scanner.newest == "2026-11-27T00:00:00Z" and read.unknowns == ()
    ageless = read_ecr(EcrAnswer(status="COMPLETE", completed=NOW), MANIFEST, KNOWN, scanner="ecr", now=NOW)
    assert [each.kind for each in ageless.unknowns] == ["incomplete"]


def test_findings_of_inspector_are_about_our_components_and_what_it_suppresses_counts() -> None:
    odd = enhanced_finding("CVE-2026-4", "app", "1", type="CODE_VULNERABILITY")
    answer = EcrAnswer(
        status="ACTIVE",
        completed=NOW - timedelta(days=40),
        enhanced=[
            enhanced_finding("CVE-2026-1", "jinja2", "3.1.2"),
            enhanced_finding("CVE-2026-2", "glibc", "2.36", manager="OS", status="SUPPRESSED"),
            enhanced_finding("CVE-2026-3", "gone", "1", status="CLOSED"),
            odd,
        ],
    )
    details = answer.enhanced[1]["packageVulnerabilityDetails"]  # type: ignore[index]
    details["vulnerablePackages"][0] |= {"release": "9", "epoch": 0}
    read = read_ecr(answer, MANIFEST, KNOWN, scanner="inspector", now=NOW)
    first, second = read.findings
    assert (first.component, first.severity, first.score) == (JINJA.purl, "CRITICAL", 9.8)
    assert first.ids == ("CVE-2026-1", "GHSA-aaaa-bbbb-cccc") and first.locations == ("usr/lib/jinja2",)
    assert second.component == GLIBC.purl
    assert read.scanner.newest == "2026-11-29T00:00:00Z"  # it is matched again with whatever is learnt
    assert [(each.kind, "CODE_VULNERABILITY" in each.reason) for each in read.unknowns] == [("cannot-compare", True)]


def discovery(status: str = "FINISHED_SUCCESS", **more: Any) -> dict[str, Any]:
    told = {"analysisStatus": status, "continuousAnalysis": "ACTIVE", "lastScanTime": "2026-11-28T00:00:00Z", **more}
    return {"kind": "DISCOVERY", "updateTime": "2026-11-28T00:00:00Z", "discovery": told}


def vulnerability(note: str, package: str, **issue: Any) -> dict[str, Any]:
    version = {"name": "2.36", "revision": "9", "kind": "NORMAL", "fullName": "2.36-9"}
    told = {
        "affectedCpeUri": "cpe:/o:debian:debian_linux:12",
        "affectedPackage": package,
        "affectedVersion": version,
        "fixedVersion": {"kind": "MAXIMUM"},
        "packageType": "OS",
        "effectiveSeverity": "MINIMAL",
        **issue,
    }
    found = {"severity": "CRITICAL", "cvssScore": 9.1, "packageIssue": [told], "shortDescription": note}
    return {"kind": "VULNERABILITY", "noteName": f"projects/goog-vulnz/notes/{note}", "vulnerability": found}


@pytest.mark.parametrize(
    ("found", "kinds", "newest"),
    [
        ([], ["pending"], ""),
        ([discovery()], [], "2026-11-29T00:00:00Z"),
        ([discovery("SCANNING")], ["pending"], "2026-11-28T00:00:00Z"),
        ([discovery("FINISHED_FAILED", analysisStatusError={"message": "no"})], ["incomplete"], "2026-11-28T00:00:00Z"),
        ([discovery("FINISHED_UNSUPPORTED")], ["uncovered"], "2026-11-28T00:00:00Z"),
        ([discovery(continuousAnalysis="INACTIVE")], ["incomplete"], "2026-11-28T00:00:00Z"),
        ([discovery(archiveTime="2026-11-01T00:00:00Z")], ["incomplete"], "2026-11-28T00:00:00Z"),
        ([discovery(analysisError=[{"message": "half"}])], ["incomplete"], "2026-11-28T00:00:00Z"),
        ([discovery("PENDING") | {"updateTime": "2026-11-01T00:00:00Z"}, discovery()], [], "2026-11-29T00:00:00Z"),
    ],
)
def test_the_discovery_occurrence_decides_and_not_an_empty_list(
    found: list[dict[str, Any]], kinds: list[str], newest: str
) -> None:
    read = read_google(found, [], MANIFEST, KNOWN, now=NOW)
    assert [each.kind for each in read.unknowns] == kinds
    assert bool(read.scanner.covers) == (not kinds) and read.scanner.newest == newest
    assert status_of(found) == (found[-1]["discovery"]["analysisStatus"] if found else "")


def test_findings_of_google_have_the_distributions_severity_and_our_component() -> None:
    malicious = vulnerability("MAL-2026-1", "evil", packageType="PYPI", effectiveSeverity="CRITICAL")
    read = read_google([discovery()], [vulnerability("CVE-2026-1", "glibc"), malicious], MANIFEST, KNOWN, now=NOW)
    first, second = read.findings
    assert (first.component, first.severity, first.score, first.fixed_versions) == (GLIBC.purl, "LOW", 9.1, ())
    assert second.severity == "MALICIOUS" and second.component.startswith("pkg:pypi/evil@")


def test_what_is_sent_to_be_compared_names_the_distribution() -> None:
    strange = component("pkg:rpm/x@1", "x", "1", "rpm", ecosystem="")
    bare = component("pkg:generic/y@1", "y", "1", "generic", evidence="name")
    sent, left = package_data([GLIBC, JINJA, strange, bare])
    assert [each["package"] for each in sent] == ["libc6", "Jinja2"] and left == {"rpm": 1}
    assert sent[0]["cpeUri"] == "cpe:/o:debian:debian_linux:12" and sent[0]["sourceVersion"]["name"] == "glibc"


def test_a_scan_is_waited_for_and_no_longer() -> None:
    clock = [0.0]
    waiting = Waiting(5.0, sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds), clock=lambda: clock[0])
    asked = 0
    while waiting.again():
        asked += 1
    assert clock[0] == 5.0 and asked >= 3


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
names = st.text(max_size=30)


@example("CVE-1", "\r", "1", "NPM", 1.0)
@given(names, names, names, st.sampled_from(["OS", "PYTHONPKG", "NPM", "GOMOD", "JAR", "NEW"]), values)
def test_whatever_a_package_is_called_it_is_a_finding(
    vulnerability_id: str, package: str, version: str, manager: str, score: Any
) -> None:
    raw = enhanced_finding(vulnerability_id, package, version, manager=manager, score=score)
    answer = EcrAnswer(status="ACTIVE", enhanced=[raw], findings=[basic_finding(vulnerability_id, package, version)])
    read = read_ecr(answer, MANIFEST, KNOWN, scanner="inspector", now=NOW)
    assert len(read.findings) == 2 and all(each.component.startswith("pkg:") for each in read.findings)
    kind = {"OS": "OS", "PYTHONPKG": "PYPI", "NPM": "NPM", "GOMOD": "GO", "JAR": "MAVEN"}.get(manager, "NEW")
    told = vulnerability(vulnerability_id or "x", package, packageType=kind, affectedVersion={"name": version})
    assert len(read_google([discovery()], [told], MANIFEST, KNOWN, now=NOW).findings) == 1
