"""trivy and grype in our report: nothing that anybody found is lost, and no silence reads as "no finding"."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.scan.other_scanners import Opinion, carried_over, with_opinions
from registry_pipelines.scan.report import Component, Finding, PlatformPackages, Report
from registry_pipelines.scan.scanner_documents import Scanned, ScannerKind, read_opinion
from tests.scan.reports import DIGEST, finding, report
from tests.scan.scanner_documents import (
    CONFIG,
    MANIFEST,
    grype,
    grype_match,
    trivy,
    trivy_finding,
    trivy_version,
)

SCANNED = Scanned(DIGEST, MANIFEST, CONFIG, frozenset({"deb", "pypi"}))
JINJA, LIBC = "pkg:pypi/jinja2@3.1.2", "pkg:deb/debian/libc6@2.36-9?arch=amd64"
READERS: dict[ScannerKind, Any] = {"trivy": trivy, "grype": grype}


def opinion(kind: ScannerKind, raw: bytes, database: bytes | None = None) -> Opinion:
    return read_opinion(kind, raw, SCANNED, database=trivy_version() if database is None else database)


def packages(*components: Component) -> list[PlatformPackages]:
    image = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=MANIFEST, size=1)
    linux = Platform(os="linux", architecture="amd64")
    return [PlatformPackages(subject=DIGEST, manifest=image, platform=linux, components=components)]


def component(purl: str, **changes: Any) -> Component:
    name, _, version = purl.partition("?")[0].rpartition("/")[2].partition("@")
    return Component(purl=purl, name=name, version=version, type=purl[4:].partition("/")[0], **changes)


def merged(*opinions: Opinion, ours: Report | None = None, there: list[PlatformPackages] | None = None) -> Report:
    return with_opinions(ours or report(), there if there is not None else packages(), opinions)


def unknowns(found: Opinion) -> list[tuple[str, str]]:
    return [(each.kind, each.reason) for each in found.unknowns]


def test_what_trivy_found_is_a_finding_of_ours() -> None:
    found = opinion("trivy", trivy(trivy_finding("CVE-2026-7", LIBC, FixedVersion="2.36-9+deb12u1, 2.37")))
    (only,) = found.findings
    assert (only.component, only.ids, only.severity, only.score, only.fixed_versions, only.found_by) == (
        LIBC,
        ("CVE-2026-7",),
        "HIGH",
        7.5,
        ("2.36-9+deb12u1", "2.37"),
        ("trivy",),
    )
    assert (found.scanner.newest, found.scanner.version, found.unknowns) == ("2026-11-23T06:00:00Z", "0.68.1", ())


def test_what_grype_found_and_what_its_settings_ignore_count() -> None:
    ignored = {**grype_match("GHSA-2", "pkg:pypi/b@1"), "appliedIgnoreRules": [{"vulnerability": "GHSA-2"}]}
    found = opinion("grype", grype(grype_match("GHSA-1", JINJA, "CVE-2026-1"), ignoredMatches=[ignored]))
    assert [each.ids for each in found.findings] == [("CVE-2026-1", "GHSA-1"), ("GHSA-2",)]
    suppressed = [{"Type": "vulnerability", "Status": "ignored", "Finding": trivy_finding("CVE-9", LIBC)}]
    results = [{"Class": "os-pkgs", "Type": "debian", "ExperimentalModifiedFindings": suppressed}]
    assert [each.ids for each in opinion("trivy", trivy(Results=results)).findings] == [("CVE-9",)]


@pytest.mark.parametrize(
    ("kind", "raw", "database", "told"),
    [
        ("trivy", trivy(), b"", "nobody says how old"),
        ("trivy", trivy(eosl=True), None, "debian 12.5 is past its end"),
        ("trivy", trivy(Results=None), None, "no package list"),
        ("trivy", trivy(kind="lang-pkgs"), None, "no packages of the distribution"),
        ("grype", grype(built=""), None, "does not say how old"),
        (
            "grype",
            grype(alertsByPackage=[{"package": {"name": "a"}, "alerts": [{"type": "distro-eol", "message": "EOL"}]}]),
            None,
            "EOL",
        ),
    ],
)
def test_what_a_scanner_did_not_look_at_is_told(
    kind: ScannerKind, raw: bytes, database: bytes | None, told: str
) -> None:
    [(unknown, reason)] = unknowns(opinion(kind, raw, database))
    assert unknown == "incomplete" and told in reason


@pytest.mark.parametrize("kind", ["trivy", "grype"])
def test_what_is_about_another_image_or_no_report_is_refused(kind: ScannerKind) -> None:
    other = Digest.of(b"another")
    foreign = trivy(repository_digest=other) if kind == "trivy" else grype(about=other, source={})
    for raw, what in ((foreign, "not about"), (b"{}", "."), (b"[]", "."), (b"not json", "not valid")):
        with pytest.raises(ManifestInvalid, match=what):
            opinion(kind, raw)
    with pytest.raises(ManifestInvalid):  # the other's report
        opinion(kind, grype() if kind == "trivy" else trivy())


def test_one_finding_of_several_scanners_is_one_and_says_who_found_it() -> None:
    ours = report(finding("UNKNOWN", "PYSEC-1", "CVE-2026-1", component=JINJA))
    both = merged(
        opinion("grype", grype(grype_match("GHSA-1", JINJA, "CVE-2026-1", severity="Critical"))),
        opinion("trivy", trivy(trivy_finding("CVE-2026-1", JINJA), trivy_finding("CVE-2", JINJA))),
        ours=ours,
        there=packages(component(JINJA)),
    )
    one, two = both.findings
    assert (one.ids, one.severity, one.found_by) == (
        ("CVE-2026-1", "GHSA-1", "PYSEC-1"),
        "CRITICAL",
        ("", "grype", "trivy"),
    )
    assert (two.ids, two.found_by) == (("CVE-2",), ("trivy",))
    assert [each.name for each in both.scanners] == ["grype", "trivy"]
    assert Report.decode(both.encode()) == both


def test_the_order_of_scanners_does_not_matter() -> None:
    opinions = [
        opinion("grype", grype(grype_match("GHSA-1", JINJA, "CVE-2026-1"))),
        opinion("trivy", trivy(trivy_finding("CVE-2026-1", JINJA))),
    ]
    assert merged(*opinions) == merged(*reversed(opinions))


def test_ours_counts_where_both_rate_and_a_malicious_package_stays_one() -> None:
    low = report(finding("LOW", "CVE-2026-1", component=JINJA))
    assert merged(opinion("trivy", trivy(trivy_finding("CVE-2026-1", JINJA))), ours=low).findings[0].severity == "LOW"
    evil = merged(opinion("grype", grype(grype_match("MAL-2026-1", JINJA, "CVE-2026-1"))), ours=low)
    assert evil.findings[0].severity == "MALICIOUS"


def test_their_qualifiers_do_not_matter_and_what_the_distribution_owns_is_suppressed() -> None:
    theirs = opinion(
        "trivy", trivy(trivy_finding("CVE-7", "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12.5"))
    )
    assert merged(theirs, there=packages(component(LIBC))).findings[0].component == LIBC
    owned = packages(component(JINJA, os_owned="deb python3-jinja2"))
    (found,) = merged(opinion("grype", grype(grype_match("GHSA-1", JINJA))), there=owned).findings
    assert found.suppressed == "os-owned: deb python3-jinja2"
    again = packages(component(JINJA, os_owned="deb python3-jinja2"), component(JINJA))
    (counts,) = merged(opinion("grype", grype(grype_match("GHSA-1", JINJA))), there=again).findings
    assert not counts.suppressed


def test_a_notice_about_several_is_a_finding_of_each() -> None:
    found = opinion("grype", grype(grype_match("RHSA-2026:1", LIBC, "CVE-1", "CVE-2")))
    assert [each.ids for each in found.findings] == [("CVE-1", "RHSA-2026:1"), ("CVE-2", "RHSA-2026:1")]
    assert len(merged(found).findings) == 2


def test_a_rescan_by_our_own_advisories_keeps_what_others_found() -> None:
    ours = report(finding("LOW", "CVE-2026-1", component=JINJA))
    before = merged(opinion("grype", grype(grype_match("GHSA-9", JINJA, "CVE-9"), built="")), ours=ours)
    later = msgspec.structs.replace(ours, scanned_at="2026-12-01T00:00:00Z")
    kept = carried_over(later, before)
    assert [each.ids for each in kept.findings] == [each.ids for each in before.findings]
    assert (kept.scanners, kept.unknowns, kept.scanned_at) == (before.scanners, before.unknowns, later.scanned_at)
    other = msgspec.structs.replace(later, covers=(MANIFEST,))
    assert carried_over(other, before) == other


@given(st.sampled_from(["trivy", "grype"]), st.data())
def test_any_bytes_are_read_or_refused(kind: ScannerKind, data: st.DataObject) -> None:
    whole = trivy(trivy_finding("CVE-1", LIBC)) if kind == "trivy" else grype(grype_match("GHSA-1", JINJA))
    raw = data.draw(st.binary(max_size=200) | st.integers(0, len(whole)).map(lambda cut: whole[:cut]))
    with suppress(ManifestInvalid):
        opinion(kind, raw)


@given(st.lists(st.sampled_from(["CVE-1", "CVE-2", "GHSA-1"]), min_size=1, max_size=6), st.booleans())
def test_no_identifier_is_lost(names: list[str], there: bool) -> None:
    ours: tuple[Finding, ...] = (finding("LOW", "CVE-1", component=JINJA),) if there else ()
    found = merged(*(opinion("grype", grype(grype_match(name, JINJA))) for name in names), ours=report(*ours))
    assert {name for each in found.findings for name in each.ids} == {*names, *(["CVE-1"] if there else [])}


def test_a_time_that_is_none_is_unknown() -> None:
    found = opinion("grype", grype(built="yesterday"))
    assert not found.scanner.newest and found.unknowns
    assert datetime.fromisoformat(opinion("grype", grype()).scanner.newest).tzinfo == UTC
