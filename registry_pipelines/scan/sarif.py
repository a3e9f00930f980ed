"""A vulnerability report as SARIF 2.1.0 (OASIS), which code scanning pages and editors show.

A finding is a result of kind ``fail``; one that does not count has a suppression with its reason. What the scanner
could not tell is a result of kind ``open`` ("insufficient information to decide", section 3.27.9), so that a reader of
this form is told of it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from registry_pipelines import __version__
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.report import Finding, Report, Severity, Unknown

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS: dict[Severity, str] = {
    "MALICIOUS": "error",
    "CRITICAL": "error",
    "HIGH": "error",
    "MEDIUM": "warning",
    "LOW": "note",
    "UNKNOWN": "warning",
}
_WORST_SCORES: dict[Severity, str] = {
    "MALICIOUS": "10.0",
    "CRITICAL": "9.0",
    "HIGH": "7.0",
    "MEDIUM": "4.0",
    "LOW": "0.1",
}
"""``security-severity`` of a finding without a score: the least of its class (CVSS 3.1, section 5), by which GitHub
sorts."""

MAX_TEXT = 1000
"""Characters of a message; GitHub cuts there as well."""


def write_sarif(report: Report, *, name: str = "", excused: Callable[[Finding], str] = lambda _: "") -> bytes:
    """The report as one SARIF run; deterministic. name: of the image, for people. excused: why a finding passes by a
    policy (exception, VEX); empty where it does not.

    Rules are vulnerabilities, results are findings and unknowns in the report's order.
    """
    results: list[dict[str, Any]] = []
    rules: dict[str, dict[str, Any]] = {}
    for finding in report.findings:
        rule = _rule_name(finding)
        rules.setdefault(rule, _rule(rule, finding))
        results.append(_finding(finding, rule, excused(finding)))
    for unknown in report.unknowns:
        rule = f"unknown/{unknown.kind}"
        rules.setdefault(rule, _unknown_rule(unknown))
        results.append(_unknown(unknown, rule))
    return write_log(
        rules,
        results,
        ended=report.scanned_at,
        properties={
            "image": name,
            "digest": str(report.subject),
            "advisories": str(report.advisories.digest),
            "advisoriesNewest": report.advisories.newest,
            "components": report.components,
        },
    )


def write_log(
    rules: Mapping[str, dict[str, Any]],
    results: Sequence[dict[str, Any]],
    *,
    properties: Mapping[str, Any],
    ended: str = "",
) -> bytes:
    """A log of one run; deterministic. rules: by id, in their order. results: name one of them. ended: when it was
    made, RFC 3339; empty: not told."""
    places = {rule: position for position, rule in enumerate(rules)}
    for result in results:
        result["ruleIndex"] = places[result["ruleId"]]
    invocation = {"executionSuccessful": True, **({"endTimeUtc": ended} if ended else {})}
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "registry-pipelines",
                        "semanticVersion": __version__,
                        "rules": list(rules.values()),
                    }
                },
                "invocations": [invocation],
                "properties": dict(properties),
                "results": list(results),
            }
        ],
    }
    return msgspec.json.format(msgspec.json.encode(log))


def _rule_name(finding: Finding) -> str:
    """By the CVE where there is one: other tools name the same vulnerability so."""
    return next((name for name in finding.ids if name.startswith("CVE-")), finding.ids[0])


def _rule(name: str, finding: Finding) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": text_of(finding.summary or name)},
        "fullDescription": {"text": text_of(f"{' '.join(finding.ids)}. {finding.summary}")},
        "help": {"text": f"https://osv.dev/vulnerability/{name}"},
        "helpUri": f"https://osv.dev/vulnerability/{name}",
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {"tags": ["security", "vulnerability", finding.severity], **_score(finding)},
    }


def _score(finding: Finding) -> dict[str, str]:
    score = f"{finding.score:.1f}" if finding.score is not None else _WORST_SCORES.get(finding.severity, "")
    return {"security-severity": score} if score else {}


def _finding(finding: Finding, rule: str, excused: str) -> dict[str, Any]:
    fixed = f"fixed in {', '.join(finding.fixed_versions)}" if finding.fixed_versions else "no fix is known"
    matched = f"; affected is {finding.matched}" if finding.matched else ""
    said = f"{finding.severity}: {finding.component}: {' '.join(finding.ids)}; {fixed}{matched}"
    result = {
        "ruleId": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": text_of(said)},
        "locations": _locations(finding.locations, finding.component),
        "partialFingerprints": fingerprint(finding.component, *finding.ids),
        "properties": {"component": finding.component, "ids": list(finding.ids), "severity": finding.severity},
    }
    why = finding.suppressed or excused
    if why:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": text_of(why)}]
    return result


def _unknown_rule(unknown: Unknown) -> dict[str, Any]:
    return {
        "id": f"unknown/{unknown.kind}",
        "shortDescription": {"text": f"The scanner could not tell: {unknown.kind}"},
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["security", "unknown"]},
    }


def _unknown(unknown: Unknown, rule: str) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "kind": "open",
        "level": "none",
        "message": {"text": text_of(f"{unknown.kind}: {unknown.subject}: {unknown.reason}")},
        "locations": _locations((), unknown.subject),
        "partialFingerprints": fingerprint(unknown.kind, unknown.subject, unknown.reason),
    }


def _locations(paths: Iterable[str], logical: str) -> list[dict[str, Any]]:
    """Where it is in the image; a viewer wants a file, so what has none is at the image's root."""
    from urllib.parse import quote

    return [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": quote(path) or "."},
                "region": {"startLine": 1},
            },
            "logicalLocations": [{"fullyQualifiedName": logical, "kind": "package"}],
        }
        for path in (list(paths)[:1] or [""])
    ]


def fingerprint(*parts: str) -> dict[str, str]:
    """The same for the same finding in whatever release, so that a page follows it from one to the next."""
    return {"registryPipelines/v1": Digest.of("\n".join(parts).encode()).hex}


def text_of(text: str) -> str:
    """A message of one line, as long as pages show."""
    one = " ".join(text.split()) or "-"
    return one if len(one) <= MAX_TEXT else f"{one[: MAX_TEXT - 3]}..."
