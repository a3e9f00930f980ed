"""Reports of trivy (JSON, SchemaVersion 2) and grype (JSON), read as an opinion about one image.

Sources: aquasecurity/trivy, pkg/types/report.go; anchore/grype, grype/presenter/models. What a report leaves out is as
important as what it says: no package lists, a distribution past its end, findings that the scanner's own settings
ignore, the age of its database. Reports are input from outside: bounded, and refused when they are about another image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_sloppy
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.other_scanners import Opinion, about_scanner, findings_of
from registry_pipelines.scan.report import DISTRIBUTED, Finding, OtherScanner, Severity, Unknown

MAX_SCANNER_BYTES = 256 * 1024 * 1024
"""A report of trivy with all packages has 2 to 3 KB a finding; a distribution image with kernel headers 10 MB."""

ScannerKind = Literal["trivy", "grype"]

_SEVERITIES: dict[str, Severity] = {
    "critical": "CRITICAL",
    "high": "HIGH",
    "medium": "MEDIUM",
    "low": "LOW",
    "negligible": "LOW",
}


@dataclass(frozen=True)
class Scanned:
    """The image that a report must be about."""

    release: Digest
    manifest: Digest
    config: Digest
    types: frozenset[str] = frozenset()
    """Types of the package URLs in our own SBOM of it: what another scanner is expected to list, too."""

    @property
    def names(self) -> frozenset[str]:
        """Digests that mean it."""
        return frozenset(map(str, (self.release, self.manifest, self.config)))


class _Lenient(msgspec.Struct, rename="pascal"):
    """Fields as trivy writes them."""


class _TrivyOs(_Lenient):
    family: str = ""
    name: str = ""
    eosl: bool = msgspec.field(name="EOSL", default=False)


class _TrivyMetadata(_Lenient):
    os: _TrivyOs = msgspec.field(name="OS", default_factory=_TrivyOs)
    image_id: str = msgspec.field(name="ImageID", default="")
    repo_digests: list[str] = []


class _TrivyIdentifier(_Lenient):
    purl: str = msgspec.field(name="PURL", default="")


class _TrivyVulnerability(_Lenient):
    vulnerability_id: str = msgspec.field(name="VulnerabilityID", default="")
    vendor_ids: list[str] = msgspec.field(name="VendorIDs", default_factory=list)
    pkg_name: str = ""
    pkg_path: str = ""
    pkg_identifier: _TrivyIdentifier = msgspec.field(default_factory=_TrivyIdentifier)
    installed_version: str = ""
    fixed_version: str = ""
    status: str = ""
    severity: str = ""
    title: str = ""
    cvss: dict[str, dict[str, Any]] = msgspec.field(name="CVSS", default_factory=dict)


class _TrivyModified(_Lenient):
    type: str = ""
    finding: msgspec.Raw = msgspec.Raw(b"{}")


class _TrivyResult(_Lenient):
    kind: str = msgspec.field(name="Class", default="")
    type: str = ""
    vulnerabilities: list[_TrivyVulnerability] = []
    experimental_modified_findings: list[_TrivyModified] = []


class _TrivyTool(_Lenient):
    version: str = ""


class _TrivyReport(_Lenient):
    schema_version: int = 0
    created_at: str = ""
    metadata: _TrivyMetadata = msgspec.field(default_factory=_TrivyMetadata)
    results: list[_TrivyResult] = []
    trivy: _TrivyTool = msgspec.field(default_factory=_TrivyTool)


class _TrivyDatabase(_Lenient):
    updated_at: str = ""


class _TrivyVersion(_Lenient):
    version: str = ""
    vulnerability_db: _TrivyDatabase = msgspec.field(name="VulnerabilityDB", default_factory=_TrivyDatabase)


class _Camel(msgspec.Struct, rename="camel"):
    """Fields as grype writes them."""


class _GrypeFix(_Camel):
    versions: list[str] = []


class _GrypeVulnerability(_Camel):
    id: str = ""
    severity: str = ""
    description: str = ""
    cvss: list[dict[str, Any]] = []
    fix: _GrypeFix = msgspec.field(default_factory=_GrypeFix)


class _GrypeLocation(_Camel):
    path: str = ""


class _GrypeArtifact(_Camel):
    name: str = ""
    version: str = ""
    type: str = ""
    purl: str = ""
    locations: list[_GrypeLocation] = []


class _GrypeMatch(_Camel):
    vulnerability: _GrypeVulnerability
    artifact: _GrypeArtifact
    related_vulnerabilities: list[_GrypeVulnerability] = []


class _GrypeAlert(_Camel):
    type: str = ""
    message: str = ""


class _GrypePackageAlerts(_Camel):
    package: _GrypeArtifact = msgspec.field(default_factory=_GrypeArtifact)
    alerts: list[_GrypeAlert] = []


class _GrypeSource(_Camel):
    type: str = ""
    target: Any = None


class _GrypeDescriptor(_Camel):
    name: str = ""
    version: str = ""
    db: dict[str, Any] = {}


class _GrypeReport(_Camel):
    matches: list[_GrypeMatch]
    descriptor: _GrypeDescriptor
    source: _GrypeSource
    ignored_matches: list[_GrypeMatch] = []
    alerts_by_package: list[_GrypePackageAlerts] = []


Score = Annotated[float, msgspec.Meta(ge=0, le=10)]


def read_opinion(kind: ScannerKind, raw: bytes, scanned: Scanned, *, database: bytes = b"", where: str = "") -> Opinion:
    """What a report says about an image. database: for trivy, what ``trivy version --format json`` prints, since its
    reports do not say how old its data is; grype's say it.

    What is no report, or about another image, raises ManifestInvalid: the caller says that it was unreadable.
    """
    if len(raw) > MAX_SCANNER_BYTES:
        raise ManifestInvalid(f"the report has more than {MAX_SCANNER_BYTES} bytes", where=where)
    read = _read_trivy if kind == "trivy" else _read_grype
    return read(raw, scanned, database, where)


def _read_trivy(raw: bytes, scanned: Scanned, database: bytes, where: str) -> Opinion:
    report = decode_sloppy(raw, _TrivyReport, where=where, what="report of trivy")
    if report.schema_version != 2:
        raise ManifestInvalid(f"SchemaVersion of trivy's report is {report.schema_version}, not 2", where=where)
    named = {report.metadata.image_id, *(each.rpartition("@")[2] for each in report.metadata.repo_digests)}
    _require_about(named, scanned, where)
    version = decode_sloppy(database, _TrivyVersion, where=where, what="answer of trivy version") if database else None
    newest = _time(version.vulnerability_db.updated_at if version else "")
    findings = [found for result in report.results for each in _of_trivy(result, where) for found in each]
    scanner = OtherScanner(
        name="trivy",
        version=report.trivy.version or (version.version if version else ""),
        newest=newest,
        covers=(scanned.manifest,),
    )
    return Opinion(scanner, tuple(findings), tuple(_trivy_unknowns(report, scanned, newest)))


def _of_trivy(result: _TrivyResult, where: str) -> Iterator[list[Finding]]:
    """Of what its own settings take out, nothing is taken out: only a policy excuses, and says so."""
    modified = [
        decode_sloppy(bytes(each.finding), _TrivyVulnerability, where=where, what="finding of trivy")
        for each in result.experimental_modified_findings
        if each.type in ("", "vulnerability")
    ]
    for each in (*result.vulnerabilities, *modified):
        if not each.vulnerability_id:
            raise ManifestInvalid("a finding of trivy has no VulnerabilityID", where=where)
        if each.status == "not_affected":  # the distribution's own word about its package
            continue
        name = f"{each.pkg_name}@{each.installed_version}"
        scores = [_score(vendor.get("V40Score", vendor.get("V3Score"))) for vendor in each.cvss.values()]
        yield findings_of(
            each.pkg_identifier.purl or f"pkg:generic/{name}",
            each.vulnerability_id,
            related=each.vendor_ids,
            severity=_SEVERITIES.get(each.severity.lower(), "UNKNOWN"),
            found_by="trivy",
            score=max((score for score in scores if score is not None), default=None),
            fixed=[version for part in each.fixed_version.split(",") if (version := part.strip())],
            summary=each.title,
            locations=[each.pkg_path.lstrip("/")] if each.pkg_path else [],
        )


def _trivy_unknowns(report: _TrivyReport, scanned: Scanned, newest: str) -> Iterator[Unknown]:
    system = report.metadata.os
    if not newest:
        yield about_scanner("incomplete", "trivy", "nobody says how old its database was (`database`)")
    if system.eosl:
        reason = f"{system.family} {system.name} is past its end: its advisories are not complete any more"
        yield about_scanner("incomplete", "trivy", reason)
    if not report.results and scanned.types:
        yield about_scanner("incomplete", "trivy", "it recognised no package list in the image")
    elif scanned.types.intersection(DISTRIBUTED) and not any(each.kind == "os-pkgs" for each in report.results):
        yield about_scanner("incomplete", "trivy", "it looked at no packages of the distribution")


def _read_grype(raw: bytes, scanned: Scanned, database: bytes, where: str) -> Opinion:
    del database  # its reports say it
    report = decode_sloppy(raw, _GrypeReport, where=where, what="report of grype")
    if report.descriptor.name != "grype":
        raise ManifestInvalid(f"it is a report of {report.descriptor.name[:40]!r}, not of grype", where=where)
    target = report.source.target if isinstance(report.source.target, dict) else {}
    repositories = [str(each).rpartition("@")[2] for each in target.get("repoDigests") or ()]
    _require_about({str(target.get("manifestDigest")), str(target.get("imageID")), *repositories}, scanned, where)
    newest = _time(_built(report.descriptor.db))
    scanner = OtherScanner(name="grype", version=report.descriptor.version, newest=newest, covers=(scanned.manifest,))
    matches = (*report.matches, *report.ignored_matches)
    findings = [found for each in matches for found in _of_grype(each, where)]
    return Opinion(scanner, tuple(findings), tuple(_grype_unknowns(report, newest)))


def _of_grype(match: _GrypeMatch, where: str) -> list[Finding]:
    """What its own settings ignore counts, too: only a policy excuses, and says so."""
    vulnerability, artifact = match.vulnerability, match.artifact
    if not vulnerability.id:
        raise ManifestInvalid("a match of grype has no vulnerability id", where=where)
    metrics = [each.get("metrics") for each in vulnerability.cvss]
    scores = [_score(each.get("baseScore")) for each in metrics if isinstance(each, dict)]
    return findings_of(
        artifact.purl or f"pkg:generic/{artifact.name}@{artifact.version}",
        vulnerability.id,
        related=[each.id for each in match.related_vulnerabilities if each.id],
        severity=_SEVERITIES.get(vulnerability.severity.lower(), "UNKNOWN"),
        found_by="grype",
        score=max((score for score in scores if score is not None), default=None),
        fixed=vulnerability.fix.versions,
        summary=vulnerability.description,
        locations=[location.path.lstrip("/") for location in artifact.locations if location.path],
    )


def _grype_unknowns(report: _GrypeReport, newest: str) -> Iterator[Unknown]:
    if not newest:
        yield about_scanner("incomplete", "grype", "its report does not say how old its database was")
    told = {each.message or each.type: None for package in report.alerts_by_package for each in package.alerts}
    for message in told:
        yield about_scanner("incomplete", "grype", " ".join(message.split())[:200] or "it warns of a package")


def _built(database: dict[str, Any]) -> str:
    """``db.status.built`` (since grype 0.88), else ``db.built``."""
    status = database.get("status")
    return str((status if isinstance(status, dict) else database).get("built") or "")


def _require_about(named: Sequence[str] | set[str], scanned: Scanned, where: str) -> None:
    if scanned.names.isdisjoint(named):
        there = ", ".join(sorted(each for each in named if ":" in each)[:3]) or "no image by its digest"
        raise ManifestInvalid(f"the report is about {there[:200]}, not about {scanned.manifest}", where=where)


def _time(text: str) -> str:
    moment = read_time(text)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _score(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value <= 10 else None
