"""Vulnerability reports made by hand."""

from __future__ import annotations

from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.report import NO_ECOSYSTEM, AdvisoryFacts, Finding, Report, Severity, Unknown

DIGEST = Digest.of(b"x")
UNCOVERED = Unknown(kind="uncovered", subject="pkg:conda/python@3.11.2", reason=NO_ECOSYSTEM)


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


def finding(
    severity: Severity,
    *ids: str,
    component: str = "pkg:pypi/a@1",
    score: float | None = None,
    suppressed: str = "",
    fixed: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        component=component,
        ids=ids or ("X-1",),
        severity=severity,
        score=score,
        suppressed=suppressed,
        fixed_versions=fixed,
    )


def undeclared(*names: str) -> Report:
    return report(
        unknowns=tuple(Unknown(kind="undeclared", subject=f"pkg:generic/{name}", reason="its file") for name in names)
    )
