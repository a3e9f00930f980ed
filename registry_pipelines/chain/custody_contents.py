"""What is in a digest and what was found in it, as statements of custody: packages, and findings over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from registry_pipelines.chain.custody_evidence import Read, rejected
from registry_pipelines.errors import EvidenceError, ManifestInvalid
from registry_pipelines.evidence.model import Rejected, VerifiedAttestation
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_created, read_time
from registry_pipelines.progress import count_text
from registry_pipelines.report.custody import Cell, Statement
from registry_pipelines.scan.cyclonedx import MAX_SBOM_BYTES, read_cyclonedx
from registry_pipelines.scan.predicates import REPORT_TYPES, signed_report
from registry_pipelines.scan.report import (
    REPORT_MEDIA_TYPE,
    SBOM_MEDIA_TYPE,
    SEVERITIES,
    Finding,
    PlatformPackages,
    Report,
)

MOST_NAMED = 20
"""Findings that one report names; all of them are in the table."""


class _Sbom(NamedTuple):
    packages: PlatformPackages
    by: VerifiedAttestation | None
    evidence: Digest


class _Reported(NamedTuple):
    report: Report
    by: VerifiedAttestation | None
    evidence: Digest


@dataclass(frozen=True)
class Contents:
    """What SBOMs and reports say. rows: of tables, as :class:`~registry_pipelines.report.custody.Custody` has them."""

    statements: tuple[Statement, ...]
    packages: tuple[Mapping[str, Cell], ...]
    findings: tuple[Mapping[str, Cell], ...]
    ages: tuple[tuple[str, float], ...] = ()


def contents(read: Read) -> Contents:
    """All that is said of the contents of a digest, from what was read about it."""
    statements: list[Statement] = []
    sboms = _sboms(read, statements)
    reports = _reports(read, statements)
    statements += [_package_statement(read, each) for each in sboms]
    before: Report | None = None
    for each in reports:
        statements.append(_report_statement(read, each, before))
        before = each.report
    return Contents(
        tuple(statements), tuple(_package_rows(sboms)), tuple(_finding_rows(reports)), tuple(_ages(reports))
    )


def _sboms(read: Read, told: list[Statement]) -> list[_Sbom]:
    """Those that this project wrote; of other tools the chapter of other evidence tells."""
    signed = read.known.of_type(CYCLONEDX_TYPE)
    found: list[_Sbom] = []
    for each in signed:
        try:
            packages = read_cyclonedx(msgspec.json.encode(each.predicate), where=each.descriptor.digest)
        except ManifestInvalid:
            continue
        if packages.subject == read.digest:
            found.append(_Sbom(packages, each, each.descriptor.digest))
    for digest, content in read.documents(SBOM_MEDIA_TYPE, limit=MAX_SBOM_BYTES):
        if isinstance(content, Rejected):
            told.append(rejected("packages", digest, content.reason))
            continue
        try:
            document = msgspec.json.decode(content)
            if any(document == each.predicate for each in signed):
                read.twins.add(digest)
                continue
            packages = read_cyclonedx(content, where=digest)
        except (ManifestInvalid, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            told.append(rejected("packages", digest, f"the attached SBOM cannot be read: {str(error)[:200]}"))
            continue
        if packages.subject == read.digest:
            found.append(_Sbom(packages, None, digest))
    return sorted(found, key=lambda each: (str(each.packages.platform), each.by is None))


def _package_statement(read: Read, sbom: _Sbom) -> Statement:
    packages = sbom.packages
    kinds = Counter(each.type for each in packages.components)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    unknowns = [f"not judged: {each.key}: {each.reason}" for each in packages.unknowns[:MOST_NAMED]]
    says = f"{count_text(len(packages.components), 'component')} for {packages.platform}" + (
        f": {told}" if told else ""
    )
    # A reproducible build's constant is no time at which anything happened.
    at = packages.created if read_created(packages.created) else ""
    return read.signed("packages", says, sbom.by, evidence=sbom.evidence, time=at, details=unknowns)


def _package_rows(sboms: Sequence[_Sbom]) -> Iterator[Mapping[str, Cell]]:
    """Each component of a platform once; that of a signed SBOM before that of another."""
    seen: set[tuple[str, str]] = set()
    for sbom in sboms:
        platform = str(sbom.packages.platform)
        for each in sbom.packages.components:
            if (platform, each.purl) not in seen:
                seen.add((platform, each.purl))
                yield {
                    "name": each.name,
                    "version": each.version,
                    "type": each.type,
                    "platform": platform,
                    "state": "verified" if sbom.by else "unsigned",
                }


def _reports(read: Read, told: list[Statement]) -> list[_Reported]:
    """Each report once, the oldest first; a signed one in the place of the same without a signature."""
    found: dict[Report, _Reported] = {}
    for by in (each for kind in REPORT_TYPES for each in read.known.of_type(kind)):
        try:
            report = signed_report(by)
        except (EvidenceError, ManifestInvalid):
            continue
        if report.subject == read.digest:
            found.setdefault(report, _Reported(report, by, by.descriptor.digest))
    for digest, content in read.documents(REPORT_MEDIA_TYPE):
        try:
            report = Report.decode(_bytes(content), where=digest)
        except ManifestInvalid as error:
            told.append(rejected("findings", digest, error.what))
            continue
        if report in found:
            read.twins.add(digest)
        elif report.subject == read.digest:
            found[report] = _Reported(report, None, digest)
    return sorted(found.values(), key=lambda each: each.report.order)


def _bytes(content: bytes | Rejected) -> bytes:
    if isinstance(content, Rejected):
        raise ManifestInvalid(content.reason)
    return content


def _report_statement(read: Read, each: _Reported, before: Report | None) -> Statement:
    report = each.report
    counted = [f"{count} {name.lower()}" for name, count in report.counts().items() if count]
    details = [f"advisories: {report.advisories.source}, the newest of {report.advisories.newest}"]
    details += [f"also asked: {other.name} {other.version}".strip() for other in report.scanners]
    new = report.new_since(before) if before else report.counting()
    gone = before.new_since(report) if before else ()
    details += _named("new" if before else "found", new) + _named("gone", gone)
    if report.unknowns:
        details.append(f"{count_text(len(report.unknowns), 'thing')} could not be judged")
    says = f"{count_text(report.components, 'component')} compared: {', '.join(counted) or 'no finding'}"
    return read.signed("findings", says, each.by, evidence=each.evidence, time=report.scanned_at, details=details)


def _named(word: str, findings: Sequence[Finding]) -> list[str]:
    worst = sorted(findings, key=lambda each: SEVERITIES.index(each.severity))
    lines = [f"{word}: {each.severity} {_name(each)} in {each.component}" for each in worst[:MOST_NAMED]]
    more = len(worst) - MOST_NAMED
    return [*lines, f"{word}: {more} more"] if more > 0 else lines


def _name(finding: Finding) -> str:
    """A CVE where one is known: what people look for."""
    return next((each for each in finding.ids if each.startswith("CVE-")), next(iter(finding.ids), ""))


def _finding_rows(reports: Sequence[_Reported]) -> Iterator[Mapping[str, Cell]]:
    """Each finding once, the worst first. Two reports that name one vulnerability by different ids have one of them in
    common, or it is two rows."""
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    alias: dict[tuple[str, str], tuple[str, str]] = {}
    for reported in reports:
        report = reported.report
        for each in report.counting():
            ids = [(each.component, one) for one in each.ids]
            key = next((alias[one] for one in ids if one in alias), (each.component, _name(each)))
            alias |= dict.fromkeys(ids, key)
            row = rows.setdefault(key, {"id": key[1], "component": each.component, "first_seen": report.scanned_at})
            verified = reported.by is not None or row.get("state") == "verified"
            row |= {
                "severity": each.severity,
                "fixed": ", ".join(each.fixed_versions),
                "last_seen": report.scanned_at,
                "state": "verified" if verified else "unsigned",
            }
    last = reports[-1].report.scanned_at if reports else ""
    for row in rows.values():
        row["now"] = "open" if row["last_seen"] == last else "gone"
    yield from sorted(rows.values(), key=lambda row: (SEVERITIES.index(row["severity"]), row["id"]))


URGENT = ("MALICIOUS", "CRITICAL", "HIGH")
"""Severities whose age is followed."""


def _ages(reports: Sequence[_Reported]) -> Iterator[tuple[str, float]]:
    """See :attr:`~registry_pipelines.report.custody.Custody.ages`. What nobody signed gives no number."""
    first: dict[tuple[str, str], datetime] = {}
    for each in reports:
        at = read_time(each.report.scanned_at)
        if each.by is None or at is None:
            continue
        oldest = 0.0
        for finding in each.report.counting():
            ids = [(finding.component, one) for one in finding.ids]
            begun = min([first[one] for one in ids if one in first], default=at)
            first.update(dict.fromkeys(ids, begun))
            if finding.severity in URGENT:
                oldest = max(oldest, (at - begun).total_seconds() / 86_400)
        yield each.report.scanned_at, oldest
