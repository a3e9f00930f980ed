"""Match packages against advisories: the report. No network, no layers; packages may come from a stored SBOM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.grouping import Vulnerability, group
from registry_pipelines.scan.judging import Judgement, entries_for, judge
from registry_pipelines.scan.osv import Affected, Record
from registry_pipelines.scan.rating import Rating, is_malicious, rate, worst
from registry_pipelines.scan.report import (
    HOLD_NOTHING,
    NO_ECOSYSTEM,
    ONLY_DERIVED,
    SEVERITIES,
    Component,
    Coverage,
    Finding,
    PlatformPackages,
    Report,
    Unknown,
    unattributed_of,
)
from registry_pipelines.scan.versions import DERIVED, DERIVED_ID, normal_name, parse_version, spoken_of

MAX_REMEMBERED = 200_000
"""Components whose answers a :class:`Matcher` keeps: some 400 bytes each where nothing is known against them. A
fleet of a thousand images has some ten thousand."""


class Matcher:
    """Matches many releases against one store. Releases share most of their components, so what one gave is kept; safe
    to use from many threads."""

    def __init__(self, store: AdvisoryStore) -> None:
        self.store = store
        self._known: dict[Component, tuple[list[Finding], list[Unknown]]] = {}

    def report(self, packages: Sequence[PlatformPackages], *, now: datetime | None = None) -> Report:
        """See :func:`match`."""
        subjects = {platform.subject for platform in packages}
        if len(subjects) != 1:
            raise InputError(
                f"packages of {count_text(len(subjects), 'release')} given",
                do="Match the platforms of exactly one release",
            )
        findings: list[Finding] = []
        unknowns = {unknown for platform in packages for unknown in platform.unknowns}
        unknowns.update(
            Unknown(kind="unreadable", subject=f"advisories:{problem.subject}", reason=problem.reason)
            for problem in self.store.problems
        )
        components = {
            msgspec.structs.replace(component, layers=(), licenses=())
            for platform in packages
            for component in platform.components
        }
        for component in sorted(components, key=lambda component: (component.purl, component.os_owned)):
            found_here, unknown_here = self._matched(component)
            findings.extend(found_here)
            unknowns.update(unknown_here)
        return Report(
            subject=subjects.pop(),
            covers=tuple(platform.manifest.digest for platform in packages),
            advisories=self.store.facts,
            findings=tuple(sorted(_unique(findings), key=_rank)),
            unknowns=tuple(sorted(unknowns, key=lambda unknown: (unknown.kind, unknown.subject, unknown.reason))),
            components=len({(component.purl, component.os_owned) for component in components}),
            scanned_at=(now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            coverage=_coverage(components, self.store),
            unattributed=unattributed_of([platform.unattributed for platform in packages]),
        )

    def _matched(self, component: Component) -> tuple[list[Finding], list[Unknown]]:
        known = self._known.get(component)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            known = self._known[component] = match_component(component, self.store)
        return known


def match(packages: Sequence[PlatformPackages], store: AdvisoryStore, *, now: datetime | None = None) -> Report:
    """The report of one release: all its platforms, one list of findings.

    packages: at least one, all of the same subject. now: time written into the report (aware; default: the clock).
    Raises InputError, AdvisoriesMissing. Not judged here: the age of the advisories.
    """
    return Matcher(store).report(packages, now=now)


def match_component(component: Component, store: AdvisoryStore) -> tuple[list[Finding], list[Unknown]]:
    """Findings and unknowns of one component."""
    ecosystem = component.ecosystem
    if not store.covers(ecosystem) and store.speaks_of(ecosystem):
        only = Unknown(kind="uncovered", subject=component.purl, reason=f"{ONLY_DERIVED}{ecosystem}")
        findings, unknowns = _compared(component, store)
        return findings, [*unknowns, only]
    if not store.covers(ecosystem):
        if component.os_owned:  # the distribution's package is matched in its place
            return [], []
        what = f"{HOLD_NOTHING}{ecosystem}" if ecosystem else NO_ECOSYSTEM
        if not component.declared:
            return [], [Unknown(kind="undeclared", subject=component.purl, reason="only its file shows it")]
        return [], [Unknown(kind="uncovered", subject=component.purl, reason=what)]
    return _compared(component, store)


def _compared(component: Component, store: AdvisoryStore) -> tuple[list[Finding], list[Unknown]]:
    ecosystem = component.ecosystem
    name = normal_name(ecosystem, component.source_name or component.name)
    version = component.source_version or component.version
    findings: list[Finding] = []
    unknowns: dict[Unknown, None] = {}
    for vulnerability in group(store.about(ecosystem, name)):
        # What a distribution says itself of a vulnerability is better than what its changelog let guess.
        published = [record for record in vulnerability.records if not record.id.startswith(DERIVED_ID)]
        judged = [_judged(record, ecosystem, name, version) for record in published or vulnerability.records]
        if any(opinion.judgement.affected for opinion in judged):
            findings.append(_finding(component, vulnerability, judged))
            continue
        for opinion in judged:
            for reason in sorted(set(opinion.judgement.problems)):
                text = f"{opinion.record.id}: {reason}"
                unknowns[Unknown(kind="cannot-compare", subject=component.purl, reason=text)] = None
    return findings, list(unknowns)


@dataclass(frozen=True)
class _Judged:
    record: Record
    entries: list[Affected]
    judgement: Judgement

    def rating(self) -> Rating:
        rating = rate(self.record, self.entries)
        return Rating(rating.severity, rating.score, f"{rating.by} of {self.record.id}" if rating.by else "")


def _judged(record: Record, ecosystem: str, name: str, version: str) -> _Judged:
    entries = entries_for(record, spoken_of(ecosystem), name)
    if "esm" in version and ecosystem.startswith("Ubuntu:"):
        # A package of Ubuntu Pro: what is published about Pro speaks of it, not that the free release has no fix.
        entries = [entry for entry in entries if entry.package and ":Pro:" in entry.package.ecosystem] or entries
    return _Judged(record, entries, judge(entries, ecosystem, version))


def _finding(component: Component, vulnerability: Vulnerability, judged: list[_Judged]) -> Finding:
    """The worst of what the matching records say; where they give no severity, of all that speak of it."""
    hits = [opinion for opinion in judged if opinion.judgement.affected]
    rating = worst(hit.rating() for hit in hits)
    if rating.severity == "UNKNOWN" and len(hits) < len(judged):
        rating = worst(opinion.rating() for opinion in judged if not is_malicious(opinion.record))
    fixed = list(dict.fromkeys(version for hit in hits for version in hit.judgement.fixed))
    matched = [hit.judgement.matched for hit in hits]
    return Finding(
        component=component.purl,
        ids=vulnerability.ids,
        severity=rating.severity,
        score=rating.score,
        rated_by=rating.by,
        matched="" if "" in matched else matched[0],
        fixed_versions=tuple(_ascending(fixed, component.ecosystem)),
        summary=next((hit.record.summary for hit in hits if hit.record.summary), "") or "",
        # A distribution backports fixes; nobody can fix a package that does harm by itself.
        suppressed=f"os-owned: {component.os_owned}" if component.os_owned and rating.severity != "MALICIOUS" else "",
        locations=component.locations,
    )


def _coverage(components: Iterable[Component], store: AdvisoryStore) -> tuple[Coverage, ...]:
    all_counts = Counter(component.ecosystem for component in components)
    counts = {ecosystem: number for ecosystem, number in all_counts.items() if store.speaks_of(ecosystem)}
    names = {ecosystem: [name for name in spoken_of(ecosystem) if name in store.ecosystems] for ecosystem in counts}
    by_name: dict[str, tuple[int, list[str]]] = {}
    for ecosystem, number in counts.items():
        derived = [name for name in names[ecosystem] if name.startswith(DERIVED)]
        by_name |= {name: (number, [name]) for name in derived}
        if store.covers(ecosystem):
            by_name[ecosystem] = number, [name for name in names[ecosystem] if name not in derived]
    coverage = []
    for ecosystem, (number, speaking) in sorted(by_name.items()):
        parts = [store.ecosystems[name] for name in speaking]
        records, newest = sum(part.records for part in parts), max(part.newest for part in parts)
        coverage.append(Coverage(ecosystem=ecosystem, components=number, records=records, newest=newest))
    return tuple(coverage)


def _ascending(versions: list[str], ecosystem: str) -> list[str]:
    values: dict[str, Any] = {text: parse_version(ecosystem, text) for text in versions}
    return sorted(versions, key=lambda text: values[text])


def _unique(findings: list[Finding]) -> list[Finding]:
    """One finding for equal ones of several platforms, with the locations of all."""
    merged: dict[tuple[str, tuple[str, ...], str], Finding] = {}
    for finding in findings:
        key = (finding.component, finding.ids, finding.suppressed)
        other = merged.get(key)
        places = finding.locations if other is None else tuple(sorted({*other.locations, *finding.locations}))
        merged[key] = msgspec.structs.replace(finding, locations=places)
    return list(merged.values())


def _rank(finding: Finding) -> tuple[int, str, tuple[str, ...], str]:
    return SEVERITIES.index(finding.severity), finding.component, finding.ids, finding.suppressed
