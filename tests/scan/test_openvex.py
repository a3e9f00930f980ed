"""OpenVEX documents: what is read from them, what is refused, and what is written."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.openvex import names_package, read_openvex, stated_affected, write_openvex
from tests.scan.reports import DIGEST, finding, report

OTHER = Digest.of(b"other")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PILLOW = finding("HIGH", "CVE-2026-1", "GHSA-1", "DSA-1", component="pkg:pypi/pillow@9.5.0")


def document(*statements: dict[str, Any], **fields: Any) -> bytes:
    """statements: over those of a whole one about pillow."""
    whole = {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:pypi/pillow@9.5.0"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    head = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.com/vex/1",
        "author": "Imaging Team",
        "timestamp": "2026-11-20T10:00:00+01:00",
        "version": 1,
    }
    return json.dumps({**head, "statements": [whole | each for each in statements], **fields}).encode()


def schema(name: str) -> Any:
    path = Path(__file__).parents[1] / "data" / name
    return json.loads(gzip.decompress(path.read_bytes()))


def concerns(statement: dict[str, Any], release: Digest = DIGEST, covers: tuple[Digest, ...] = (DIGEST,)) -> bool:
    (read,) = read_openvex(document(statement))
    return read.concerns(PILLOW, release, covers)


def test_a_statement_inherits_time_and_author_from_its_document() -> None:
    (read,) = read_openvex(document({}))
    assert (read.names, read.status, read.time, read.author) == (
        ("CVE-2026-1",),
        "not_affected",
        "2026-11-20T09:00:00Z",
        "Imaging Team",
    )
    (own,) = read_openvex(document({"timestamp": "2026-11-21T00:00:00Z"}))
    assert own.time == "2026-11-21T00:00:00Z"


@pytest.mark.parametrize(
    ("product", "held"),
    [
        ({"@id": "pkg:pypi/pillow@9.5.0"}, True),
        ({"@id": "pkg:pypi/pillow"}, True),
        ({"@id": "pkg:pypi/Pillow"}, True),
        ({"@id": "pkg:pypi/pillow@9.4.0"}, False),
        ({"@id": "pkg:pypi/pillow@9.5.0?arch=x"}, False),
        ({"@id": "pkg:pypi/pillow-simd@9.5.0"}, False),
        ({"identifiers": {"purl": "pkg:pypi/pillow"}}, True),
        ({"@id": f"pkg:oci/app@sha256%3A{DIGEST.hex}"}, True),
        ({"@id": f"pkg:oci/app@{OTHER}"}, False),
        ({"@id": f"reg.example/app@{DIGEST}"}, True),
        ({"@id": "urn:x", "hashes": {"sha-256": DIGEST.hex.upper()}}, True),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": "pkg:pypi/pillow"}]}, True),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": "pkg:pypi/numpy"}]}, False),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": "urn:unreadable"}]}, False),
        ({"@id": "pkg:pypi/pillow", "subcomponents": [{"@id": "pkg:pypi/pillow"}]}, False),
    ],
)
def test_products_by_package_and_by_digest(product: dict[str, Any], held: bool) -> None:
    assert concerns({"products": [product]}) is held


def test_a_platform_is_the_release_only_when_all_platforms_are_named() -> None:
    first, second = Digest.of(b"1"), Digest.of(b"2")
    one = {"products": [{"@id": f"pkg:oci/app@{first}"}]}
    both = {"products": [{"@id": f"pkg:oci/app@{first}"}, {"@id": f"pkg:oci/app@{second}"}]}
    assert not concerns(one, covers=(first, second))
    assert concerns(both, covers=(first, second))
    assert not concerns(one, covers=())


def test_an_alias_counts_and_a_notice_as_alias_does_not() -> None:
    assert concerns({"vulnerability": {"name": "X-9", "aliases": ["GHSA-1"]}})
    assert not concerns({"vulnerability": {"name": "CVE-2026-2", "aliases": ["DSA-1"]}})
    assert concerns({"vulnerability": {"name": "DSA-1"}})


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"{", "not valid"),
        (document({"status": "harmless"}), "status"),
        (document({"justification": "because"}), "justification"),
        (document({"justification": ""}), "neither `justification` nor"),
        (document({"products": []}), "names no product"),
        (document({"products": [{"@id": "pkg:oci/app?repository_url=reg.example/app"}]}), "no digest"),
        (document({}, timestamp="yesterday"), "not a time"),
        (document({}, **{"@context": "https://example.com"}), "not OpenVEX"),
        (document({"vulnerability": {"name": ""}}), "no name"),
    ],
)
def test_what_is_no_document_is_refused_and_says_why(raw: bytes, what: str) -> None:
    with pytest.raises(ManifestInvalid, match=what):
        read_openvex(raw, where="team.json")


def test_an_attested_statement_without_product_is_about_its_subject() -> None:
    (read,) = read_openvex(document({"products": []}), subject=DIGEST)
    assert read.concerns(PILLOW, DIGEST, (DIGEST,)) and not read.concerns(PILLOW, OTHER, (OTHER,))


def test_what_is_written_is_valid_and_reads_back_the_same() -> None:
    found = report(PILLOW)
    statements = [*read_openvex(document({})), stated_affected(found, PILLOW, author="me", action="Update to 9.")]
    raw = write_openvex(statements, author="me", now=NOW)
    jsonschema.Draft202012Validator(schema("openvex-schema-0.2.0.json.gz")).validate(json.loads(raw))
    back = read_openvex(raw)
    assert all(each.derived for each in back)
    assert [(each.names, each.status, each.why, each.products) for each in back] == [
        (("CVE-2026-1",), "not_affected", "vulnerable_code_not_in_execute_path", statements[0].products),
        (("CVE-2026-1", "DSA-1", "GHSA-1"), "affected", "", statements[1].products),
    ]
    assert raw == write_openvex(statements, author="me", now=NOW)


@given(st.binary(max_size=300) | st.integers(0, 600).map(lambda cut: document({}, {})[:cut]))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(ManifestInvalid):
        read_openvex(raw)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_a_package_or_none(pattern: str, component: str) -> None:
    assert names_package(pattern, component) in (True, False)
    assert not names_package(pattern, "no purl")
