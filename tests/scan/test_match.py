"""Matching components against advisories, with the shipped PyPA set and small sets made here."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import DEFAULT_POLICY
from registry_pipelines.promote.gate import report_breaches
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.grouping import group
from registry_pipelines.scan.match import match, match_component
from registry_pipelines.scan.osv import Record
from registry_pipelines.scan.report import Component, Coverage, Finding, PlatformPackages, Unknown
from tests.doubles.osv_export import malicious

TOP = Digest.of(b"top")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"


def python(name: str, version: str, **more: Any) -> Component:
    return Component(
        purl=f"pkg:pypi/{name}@{version}", name=name, version=version, type="pypi", ecosystem="PyPI", **more
    )


def platform(
    *components: Component, architecture: str = "amd64", unknowns: tuple[Unknown, ...] = ()
) -> PlatformPackages:
    return PlatformPackages(
        subject=TOP,
        manifest=Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(architecture.encode()), size=1),
        platform=Platform(os="linux", architecture=architecture),
        components=components,
        unknowns=unknowns,
    )


def make_store(root: Path, *records: dict[str, object]) -> AdvisoryStore:
    source = root / "source"
    source.mkdir(parents=True)
    for number, record in enumerate(records):
        (source / f"{number}.json").write_bytes(msgspec.json.encode({"modified": "2024-01-01T00:00:00Z", **record}))
    return AdvisoryStore.load(source, root / "state")


def entry(name: str, ecosystem: str, *events: dict[str, str], versions: tuple[str, ...] = ()) -> dict[str, object]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, "versions": list(versions)}


@pytest.mark.parametrize(
    ("name", "version", "count"),
    [
        ("aiohttp", "3.8.4", 6),
        ("django", "4.2", 16),
        ("mlflow", "2.9.0", 4),
        ("gradio", "4.0.0", 2),
        ("pyyaml", "5.3", 2),
        ("pillow", "9.5.0", 2),
        ("urllib3", "1.26.5", 2),
        ("jinja2", "3.1.2", 0),
        ("torch", "2.0.1", 0),
        ("transformers", "4.30.0", 0),
        ("ray", "2.6.0", 0),
        ("tensorflow", "2.11.0", 0),
        ("gevent", "23.9.0", 1),
    ],
)
def test_known_counts_of_the_shipped_set(name: str, version: str, count: int, pypa: AdvisoryStore) -> None:
    findings, unknowns = match_component(python(name, version), pypa)
    assert (len(findings), unknowns) == (count, [])


def test_a_finding_says_everything(pypa: AdvisoryStore) -> None:
    findings, _ = match_component(python("PyYAML", "5.3", locations=("usr/lib/x",)), pypa)
    assert findings[0].ids == ("CVE-2020-1747", "GHSA-6757-jp84-gxfx", "PYSEC-2020-96")
    assert findings[0].fixed_versions == ("5.3.1",) and findings[0].locations == ("usr/lib/x",)
    assert findings[0].severity == "UNKNOWN" and "PyYAML" in findings[0].summary


@pytest.mark.parametrize(
    ("name", "version", "value"), [("binderhub", "0.1.0", "0.2.0-n653"), ("steam", "1.0", "2019-09-12")]
)
def test_a_fixed_version_that_is_none_is_unknown_not_clean(
    name: str, version: str, value: str, pypa: AdvisoryStore
) -> None:
    findings, (unknown,) = match_component(python(name, version), pypa)
    assert not findings and unknown.kind == "cannot-compare" and value in unknown.reason


def test_a_legacy_version_hits_by_text_and_is_unknown_otherwise(pypa: AdvisoryStore) -> None:
    findings, _ = match_component(python("paramiko", "0.9-doduo"), pypa)
    assert findings
    findings, unknowns = match_component(python("paramiko", "0.9-nosuch"), pypa)
    assert not findings and {unknown.kind for unknown in unknowns} == {"cannot-compare"}


def test_uncovered_is_not_no_finding_and_undeclared_is_neither(pypa: AdvisoryStore) -> None:
    conda = Component(purl="pkg:conda/python@3.11.2", name="python", version="3.11.2", type="conda")
    library = Component(purl="pkg:generic/libz.so.1", name="libz.so.1", version="", type="generic", evidence="name")
    npm = Component(purl="pkg:npm/x@1.0.0", name="x", version="1.0.0", type="npm", ecosystem="npm")
    assert match_component(conda, pypa) == (
        [],
        [Unknown(kind="uncovered", subject="pkg:conda/python@3.11.2", reason="no advisory ecosystem covers it")],
    )
    assert match_component(library, pypa) == (
        [],
        [Unknown(kind="undeclared", subject="pkg:generic/libz.so.1", reason="only its file shows it")],
    )
    assert match_component(msgspec.structs.replace(npm, evidence="name"), pypa)[1][0].kind == "undeclared"
    named = Component(purl="pkg:pypi/x@1", name="jinja2", version="2.0", type="pypi", ecosystem="PyPI", evidence="name")
    assert match_component(named, pypa)[0], "what advisories know by name is matched, whoever says its name"
    assert match_component(npm, pypa)[1][0].reason == "the advisories hold nothing for npm"
    assert match_component(python("never-heard-of", "1"), pypa) == ([], [])


def test_debian_is_matched_by_source_name_and_version(tmp_path: Path) -> None:
    store = make_store(
        tmp_path,
        {"id": "D-1", "affected": [entry("glibc", "Debian:12", {"introduced": "0"}, {"fixed": "2.36-9+deb12u5"})]},
    )
    common: dict[str, Any] = {
        "purl": "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4",
        "name": "libc6",
        "version": "2.36-9+deb12u4+b1",
        "type": "deb",
    }
    vulnerable = Component(**common, ecosystem="Debian:12", source_name="glibc", source_version="2.36-9+deb12u4")
    assert [finding.fixed_versions for finding in match_component(vulnerable, store)[0]] == [("2.36-9+deb12u5",)]
    fixed = Component(**common, ecosystem="Debian:12", source_name="glibc", source_version="2.36-9+deb12u5")
    assert match_component(fixed, store) == ([], [])
    other = Component(**common, ecosystem="Debian:11", source_name="glibc")
    assert match_component(other, store)[1][0].kind == "uncovered"


def test_alpine_and_npm(tmp_path: Path) -> None:
    store = make_store(
        tmp_path,
        {"id": "A", "affected": [entry("openssl", "Alpine:v3.20", {"introduced": "0"}, {"fixed": "3.3.1-r1"})]},
        {"id": "N", "affected": [entry("@s/left", "npm", {"introduced": "1.0.0-beta.2"}, {"fixed": "1.0.0"})]},
    )
    apk = Component(
        purl="pkg:apk/a",
        name="libssl3",
        version="3.3.1-r0",
        type="apk",
        ecosystem="Alpine:v3.20",
        source_name="openssl",
    )
    npm = Component(purl="pkg:npm/a", name="@s/left", version="1.0.0-beta.11", type="npm", ecosystem="npm")
    assert [finding.ids for finding in match_component(apk, store)[0]] == [("A",)]
    assert [finding.ids for finding in match_component(npm, store)[0]] == [("N",)]


def test_what_the_distribution_owns_is_suppressed_with_the_reason(pypa: AdvisoryStore) -> None:
    owned = python("pyyaml", "5.3", os_owned="deb python3-yaml")
    report = match([platform(owned, python("pyyaml", "5.3"))], pypa, now=NOW)
    assert sorted(finding.suppressed for finding in report.findings) == ["", "", *["os-owned: deb python3-yaml"] * 2]
    assert report.components == 2 and len(report.counting()) == 2


def test_records_of_one_vulnerability_are_one_finding_with_the_worst_severity(tmp_path: Path) -> None:
    critical = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
    low = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]
    store = make_store(
        tmp_path,
        {
            "id": "P-1",
            "aliases": ["CVE-1"],
            "affected": [entry("a", "PyPI", {"introduced": "0"}, {"fixed": "3"})],
            "severity": low,
        },
        {
            "id": "G-1",
            "aliases": ["CVE-1"],
            "affected": [entry("a", "PyPI", {"introduced": "0"}, {"fixed": "2.5"})],
            "severity": critical,
        },
        {
            "id": "P-2",
            "aliases": [],
            "related": ["P-1", "CVE-1"],
            "affected": [entry("a", "PyPI", versions=("2",))],
        },
    )
    findings, _ = match_component(python("a", "2"), store)
    assert [(finding.ids, finding.severity, finding.score, finding.fixed_versions) for finding in findings] == [
        (("CVE-1", "G-1", "P-1"), "CRITICAL", 9.8, ("2.5", "3")),
        (("P-2",), "UNKNOWN", None, ()),
    ]
    assert [finding.ids for finding in match_component(python("a", "2.7"), store)[0]] == [("CVE-1", "G-1", "P-1")]


def test_aliases_are_merged_per_package_not_across(tmp_path: Path) -> None:
    store = make_store(
        tmp_path,
        {"id": "P-1", "aliases": ["CVE-1"], "affected": [entry("a", "PyPI", versions=("1",))]},
        {"id": "P-2", "aliases": ["CVE-1", "CVE-2"], "affected": [entry("b", "PyPI", versions=("1",))]},
        {"id": "P-3", "aliases": ["CVE-2"], "affected": [entry("a", "PyPI", versions=("1",))]},
    )
    assert [finding.ids for finding in match_component(python("a", "1"), store)[0]] == [
        ("CVE-1", "P-1"),
        ("CVE-2", "P-3"),
    ]


NAMES = st.sampled_from([f"X-{number}" for number in range(8)])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3)), max_size=7), st.randoms(use_true_random=False))
def test_alias_merging_does_not_depend_on_the_order(rows: list[tuple[str, list[str]]], chance: random.Random) -> None:
    records = [Record(id=name, modified=str(number), aliases=aliases) for number, (name, aliases) in enumerate(rows)]
    shuffled = records[:]
    chance.shuffle(shuffled)
    merged = group(records)
    assert merged == group(shuffled)
    assert sum(len(vulnerability.records) for vulnerability in merged) == len(records)
    named = [set(vulnerability.ids) for vulnerability in merged]
    assert all(not one & other for number, one in enumerate(named) for other in named[:number]), "groups share no name"


def debian(record: str, *upstream: str, fixed: str = "2", **more: Any) -> dict[str, Any]:
    affected = {**entry("tar", "Debian:12", {"introduced": "0"}, {"fixed": fixed}), **more.pop("affected", {})}
    return {"id": record, "upstream": list(upstream), "affected": [affected], **more}


TAR = Component(purl="pkg:deb/debian/tar@1", name="tar", version="1", type="deb", ecosystem="Debian:12")


def found_in(folder: Path, component: Component, *records: dict[str, Any]) -> list[tuple[str, ...]]:
    findings, unknowns = match_component(component, make_store(folder, *records))
    assert not unknowns
    return [finding.ids for finding in findings]


def test_records_of_one_upstream_are_one_finding_with_the_worst_rating(tmp_path: Path) -> None:
    store = make_store(
        tmp_path,
        debian("DEBIAN-CVE-2026-1111", "CVE-2026-1111", affected={"ecosystem_specific": {"urgency": "low"}}),
        debian("DSA-1-1", "CVE-2026-1111", "DEBIAN-CVE-2026-1111", severity=[{"type": "CVSS_V3", "score": HIGH}]),
        debian("DLA-2-1", "CVE-2026-1111", fixed="3"),
        debian("OTHER-1", related=["CVE-2026-1111"]),
    )
    findings, _ = match_component(TAR, store)
    assert [finding.ids for finding in findings] == [
        ("CVE-2026-1111", "DEBIAN-CVE-2026-1111", "DLA-2-1", "DSA-1-1"),
        ("OTHER-1",),
    ]
    assert (findings[0].severity, findings[0].rated_by) == ("HIGH", "CVSS 3.1 of DSA-1-1")
    assert findings[0].fixed_versions == ("2", "3")


def test_a_notice_about_several_is_a_finding_of_each(tmp_path: Path) -> None:
    both = [("CVE-2026-1111", "DEBIAN-CVE-2026-1111", "DSA-1-1"), ("CVE-2026-2222", "DSA-1-1")]
    one = debian("DEBIAN-CVE-2026-1111", "CVE-2026-1111")
    assert found_in(tmp_path / "a", TAR, one, debian("DSA-1-1", "CVE-2026-1111", "CVE-2026-2222")) == both
    aliases = debian("DSA-1-1", aliases=["CVE-2026-1111", "CVE-2026-2222"])
    assert found_in(tmp_path / "b", TAR, one, aliases) == both, "older exports call them aliases"
    without = {**one, "upstream": []}
    assert found_in(tmp_path / "c", TAR, without, debian("DSA-1-1", "CVE-2026-1111", "CVE-2026-2222")) == both


def test_a_record_of_one_vulnerability_with_two_names_stays_one(tmp_path: Path) -> None:
    """Chainguard's are about one vulnerability each, unlike notices about an update."""
    package = Component(purl="pkg:apk/a", name="a", version="1.2.3-r0", type="apk", ecosystem="Wolfi")
    affected = [entry("a", "Wolfi", {"introduced": "0"})]
    record = {"id": "CGA-aaaa-bbbb-cccc", "aliases": ["CVE-2026-1111", "GHSA-1"], "affected": affected}
    assert found_in(tmp_path, package, record) == [("CGA-aaaa-bbbb-cccc", "CVE-2026-1111", "GHSA-1")]


def test_what_has_a_name_of_its_own_is_not_its_upstream(tmp_path: Path) -> None:
    bundled = {"id": "GHSA-1", "aliases": ["CVE-2026-2222"], "upstream": ["CVE-2026-1111"]}
    affected = [entry("a", "PyPI", versions=("1",))]
    assert found_in(tmp_path, python("a", "1"), {**bundled, "affected": affected}) == [
        ("CVE-2026-1111", "GHSA-1"),
        ("CVE-2026-2222", "GHSA-1"),
    ]


CVES = st.sampled_from([f"CVE-2026-{number}111" for number in range(1, 5)])


def copy_of(name: str) -> Record:
    return Record(id=f"DEBIAN-{name}", modified="", upstream=[name])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["DSA-1", "DSA-2", "DLA-1", "X-1", "X-2"]), st.lists(CVES, max_size=3)),
        max_size=6,
    ),
    st.lists(CVES, max_size=4).map(lambda names: [copy_of(name) for name in names]),
    CVES,
    st.randoms(use_true_random=False),
)
def test_an_exception_for_one_upstream_excuses_no_other(
    rows: list[tuple[str, list[str]]], copies: list[Record], excepted: str, chance: random.Random
) -> None:
    records = [Record(id=name, modified=str(number), upstream=names) for number, (name, names) in enumerate(rows)]
    records += copies
    shuffled = records[:]
    chance.shuffle(shuffled)
    vulnerabilities = group(records)
    assert vulnerabilities == group(shuffled)
    left = [vulnerability for vulnerability in vulnerabilities if excepted not in vulnerability.ids]
    for record in records:
        for name in set(record.upstream or ()) - {excepted}:
            assert any(name in vulnerability.ids and record in vulnerability.records for vulnerability in left)
    assert all(
        len([name for name in vulnerability.ids if name.startswith("CVE-")]) <= 1 for vulnerability in vulnerabilities
    )


def test_ubuntu_pro_speaks_of_the_same_packages(tmp_path: Path) -> None:
    def ubuntu(release: str, *events: dict[str, str]) -> dict[str, Any]:
        return entry("vim", f"Ubuntu:{release}:LTS", {"introduced": "0"}, *events)

    def installed(version: str) -> Component:
        return Component(purl="pkg:deb/ubuntu/vim", name="vim", version=version, type="deb", ecosystem="Ubuntu:18.04")

    store = make_store(
        tmp_path,
        {"id": "UBUNTU-CVE-2026-1111", "affected": [ubuntu("Pro:18.04", {"fixed": "2:8.0-1ubuntu1+esm2"})]},
        {
            "id": "UBUNTU-CVE-2026-2222",
            "affected": [ubuntu("18.04"), ubuntu("Pro:18.04", {"fixed": "2:8.0-1ubuntu1+esm1"})],
        },
        {"id": "USN-3-1", "affected": [ubuntu("Pro:FIPS:18.04")]},
    )
    plain, _ = match_component(installed("2:8.0-1ubuntu1"), store)
    both = ["UBUNTU-CVE-2026-1111", "UBUNTU-CVE-2026-2222"]
    assert [finding.ids[-1] for finding in plain] == both, "fixed for subscribers alone is not fixed here"
    assert [finding.ids[-1] for finding in match_component(installed("2:8.0-1ubuntu1+esm1"), store)[0]] == both[:1]
    assert match_component(installed("2:8.0-1ubuntu1+esm2"), store) == ([], [])


def test_covered_is_what_has_records_of_its_release(tmp_path: Path) -> None:
    everywhere = {"id": "D-2", "affected": [entry("tar", "Debian", {"introduced": "0"})]}
    eleven = {"id": "D-1", "affected": [entry("x", "Debian:11", {"introduced": "0"})]}
    assert match_component(TAR, make_store(tmp_path / "a", everywhere, eleven))[1][0].kind == "uncovered"
    twelve = {"id": "D-3", "affected": [entry("x", "Debian:12", {"introduced": "0"})]}
    store = make_store(tmp_path / "b", everywhere, eleven, twelve)
    assert [finding.ids for finding in match_component(TAR, store)[0]] == [("D-2",)]
    conda = Component(purl="pkg:conda/a@1", name="a", version="1", type="conda")
    report = match([platform(TAR, python("a", "1"), python("b", "1"), conda)], store, now=NOW)
    assert report.coverage == (Coverage(ecosystem="Debian:12", components=1, records=2, newest="2024-01-01T00:00:00Z"),)
    assert [unknown.subject for unknown in report.unknowns] == ["pkg:conda/a@1", "pkg:pypi/a@1", "pkg:pypi/b@1"]


@pytest.mark.parametrize("ecosystem", ["Alpine:v3.20", "Wolfi", "Chainguard"])
def test_a_fix_in_zero_means_never_affected(tmp_path: Path, ecosystem: str) -> None:
    """Alpine's tracker writes 0 for "not affected"."""
    package = Component(purl="pkg:apk/a", name="a", version="1.2.3-r0", type="apk", ecosystem=ecosystem)
    events = ({"introduced": "0"}, {"fixed": "0"})
    assert found_in(tmp_path, package, {"id": "A-1", "affected": [entry("a", ecosystem, *events)]}) == []
    older = {"id": "A-2", "affected": [entry("a", ecosystem, {"introduced": "0"}, {"fixed": "1.2.3-r1"})]}
    assert found_in(tmp_path / "b", package, older) == [("A-2",)]


def test_the_interpreter_is_matched_where_advisories_speak_of_it(tmp_path: Path, pypa: AdvisoryStore) -> None:
    interpreter = Component(
        purl="pkg:generic/python@3.12.4",
        name="python",
        version="3.12.4",
        type="generic",
        ecosystem="Bitnami",
        evidence="content",
    )
    events = ({"introduced": "3.12.0"}, {"fixed": "3.12.6"})
    record = {"id": "BIT-python-2024-8088", "affected": [entry("python", "Bitnami", *events)]}
    assert found_in(tmp_path, interpreter, record) == [("BIT-python-2024-8088",)]
    fixed = msgspec.structs.replace(interpreter, version="3.12.6")
    assert found_in(tmp_path / "b", fixed, record) == []
    assert [unknown.kind for unknown in match_component(interpreter, pypa)[1]] == ["undeclared"]


def test_a_finding_says_that_the_public_part_matched(tmp_path: Path) -> None:
    torch = Component(
        purl="pkg:pypi/torch@2.6.0%2Bcu124", name="torch", version="2.6.0+cu124", type="pypi", ecosystem="PyPI"
    )
    affected = [entry("torch", "PyPI", {"introduced": "0"}, {"last_affected": "2.6.0"})]
    (finding,), _ = match_component(torch, make_store(tmp_path, {"id": "GHSA-1", "affected": affected}))
    assert finding.matched == "2.6.0 (public part of 2.6.0+cu124)"
    report = match([platform(torch)], make_store(tmp_path / "b", {"id": "GHSA-1", "affected": affected}), now=NOW)
    (reason,) = report_breaches(report, DEFAULT_POLICY, image="app", now=NOW)
    assert "affected is 2.6.0 (public part of 2.6.0+cu124)" in reason


def test_platforms_are_one_report(pypa: AdvisoryStore) -> None:
    doubt = Unknown(kind="incomplete", subject="var/lib/rpm/Packages", reason="unread")
    report = match(
        [
            platform(python("pillow", "9.5.0", locations=("a",)), unknowns=(doubt,)),
            platform(python("pillow", "9.5.0", locations=("b",)), architecture="arm64", unknowns=(doubt,)),
        ],
        pypa,
        now=NOW,
    )
    assert report.covers == (Digest.of(b"amd64"), Digest.of(b"arm64")) and report.subject == TOP
    assert [finding.locations for finding in report.findings] == [("a", "b")] * 2
    assert report.unknowns == (doubt,) and report.components == 1 and report.scanned_at == "2026-11-23T00:00:00Z"


def test_unreadable_records_are_in_every_report(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "broken.json").write_bytes(b"{")
    (tmp_path / "source" / "ok.json").write_bytes(b'{"id":"A","modified":"2024-01-01T00:00:00Z"}')
    report = match([platform()], AdvisoryStore.load(tmp_path / "source", tmp_path / "state"), now=NOW)
    assert [(unknown.kind, unknown.subject) for unknown in report.unknowns] == [
        ("unreadable", "advisories:broken.json")
    ]
    assert report.advisories.unreadable == 1


def test_a_malicious_package_of_the_distribution_counts(tmp_path: Path) -> None:
    """A fix for a fault may be backported into what the distribution ships; harm is no fault."""
    fault = {"id": "GHSA-1", "affected": [entry("owned", "PyPI", {"introduced": "0"})]}
    store = make_store(tmp_path, malicious("owned", "2025-1"), fault)
    report = match([platform(python("owned", "1", os_owned="deb python3-owned"))], store, now=NOW)
    assert [(each.ids, each.suppressed) for each in report.findings] == [
        (("MAL-2025-1",), ""),
        (("GHSA-1",), "os-owned: deb python3-owned"),
    ]
    assert report_breaches(report, DEFAULT_POLICY, image="a", now=NOW)


def test_several_releases_or_none_are_refused(pypa: AdvisoryStore) -> None:
    other = msgspec.structs.replace(platform(), subject=Digest.of(b"other"))
    for packages in ([], [platform(), other]):
        with pytest.raises(InputError):
            match(packages, pypa)


@settings(deadline=None, max_examples=40)
@given(st.permutations([("django", "4.2"), ("aiohttp", "3.8.4"), ("torch", "2.0.1"), ("steam", "1.0")]))
def test_the_report_does_not_depend_on_the_order(pypa: AdvisoryStore, order: list[tuple[str, str]]) -> None:
    report = match([platform(*(python(*item) for item in order))], pypa, now=NOW)
    assert report.encode() == match([platform(*(python(*item) for item in sorted(order)))], pypa, now=NOW).encode()
    assert all(isinstance(finding, Finding) for finding in report.findings) and len(report.findings) == 22


def test_a_malicious_package_is_a_class_of_its_own(tmp_path: Path) -> None:
    """Its record has no score, or one of a fault; what the same advisory says of other versions is a fault."""
    fault = {"id": "GHSA-1", "aliases": ["CVE-1"], "affected": [entry("both", "PyPI", {"introduced": "0"})]}
    attack = {"id": "MAL-2025-2", "aliases": ["CVE-1"], "affected": [entry("both", "PyPI", versions=("2.0",))]}
    taken_over = {"id": "GHSA-3", "aliases": ["MAL-2025-3"], "affected": [entry("taken", "PyPI", {"introduced": "0"})]}
    scored = {"severity": [{"type": "CVSS_V3", "score": HIGH}]}
    store = make_store(tmp_path, malicious("numpyy", "2025-1"), fault, attack, taken_over | scored)
    found = {
        (name, version): match_component(python(name, version), store)[0][0]
        for name, version in (("numpyy", "1"), ("both", "1.0"), ("both", "2.0"), ("taken", "1"))
    }
    assert [each.severity for each in found.values()] == ["MALICIOUS", "UNKNOWN", "MALICIOUS", "MALICIOUS"]
    assert found["numpyy", "1"].rated_by == "name of MAL-2025-1" and not found["numpyy", "1"].fixed_versions
    assert found["taken", "1"].score == 7.5
    report = match([platform(python("numpyy", "1"))], store, now=NOW)
    assert report.counts()["MALICIOUS"] == 1 and report_breaches(report, DEFAULT_POLICY, image="a", now=NOW)


def test_a_report_says_which_ecosystems_it_knows_nothing_about(tmp_path: Path) -> None:
    debian = [
        Component(purl=f"pkg:deb/debian/{name}@1", name=name, version="1", type="deb", ecosystem="Debian:13")
        for name in ("tar", "curl")
    ]
    conda = Component(purl="pkg:conda/x@1", name="x", version="1", type="conda")
    report = match([platform(python("a", "1"), conda, *debian)], make_store(tmp_path, malicious("b", "1")), now=NOW)
    assert report.lacking == {"Debian:13": 2}
