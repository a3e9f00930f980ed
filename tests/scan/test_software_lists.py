"""SBOMs and vendor lists from bytes: the formats, what makers really write, and bytes that make no sense."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from registry_pipelines.scan import software_lists
from registry_pipelines.scan.facts import AnyFact, SoftwareList
from registry_pipelines.scan.purls import named
from registry_pipelines.scan.software_lists import read_sbom, read_vendor_list


def cyclonedx(*components: dict[str, Any], about: dict[str, Any] | None = None, version: str = "1.5") -> bytes:
    document: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": version, "components": list(components)}
    if about:
        document["metadata"] = {"component": about}
    return json.dumps(document).encode()


def purls(software_list: SoftwareList) -> list[str]:
    assert not software_list.problems, software_list.problems
    return [software.purl for software in software_list.listed]


@pytest.mark.parametrize("version", ["1.4", "1.5", "1.6", "1.7"])
def test_cyclonedx_of_any_minor_version(version: str) -> None:
    raw = cyclonedx(
        {"type": "library", "name": "serde", "version": "1.0.1", "purl": "pkg:cargo/serde@1.0.1"},
        {"name": "left", "version": "2", "components": [{"name": "inner", "purl": "pkg:npm/%40s/inner@3"}]},
        version=version,
    )
    software_list = read_sbom(raw)
    assert purls(software_list) == ["pkg:cargo/serde@1.0.1", "pkg:generic/left@2", "pkg:npm/%40s/inner@3"]
    assert software_list.digest == hashlib.sha256(raw).hexdigest()


def test_what_the_document_is_about_is_marked_in_all_its_spellings() -> None:
    """cargo-cyclonedx names the targets of the described crate with a subpath, auditwheel repeats the wheel, pip's list
    repeats pip without a package URL."""
    crate = {
        "bom-ref": "path+file:///build#1.0",
        "name": "ruff",
        "version": "1.0",
        "purl": "pkg:cargo/ruff@1.0?download_url=file://.",
        "components": [
            {"name": "ruff", "version": "1.0", "purl": "pkg:cargo/ruff@1.0?download_url=file://.#src/lib.rs"}
        ],
    }
    software_list = read_sbom(
        cyclonedx({"name": "x", "purl": "pkg:cargo/x@1?download_url=file:///build/x"}, about=crate)
    )
    assert [(software.purl, software.described) for software in software_list.listed] == [
        ("pkg:cargo/ruff@1.0", True),
        ("pkg:cargo/x@1", False),
    ]
    pip = {"bom-ref": "bom-ref:pip", "name": "pip", "type": "library"}
    software_list = read_sbom(cyclonedx(pip, {"name": "rich", "purl": "pkg:pypi/Rich_Text@15"}, about=pip))
    assert [(software.purl, software.described) for software in software_list.listed] == [
        ("pkg:generic/pip", True),
        ("pkg:pypi/rich-text@15", False),
    ]


def test_excluded_components_are_counted_and_not_listed() -> None:
    raw = cyclonedx(
        {"name": "kept", "purl": "pkg:cargo/kept@1", "scope": "optional"},
        {"name": "tool", "purl": "pkg:cargo/tool@1", "scope": "excluded"},
    )
    software_list = read_sbom(raw)
    assert (purls(software_list), software_list.excluded) == (["pkg:cargo/kept@1"], 1)


def test_spdx_2_and_3() -> None:
    two = {
        "spdxVersion": "SPDX-2.3",
        "documentDescribes": ["SPDXRef-a"],
        "packages": [
            {"SPDXID": "SPDXRef-a", "name": "wheel-itself", "versionInfo": "NOASSERTION"},
            {
                "SPDXID": "SPDXRef-b",
                "name": "openssl",
                "versionInfo": "3.0.1",
                "externalRefs": [
                    {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:x"},
                    {"referenceType": "purl", "referenceLocator": "pkg:generic/openssl@3.0.1"},
                ],
            },
        ],
        "relationships": [{"relationshipType": "CONTAINS", "relatedSpdxElement": "SPDXRef-b"}],
    }
    three = {
        "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "@graph": [
            {"type": "SpdxDocument", "spdxId": "d", "rootElement": ["w"]},
            {"type": "software_Package", "spdxId": "w", "name": "wheel-itself"},
            {
                "type": "software_Package",
                "spdxId": "o",
                "name": "openssl",
                "software_packageVersion": "3.0.1",
                "externalIdentifier": [
                    {"externalIdentifierType": "packageUrl", "identifier": "pkg:generic/openssl@3.0.1"}
                ],
            },
            {"type": "Relationship", "from": "w", "to": ["o"]},
        ],
    }
    for document in (two, three):
        software_list = read_sbom(json.dumps(document).encode())
        assert [(software.purl, software.described) for software in software_list.listed] == [
            ("pkg:generic/wheel-itself", True),
            ("pkg:generic/openssl@3.0.1", False),
        ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "format that is not read"),
        (b"<bom/>", "format that is not read"),
        (b"SPDXVersion: SPDX-2.3\n", "format that is not read"),
        (b"{", "cannot be read"),
        (b"\xff{", "format that is not read"),
        (b"{}", "no SBOM of a known format"),
        (cyclonedx(version="2.0"), "no SBOM of a known format (CycloneDX 2.0)"),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.5","components":{}}', "cannot be read"),
        (b'{"spdxVersion":"SPDX-2.3","packages":[1]}', "cannot be read"),
        (cyclonedx({"type": "library"}), "neither a name nor a package URL"),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.5","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "cannot be read"),
        (
            b'{"bomFormat":"CycloneDX","specVersion":"1.5","components":'
            + b'[{"components":' * 3000
            + b"[]"
            + b"}]" * 3000
            + b"}",
            "cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem(raw: bytes, reason: str) -> None:
    (problem,) = read_sbom(raw).problems
    assert reason in problem


def test_too_many_components_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software_lists, "MAX_LISTED", 3)
    software_list = read_sbom(cyclonedx(*({"name": f"x{number}"} for number in range(4))))
    assert software_list.listed == () and "names 4 components, at most 3 are read" in software_list.problems[0]


def test_fields_of_another_kind_do_not_cost_the_others() -> None:
    raw = cyclonedx(
        {"name": "a", "version": 1.5, "purl": None, "scope": ["x"]},
        {"name": "b", "version": "1 or later", "purl": "b@1"},
        {"name": None, "purl": "pkg:npm/c@1"},
    )
    assert purls(read_sbom(b"\xef\xbb\xbf" + raw)) == ["pkg:generic/a", "pkg:generic/b", "pkg:npm/c@1"]
    (slash,) = read_sbom(cyclonedx({"name": "libjpeg / libjpeg-turbo", "version": "3"})).listed
    assert (slash.name, slash.purl) == ("libjpeg / libjpeg-turbo", "pkg:generic/libjpeg/libjpeg-turbo@3")


def test_vendor_lists() -> None:
    raw = b"CacheControl==0.14.4 # why\n\n# comment\nrequests==2.34.2\n    idna==3.20\nfree>=1\n-e ./x\ntomli==2.*\n"
    software_list = read_vendor_list(raw)
    assert [software.purl for software in software_list.listed] == [
        "pkg:pypi/cachecontrol@0.14.4",
        "pkg:pypi/requests@2.34.2",
        "pkg:pypi/idna@3.20",
        "pkg:pypi/free",
        "pkg:pypi/tomli",
    ]
    assert software_list.problems == ("line 7 ('-e ./x') is not a requirement",)


def test_vendor_lists_with_hashes_and_lines_that_go_on() -> None:
    """As bleach has it, which half of all notebooks bring along; and as pip reads such files."""
    raw = (
        b"--require-hashes\r\nhtml5lib==1.1 \\\r\n    --hash=sha256:0d \\\r\n    --hash=sha256:b2\r\n"
        b"six==1.16.0 --hash=sha256:aa\n-i https://index.example.com/simple\n"
        b"webencodings==0.5.1 \\\n# a comment ends it\nname @ https://example.com/a.whl#sha256=00\n"
        b"-r more.txt\nlast==2 \\"
    )
    software_list = read_vendor_list(raw)
    assert [software.purl for software in software_list.listed] == [
        "pkg:pypi/html5lib@1.1",
        "pkg:pypi/six@1.16.0",
        "pkg:pypi/webencodings@0.5.1",
        "pkg:pypi/name",
        "pkg:pypi/last@2",
    ]
    assert software_list.problems == ("line 10 ('-r more.txt') is not a requirement",)


@pytest.mark.parametrize(
    ("purl", "ecosystem", "name", "source"),
    [
        ("pkg:cargo/serde@1", "crates.io", "serde", ""),
        ("pkg:npm/%40s/x@1", "npm", "@s/x", ""),
        ("pkg:maven/org.a/b@1", "Maven", "org.a:b", ""),
        ("pkg:golang/github.com/a/b@1", "Go", "github.com/a/b", ""),
        ("pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6", "AlmaLinux:8", "openssl-libs", ""),
        ("pkg:rpm/almalinux/x@1?distro=almalinux-9.4", "AlmaLinux:9", "x", ""),
        ("pkg:rpm/centos/x@1-2.el7", "", "x", ""),
        ("pkg:deb/debian/libssl3@3?distro=debian-12&upstream=openssl%403.0", "Debian:12", "libssl3", "openssl"),
        ("pkg:deb/debian/libssl3@3?distro=debian-12", "", "libssl3", ""),
        ("pkg:deb/debian/libssl3@3?upstream=openssl", "", "libssl3", "openssl"),
        ("pkg:apk/alpine/x@1?distro=alpine-3.20.1&upstream=y", "Alpine:v3.20", "x", "y"),
        ("pkg:generic/x@1", "", "x", ""),
    ],
)
def test_what_advisories_call_it(purl: str, ecosystem: str, name: str, source: str) -> None:
    known_as = named(PackageURL.from_string(purl))
    assert (known_as.ecosystem, known_as.name, known_as.source_name) == (ecosystem, name, source)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
WORD = st.one_of(
    st.text(max_size=12), st.sampled_from(["pkg:npm/a@1", "pkg:pypi/A_b@1#x", "pkg:x", "excluded", "\ud800"])
)
VALUE = st.one_of(WORD, JSON)
COMPONENT = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("name", "version", "purl", "scope", "bom-ref", "type"), VALUE)
)
ELEMENT_FIELDS = ("name", "spdxId", "software_packageVersion", "externalIdentifier", "rootElement")
DOCUMENT = st.one_of(
    st.fixed_dictionaries(
        {"bomFormat": st.just("CycloneDX"), "specVersion": st.sampled_from(["1.4", "1.7"])},
        optional={
            "components": st.lists(COMPONENT, max_size=4),
            "metadata": st.fixed_dictionaries({}, optional={"component": COMPONENT}),
        },
    ),
    st.fixed_dictionaries(
        {"spdxVersion": st.just("SPDX-2.3")},
        optional={
            "packages": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "name": VALUE,
                        "versionInfo": VALUE,
                        "externalRefs": st.lists(
                            st.fixed_dictionaries({"referenceType": st.just("purl"), "referenceLocator": VALUE})
                        ),
                    },
                ),
                max_size=4,
            ),
            "documentDescribes": st.lists(VALUE, max_size=2),
        },
    ),
    st.fixed_dictionaries(
        {
            "@context": st.just("https://spdx.org/rdf/3.0.1/spdx-context.jsonld"),
            "@graph": st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["software_Package", "SpdxDocument"])},
                    optional=dict.fromkeys(
                        ("name", "spdxId", "software_packageVersion", "externalIdentifier", "rootElement"), VALUE
                    ),
                ),
                max_size=4,
            ),
        }
    ),
)


def check(software_list: SoftwareList) -> None:
    assert msgspec.json.decode(msgspec.json.encode(software_list), type=AnyFact) == software_list
    for software in software_list.listed:
        purl = PackageURL.from_string(software.purl)
        assert purl.to_string() == software.purl, "canonical"
        assert (purl.version or "") == software.version and (purl.name == software.name or purl.type == "generic")
        named(purl)


@settings(deadline=None, max_examples=200)
@given(DOCUMENT)
def test_any_document_gives_canonical_names_or_a_problem(document: dict[str, Any]) -> None:
    software_list = read_sbom(json.dumps(document).encode())
    check(software_list)
    components = document.get("components", [])
    named_ones = [
        component for component in components if isinstance(component.get("name"), str) and component["name"].strip()
    ]
    if named_ones and not software_list.problems:
        assert software_list.listed or software_list.excluded


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 400))
def test_any_bytes_give_a_list(noise: bytes, start: int, stop: int) -> None:
    seed = cyclonedx({"name": "a", "purl": "pkg:npm/a@1"}, {"name": "b\ud800"}, about={"name": "w"})
    for raw in (noise, seed[:start], seed[:start] + noise + seed[stop:]):
        check(read_sbom(raw))
        check(read_vendor_list(raw))


def test_licences_are_taken_as_they_are_stated() -> None:
    raw = cyclonedx(
        {"name": "a", "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "Other"}}]},
        {"name": "b", "licenses": [{"expression": "MIT OR Apache-2.0"}]},
        *({"name": "c", "licenses": bad} for bad in ("MIT", [None], [{"license": None}], [{"expression": 7}])),
    )
    assert {each.name: each.licenses for each in read_sbom(raw).listed} == {
        "a": ("MIT", "Other"),
        "b": ("MIT OR Apache-2.0",),
        "c": (),
    }
    packages = [
        {"name": "d", "licenseDeclared": "NOASSERTION", "licenseConcluded": "ISC"},
        {"name": "e", "licenseDeclared": "MIT", "licenseConcluded": "ISC"},
    ]
    spdx = read_sbom(json.dumps({"spdxVersion": "SPDX-2.3", "packages": packages}).encode())
    assert {each.name: each.licenses for each in spdx.listed} == {"d": ("ISC",), "e": ("MIT",)}
