"""The report as a value: JSON both ways, counting."""

from __future__ import annotations

import msgspec
import pytest

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.scan.report import Report, undeclared_lines
from tests.scan.reports import UNCOVERED, finding, report, undeclared


def test_what_is_suppressed_does_not_count() -> None:
    scanned = report(finding("HIGH"), finding("LOW"), finding("HIGH", "Y", suppressed="os-owned"))
    assert scanned.counts() == {"MALICIOUS": 0, "CRITICAL": 0, "HIGH": 1, "MEDIUM": 0, "LOW": 1, "UNKNOWN": 0}
    assert [finding.severity for finding in scanned.counting()] == ["HIGH", "LOW"]


def test_the_undeclared_are_one_line_and_not_uncertain() -> None:
    many = undeclared(*(f"lib{letter}.so" for letter in "fedcba"))
    assert many.uncertain == () and len(many.undeclared) == 6
    assert report(unknowns=(UNCOVERED,)).uncertain == (UNCOVERED,)
    assert undeclared_lines(many.undeclared) == [
        "undeclared: 6 libraries and programs that no package list names: from liba.so to libf.so"
    ]
    assert undeclared_lines([]) == []


def test_a_report_of_the_one_old_kind_asks_for_a_new_scan() -> None:
    old = report(unknowns=(UNCOVERED,)).encode().replace(b'"uncovered"', b'"no-data"')
    with pytest.raises(ManifestInvalid, match="earlier version") as caught:
        Report.decode(old)
    assert caught.value.do == "Scan the release again"


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
