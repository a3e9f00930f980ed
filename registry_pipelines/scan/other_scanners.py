"""What other scanners say about an image, beside our own advisories: one report, in which nothing that either found is
lost.

A finding of several scanners is one finding, by component and identifier. What another scanner did not do (no data, a
report that cannot be read, a scan that has not ended) is an unknown about that scanner, as ours are about components:
none of them reads as "no finding". Documents of trivy and grype are read by ``scanner_documents``; ``chain`` starts the
programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.report import (
    MALICIOUS_ID,
    SEVERITIES,
    Component,
    Finding,
    OtherScanner,
    PlatformPackages,
    Report,
    Severity,
    Unknown,
    UnknownKind,
    is_notice,
)

_Key = tuple[str, str, str, str]
"""Type, namespace, name and version of a package URL: scanners add different qualifiers."""


class Opinion(NamedTuple):
    """What one scanner said about one platform's image."""

    scanner: OtherScanner
    findings: tuple[Finding, ...] = ()
    unknowns: tuple[Unknown, ...] = ()


def about_scanner(kind: UnknownKind, scanner: str, reason: str) -> Unknown:
    """That a scanner as a whole could not say what it was asked."""
    return Unknown(kind=kind, subject=f"scanner/{scanner}", reason=reason)


def with_opinions(report: Report, packages: Sequence[PlatformPackages], opinions: Iterable[Opinion]) -> Report:
    """The report with what others say. packages: those that it was made from; a finding about one of their components
    is about that, and does not count where the distribution's package stands for it.

    Where both rate a finding, ours counts, since it asks the distribution first; where ours has no severity, theirs
    does. Independent of the order of opinions.
    """
    said = sorted(opinions, key=lambda opinion: (opinion.scanner.name, opinion.scanner.covers))
    if not said:
        return report
    components = _by_key(packages)
    findings = list(report.findings)
    places: dict[tuple[_Key, str], int] = {}
    for position, finding in enumerate(findings):
        _remember(places, finding, position)
    for opinion in said:
        for theirs in opinion.findings:
            finding = _placed(theirs, components)
            position = _known(places, finding)
            if position < 0:
                position = len(findings)
                findings.append(finding)
            else:
                findings[position] = _together(findings[position], finding)
            _remember(places, findings[position], position)
    unknowns = {*report.unknowns, *(unknown for opinion in said for unknown in opinion.unknowns)}
    return msgspec.structs.replace(
        report,
        findings=tuple(sorted(findings, key=_rank)),
        unknowns=tuple(sorted(unknowns, key=lambda unknown: (unknown.kind, unknown.subject, unknown.reason))),
        scanners=_summed(opinion.scanner for opinion in said),
    )


def carried_over(report: Report, before: Report) -> Report:
    """A new report with what other scanners said in the one before about the same images: a rescan asks our own
    advisories alone, and must not lose what they found. The age of their data goes along."""
    if report.scanners or not before.scanners or (report.subject, report.covers) != (before.subject, before.covers):
        return report
    kept = [finding for finding in before.findings if finding.found_by]
    unknowns = tuple(unknown for unknown in before.unknowns if unknown.subject.startswith("scanner/"))
    whole = with_opinions(report, (), [Opinion(before.scanners[0], tuple(kept), unknowns)])
    return msgspec.structs.replace(whole, scanners=before.scanners)


def findings_of(
    component: str,
    name: str,
    *,
    related: Sequence[str],
    severity: Severity,
    found_by: str,
    score: float | None = None,
    fixed: Sequence[str] = (),
    summary: str = "",
    locations: Sequence[str] = (),
) -> list[Finding]:
    """One record of another scanner as findings. A notice (``RHSA-...``) about several vulnerabilities is one finding
    of each of them, as with our own advisories: an exception for one must not excuse the others."""
    others = [each for each in dict.fromkeys(related) if each != name]
    faults = [each for each in others if not is_notice(each)]
    groups = [[name, each] for each in faults] if is_notice(name) and len(faults) > 1 else [[name, *others]]
    return [
        Finding(
            component=component,
            ids=tuple(sorted(set(group))),
            severity="MALICIOUS" if any(each.startswith(MALICIOUS_ID) for each in group) else severity,
            score=score,
            rated_by="" if severity == "UNKNOWN" else f"{found_by} of {name}",
            fixed_versions=tuple(fixed),
            summary=" ".join(summary.split())[:300],
            locations=tuple(sorted(set(locations))),
            found_by=(found_by,),
        )
        for group in groups
    ]


def key_of(purl: str) -> _Key:
    """What tells a component from others whichever scanner names it."""
    from packageurl import PackageURL

    try:
        parsed = PackageURL.from_string(purl)
    except ValueError:
        return purl, "", "", ""
    return parsed.type, parsed.namespace or "", parsed.name, parsed.version or ""


def _by_key(packages: Iterable[PlatformPackages]) -> Mapping[_Key, Component]:
    """Components by what others call them. One that no distribution owns wins: its findings count."""
    components: dict[_Key, Component] = {}
    for platform in packages:
        for component in platform.components:
            key = key_of(component.purl)
            if key not in components or components[key].os_owned:
                components[key] = component
    return components


def _placed(finding: Finding, components: Mapping[_Key, Component]) -> Finding:
    """The finding about our own component, where there is one like it."""
    component = components.get(key_of(finding.component))
    if component is None:
        return finding
    owned = bool(component.os_owned) and finding.severity != "MALICIOUS"
    return msgspec.structs.replace(
        finding,
        component=component.purl,
        suppressed=f"os-owned: {component.os_owned}" if owned else "",
        locations=component.locations or finding.locations,
    )


def _remember(places: dict[tuple[_Key, str], int], finding: Finding, position: int) -> None:
    key = key_of(finding.component)
    for name in finding.ids:
        if not is_notice(name):
            places.setdefault((key, name), position)


def _known(places: Mapping[tuple[_Key, str], int], finding: Finding) -> int:
    """The place of a finding that is the same; -1: there is none."""
    key = key_of(finding.component)
    return next((places[key, name] for name in finding.ids if not is_notice(name) and (key, name) in places), -1)


def _together(ours: Finding, theirs: Finding) -> Finding:
    """One finding of two. A malicious package stays one, whoever says it; what one of them counts, counts."""
    rated = theirs if ours.severity == "UNKNOWN" or theirs.severity == "MALICIOUS" else ours
    return msgspec.structs.replace(
        ours,
        ids=tuple(sorted({*ours.ids, *theirs.ids})),
        severity=rated.severity,
        rated_by=rated.rated_by,
        score=ours.score if ours.score is not None else theirs.score,
        fixed_versions=ours.fixed_versions or theirs.fixed_versions,
        summary=ours.summary or theirs.summary,
        suppressed=ours.suppressed if theirs.suppressed and rated.severity != "MALICIOUS" else "",
        found_by=tuple(sorted({*(ours.found_by or ("",)), *theirs.found_by})),
    )


def _summed(scanners: Iterable[OtherScanner]) -> tuple[OtherScanner, ...]:
    """Each scanner once; of several runs the oldest data counts, and all images that were looked at."""
    summed: dict[str, OtherScanner] = {}
    for scanner in scanners:
        before = summed.get(scanner.name)
        if before is not None:
            covers: tuple[Digest, ...] = tuple(dict.fromkeys((*before.covers, *scanner.covers)))
            oldest = min(before, scanner, key=lambda each: each.newest or "9999")
            scanner = msgspec.structs.replace(oldest, covers=covers)
        summed[scanner.name] = scanner
    return tuple(summed.values())


def _rank(finding: Finding) -> tuple[int, str, tuple[str, ...], str]:
    return SEVERITIES.index(finding.severity), finding.component, finding.ids, finding.suppressed
