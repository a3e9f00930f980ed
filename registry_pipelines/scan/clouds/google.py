"""Occurrences of Artifact Analysis about one image (grafeas.v1, as JSON), read as an opinion.

Sources: grafeas, ``discovery.proto`` and ``vulnerability.proto``; Artifact Analysis, "View vulnerabilities". An empty
list of vulnerabilities says nothing by itself: the discovery occurrence says whether a scan ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.clouds.components import Components
from registry_pipelines.scan.clouds.states import ARCHIVED, NO_DISCOVERY, STALE, End, google_end
from registry_pipelines.scan.other_scanners import Opinion, about_scanner, findings_of
from registry_pipelines.scan.report import DISTRIBUTED, Finding, OtherScanner, Severity

Occurrence = Mapping[str, Any]
"""An occurrence as protobuf's JSON has it: names in camelCase, enumerations by name."""

_SEVERITIES: dict[str, Severity] = {
    "CRITICAL": "CRITICAL",
    "HIGH": "HIGH",
    "MEDIUM": "MEDIUM",
    "LOW": "LOW",
    "MINIMAL": "LOW",
}
_TYPES: dict[str, tuple[str, ...]] = {
    "OS": DISTRIBUTED,
    "PYPI": ("pypi",),
    "NPM": ("npm",),
    "GO": ("golang",),
    "GO_STDLIB": ("golang",),
    "MAVEN": ("maven",),
    "NUGET": ("nuget",),
    "RUBYGEMS": ("gem",),
    "RUST": ("cargo",),
    "COMPOSER": ("composer",),
}
"""Package URL types of ``packageType``."""


def status_of(discoveries: Sequence[Occurrence]) -> str:
    """The analysis status of the newest discovery occurrence; empty where there is none."""
    newest = _newest(discoveries)
    return str(newest.get("analysisStatus") or "ANALYSIS_STATUS_UNSPECIFIED") if newest is not None else ""


def _newest(discoveries: Sequence[Occurrence]) -> Mapping[str, Any] | None:
    found = [each for each in discoveries if each.get("discovery") is not None]
    latest = max(found, key=lambda each: str(each.get("updateTime") or each.get("createTime") or ""), default=None)
    return latest["discovery"] if latest is not None else None


def read_google(
    discoveries: Sequence[Occurrence],
    vulnerabilities: Sequence[Occurrence],
    manifest: Digest,
    components: Components,
    *,
    scanner: str = "google",
    now: datetime | None = None,
) -> Opinion:
    """now: UTC, the clock unless told. The data is of the last scan, or of the last update of the image's
    vulnerabilities, whichever is later; where analysis goes on (``ACTIVE``) it is of now."""
    now = now or datetime.now(UTC)
    discovery = _newest(discoveries)
    ends = [NO_DISCOVERY] if discovery is None else list(_ends(discovery, now))
    return opinion(
        vulnerabilities, manifest, components, scanner=scanner, ends=ends, newest=_age(discovery or {}, ends, now)
    )


def opinion(
    vulnerabilities: Sequence[Occurrence],
    manifest: Digest,
    components: Components,
    *,
    scanner: str,
    ends: Sequence[End],
    newest: str,
) -> Opinion:
    """Of a scan whose state is known otherwise."""
    about = OtherScanner(name=scanner, newest=newest, covers=() if ends else (manifest,))
    unknowns = [about_scanner(end.kind, scanner, f"{manifest.short}: {end.reason}") for end in ends]
    if not ends and not newest:
        unknowns.append(about_scanner("incomplete", scanner, "it does not say when it scanned"))
    found = [each for raw in vulnerabilities for each in _findings(raw, components, scanner)]
    return Opinion(about, tuple(found), tuple(unknowns))


def _ends(discovery: Mapping[str, Any], now: datetime) -> Iterator[End]:
    error = discovery.get("analysisStatusError") or {}
    status = str(discovery.get("analysisStatus") or "ANALYSIS_STATUS_UNSPECIFIED")
    if end := google_end(status, str(error.get("message") or "")):
        yield end
        return
    for each in discovery.get("analysisError") or ():
        yield End(
            "incomplete", f"a part of the analysis failed: {' '.join(str(each.get('message') or '').split())[:200]}"
        )
    archived = read_time(str(discovery.get("archiveTime") or ""))
    if archived is not None and archived <= now:
        yield ARCHIVED
    elif discovery.get("continuousAnalysis") == "INACTIVE":
        yield STALE


def _age(discovery: Mapping[str, Any], ends: Sequence[End], now: datetime) -> str:
    if discovery.get("continuousAnalysis") == "ACTIVE" and not ends:
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")
    times = [read_time(str(discovery.get(key) or "")) for key in ("lastScanTime", "lastVulnerabilityUpdateTime")]
    newest = max((moment for moment in times if moment is not None), default=None)
    return newest.strftime("%Y-%m-%dT%H:%M:%SZ") if newest else ""


def _findings(raw: Occurrence, components: Components, scanner: str) -> Iterator[Finding]:
    told = raw.get("vulnerability")
    if told is None:
        return
    name = str(raw.get("noteName") or "").rpartition("/")[2] or str(told.get("shortDescription") or "unnamed")
    scores = [
        told.get("cvssScore"),
        *((told.get(key) or {}).get("baseScore") for key in ("cvssv3", "cvssV3", "cvssV4")),
    ]
    for issue in told.get("packageIssue") or [{}]:
        version = issue.get("affectedVersion") or {}
        types = _TYPES.get(str(issue.get("packageType") or "OS"), ("generic",))
        purl, locations = components.purl(types, str(issue.get("affectedPackage") or ""), _versions(version))
        severity = str(issue.get("effectiveSeverity") or told.get("effectiveSeverity") or "")
        if severity in ("", "SEVERITY_UNSPECIFIED"):
            severity = str(told.get("severity") or "")
        paths = [str(each.get("filePath") or "").lstrip("/") for each in issue.get("fileLocation") or ()]
        yield from findings_of(
            purl,
            name,
            related=(),
            severity=_SEVERITIES.get(severity, "UNKNOWN"),
            found_by=scanner,
            score=max(
                (float(each) for each in scores if isinstance(each, int | float) and 0 < each <= 10), default=None
            ),
            fixed=_fixed(issue.get("fixedVersion") or {}),
            summary=str(told.get("shortDescription") or ""),
            locations=locations or tuple(path for path in paths if path),
        )


def _versions(version: Mapping[str, Any]) -> tuple[str, ...]:
    name, revision = str(version.get("name") or ""), str(version.get("revision") or "")
    whole = f"{name}-{revision}" if revision else name
    epoch = version.get("epoch") or 0
    return tuple(
        dict.fromkeys((f"{epoch}:{whole}" if epoch else whole, str(version.get("fullName") or ""), whole, name))
    )


def _fixed(version: Mapping[str, Any]) -> list[str]:
    """A version of the kind MAXIMUM means that none fixes it."""
    if version.get("kind") not in (None, "NORMAL"):
        return []
    full = str(version.get("fullName") or "") or _versions(version)[0]
    return [full] if full else []
