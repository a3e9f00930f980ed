"""Reports as SARIF 2.1.0: by the schema of OASIS, with everything that a reader must not miss."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from registry_pipelines.scan.report import Unknown
from registry_pipelines.scan.sarif import write_sarif
from tests.scan.reports import UNCOVERED, finding, report
from tests.scan.test_openvex import schema

FOUND = (
    finding("CRITICAL", "GHSA-1", "CVE-2026-1", score=9.8, fixed=("2",)),
    finding("UNKNOWN", "PYSEC-1", component="pkg:pypi/b@1"),
    finding("MALICIOUS", "MAL-1", component="pkg:pypi/evil@1"),
    finding("HIGH", "CVE-2", component="pkg:pypi/c@1", suppressed="os-owned: deb python3-c"),
    finding("LOW", "CVE-2026-1", component="pkg:pypi/d@1"),
)


def written(**options: Any) -> dict[str, Any]:
    unknowns = (UNCOVERED, Unknown(kind="unreadable", subject="usr/lib/x y/METADATA", reason="cut"))
    raw = write_sarif(report(*FOUND, unknowns=unknowns), name="app:v1", **options)
    document: dict[str, Any] = json.loads(raw)
    jsonschema.Draft7Validator(schema("sarif-schema-2.1.0.json.gz")).validate(document)
    (run,) = document["runs"]
    assert isinstance(run, dict)
    return run


def test_findings_are_results_and_unknowns_are_open() -> None:
    run = written()
    told = [(each["ruleId"], each.get("kind", "fail"), each["level"]) for each in run["results"]]
    assert told == [
        ("CVE-2026-1", "fail", "error"),
        ("PYSEC-1", "fail", "warning"),
        ("MAL-1", "fail", "error"),
        ("CVE-2", "fail", "error"),
        ("CVE-2026-1", "fail", "note"),
        ("unknown/uncovered", "open", "none"),
        ("unknown/unreadable", "open", "none"),
    ]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[each["ruleIndex"]]["id"] for each in run["results"]] == [each["ruleId"] for each in run["results"]]
    scores = {rule["id"]: rule["properties"].get("security-severity") for rule in rules}
    assert scores["CVE-2026-1"] == "9.8" and scores["MAL-1"] == "10.0" and scores["PYSEC-1"] is None


def test_what_does_not_count_is_suppressed_with_its_reason() -> None:
    run = written(excused=lambda each: "exception CVE-2026-1" if "CVE-2026-1" in each.ids else "")
    why = [[each["justification"] for each in result.get("suppressions", ())] for result in run["results"]]
    assert why == [["exception CVE-2026-1"], [], [], ["os-owned: deb python3-c"], ["exception CVE-2026-1"], [], []]


def test_the_same_report_gives_the_same_bytes_and_each_result_its_own_fingerprint() -> None:
    assert write_sarif(report(*FOUND)) == write_sarif(report(*FOUND))
    prints = [each["partialFingerprints"]["registryPipelines/v1"] for each in written()["results"]]
    assert len(set(prints)) == len(prints)
