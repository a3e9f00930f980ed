"""Match packages against advisories: the report. No network, no layers; packages may come from a stored SBOM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.interface import (
    SEVERITIES,
    Component,
    Finding,
    PlatformPackages,
    Report,
    Severity,
    Unknown,
)
from registry_pipelines.scan.osv import Judgement, Record, entries_for, judge, rate
from registry_pipelines.scan.versions import normal_name, parse_version


def match(packages: Sequence[PlatformPackages], store: AdvisoryStore, *, now: datetime | None = None) -> Report:
    """The report of one release: all its platforms, one list of findings.

    packages: at least one, all of the same subject. now: time written into the report (aware; default: the clock).
    Raises InputError, AdvisoriesMissing. Not judged here: the age of the advisories.
    """
    subjects = {found.subject for found in packages}
    if len(subjects) != 1:
        raise InputError(f"packages of {len(subjects)} releases given", do="Match the platforms of exactly one release")
    findings: list[Finding] = []
    unknowns = {unknown for found in packages for unknown in found.unknowns}
    unknowns.update(
        Unknown(kind="unreadable", subject=f"advisories:{problem.subject}", reason=problem.reason)
        for problem in store.problems
    )
    components = {component for found in packages for component in found.components}
    for component in sorted(components, key=lambda item: (item.purl, item.os_owned)):
        found_here, unknown_here = match_component(component, store)
        findings.extend(found_here)
        unknowns.update(unknown_here)
    return Report(
        subject=subjects.pop(),
        covers=tuple(found.manifest.digest for found in packages),
        advisories=store.facts,
        findings=tuple(sorted(_unique(findings), key=_rank)),
        unknowns=tuple(sorted(unknowns, key=lambda item: (item.kind, item.subject, item.reason))),
        components=len({(component.purl, component.os_owned) for component in components}),
        scanned_at=(now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def match_component(component: Component, store: AdvisoryStore) -> tuple[list[Finding], list[Unknown]]:
    """Findings and unknowns of one component."""
    ecosystem = component.ecosystem
    if ecosystem not in store.ecosystems:
        what = f"the advisories hold nothing for {ecosystem}" if ecosystem else "no advisory ecosystem covers it"
        if not component.declared:
            return [], [Unknown(kind="undeclared", subject=component.purl, reason="only its file shows it")]
        return [], [Unknown(kind="uncovered", subject=component.purl, reason=what)]
    name = normal_name(ecosystem, component.source_name or component.name)
    version = component.source_version or component.version
    records = store.about(ecosystem, name)
    findings: list[Finding] = []
    unknowns: list[Unknown] = []
    for group in merge_aliases(records):
        judged = [(record, judge(entries_for(record, ecosystem, name), ecosystem, version)) for record in group]
        hits = [(record, judgement) for record, judgement in judged if judgement.affected]
        if hits:
            findings.append(_finding(component, group, hits, ecosystem, name))
            continue
        for record, judgement in judged:
            reasons = sorted(set(judgement.problems))
            unknowns.extend(
                Unknown(kind="cannot-compare", subject=component.purl, reason=f"{record.id}: {reason}")
                for reason in reasons
            )
    return findings, unknowns


def merge_aliases(records: Sequence[Record]) -> list[list[Record]]:
    """Records of **one package** that mean the same vulnerability, by id: connected through ids and ``aliases``.

    Aliases are symmetric and transitive within a package; across packages they are not (one CVE, two projects).
    The result does not depend on the order of ``records``.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for record in records:
        for alias in record.aliases or ():
            leader[find(alias)] = find(record.id)
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(find(record.id), []).append(record)
    return sorted(
        (sorted(group, key=lambda record: (record.id, record.modified)) for group in groups.values()),
        key=lambda group: group[0].id,
    )


def _finding(
    component: Component, group: list[Record], hits: list[tuple[Record, Judgement]], ecosystem: str, name: str
) -> Finding:
    ratings = [rate(record, entries_for(record, ecosystem, name)) for record, _ in hits]
    known: list[Severity] = [severity for severity, _ in ratings if severity != "UNKNOWN"]
    scores = [score for _, score in ratings if score is not None]
    fixed = list(dict.fromkeys(version for _, judgement in hits for version in judgement.fixed))
    suppressed = f"os-owned: {component.os_owned}" if component.os_owned else ""
    return Finding(
        component=component.purl,
        ids=tuple(sorted({name for record in group for name in (record.id, *(record.aliases or ()))})),
        severity=min(known, key=SEVERITIES.index) if known else "UNKNOWN",
        score=max(scores) if scores else None,
        fixed_versions=tuple(_ascending(fixed, ecosystem)),
        summary=next((record.summary for record, _ in hits if record.summary), "") or "",
        suppressed=suppressed,
        locations=component.locations,
    )


def _ascending(versions: list[str], ecosystem: str) -> list[str]:
    values: dict[str, Any] = {text: parse_version(ecosystem, text) for text in versions}
    return sorted(versions, key=lambda text: values[text])


def _unique(findings: list[Finding]) -> list[Finding]:
    """One finding for equal ones of several platforms, with the locations of all."""
    merged: dict[tuple[str, tuple[str, ...], str], Finding] = {}
    for found in findings:
        key = (found.component, found.ids, found.suppressed)
        other = merged.get(key)
        places = found.locations if other is None else tuple(sorted({*other.locations, *found.locations}))
        merged[key] = msgspec.structs.replace(found, locations=places)
    return list(merged.values())


def _rank(found: Finding) -> tuple[int, str, tuple[str, ...], str]:
    return SEVERITIES.index(found.severity), found.component, found.ids, found.suppressed
