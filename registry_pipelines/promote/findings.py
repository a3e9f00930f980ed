"""Rules of the gate about a vulnerability report: exceptions, accepted unknowns, limits. Only `gate` uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

from registry_pipelines.promote.documents import AcceptedUnknown, Policy, PolicyException
from registry_pipelines.scan.report import (
    NO_ECOSYSTEM,
    SEVERITIES,
    Finding,
    Report,
    Unknown,
    count_severities,
    undeclared_lines,
)

MAX_LISTED = 20
"""Findings named one by one for each severity, unknowns for each kind and reason; the count says the rest. A kernel
header package alone has 2,000 findings."""

DISTRIBUTED = ("pkg:deb", "pkg:apk", "pkg:rpm")
"""Types of package URLs that have the distribution behind them."""


@dataclass
class Outcome:
    """What a rule, or the whole gate, says. It passes exactly when there is no reason against."""

    reasons: list[str] = field(default_factory=list)
    """Why not, one sentence each; each names what it is about."""
    accepted: list[str] = field(default_factory=list)
    """Exceptions and unknowns that the policy accepts and that were needed."""
    notes: list[str] = field(default_factory=list)
    """What did not decide: expired exceptions, suppressed findings."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counting findings of each severity, after exceptions; empty where no report was looked at."""

    @property
    def passes(self) -> bool:
        """Whether there is no reason against."""
        return not self.reasons

    def add(self, other: Outcome) -> None:
        """Take over everything another rule said."""
        self.reasons.extend(other.reasons)
        self.accepted.extend(other.accepted)
        self.notes.extend(other.notes)
        self.counts.update(other.counts)


def held_against(report: Report, policy: Policy, *, image: str, now: datetime) -> Outcome:
    """A report against a policy: exceptions first, then accepted unknowns, then limits. All that was accepted is said,
    and what was not applied.

    image: the configuration's name, for exceptions.
    """
    outcome = Outcome()
    today = now.astimezone(UTC).date()
    counting = report.counting()
    if len(counting) < len(report.findings):
        outcome.notes.append(_suppressed(len(report.findings) - len(counting)))
    findings = [finding for finding in counting if not _excused(finding, policy, image, today, outcome)]
    unknowns = [unknown for unknown in report.uncertain if not _accepted(unknown, policy, today, outcome)]
    outcome.counts = count_severities(findings)
    for severity in SEVERITIES:
        limit: int | None = getattr(policy.limits, severity.lower())
        of_severity = [finding for finding in findings if finding.severity == severity]
        if limit is not None and len(of_severity) > limit:
            outcome.reasons.extend(_too_many(severity, of_severity, limit))
    undeclared = _undeclared(report, policy, today, outcome)
    _count_unknowns(unknowns, policy.limits.unknowns, outcome)
    lines = outcome.reasons if policy.undeclared == "deny" else outcome.accepted
    lines.extend(undeclared_lines(undeclared))
    return outcome


def expired(what: str, day: date | None) -> str:
    """What is said of an exception or acceptance whose last day is over."""
    return f"{what} expired on {day} and was not applied"


def _suppressed(count: int) -> str:
    what = "1 finding does" if count == 1 else f"{count} findings do"
    return f"{what} not count: a package of the operating system owns what it is about; the report names it"


def _excused(finding: Finding, policy: Policy, image: str, today: date, outcome: Outcome) -> bool:
    matching = [exception for exception in policy.exceptions if _matches(exception, finding, image)]
    for exception in matching:
        if today <= exception.expires:
            outcome.accepted.append(
                f"exception {exception.advisory} for {finding.component} until {exception.expires}: {exception.reason}"
            )
            return True
    outcome.notes.extend(
        expired(f"the exception {exception.advisory} for {finding.component}", exception.expires)
        for exception in matching
    )
    if policy.fixable_only and not finding.fixed_versions:
        outcome.accepted.append(
            f"{finding.severity} {' '.join(finding.ids)} in {finding.component}: no fix is known, "
            "and the policy counts only findings with a fix"
        )
        return True
    return False


def _matches(exception: PolicyException, finding: Finding, image: str) -> bool:
    return (
        exception.advisory in finding.ids
        and fnmatchcase(finding.component, exception.component)
        and fnmatchcase(image, exception.image)
    )


def _accepted(unknown: Unknown, policy: Policy, today: date, outcome: Outcome) -> bool:
    matching = [acceptance for acceptance in policy.accept_unknowns if _names(acceptance, unknown)]
    for acceptance in matching:
        if _holds(acceptance, today):
            outcome.accepted.append(f"{unknown.key}: {acceptance.reason}")
            return True
    outcome.notes.extend(_no_longer(acceptance) for acceptance in matching)
    return False


def _undeclared(report: Report, policy: Policy, today: date, outcome: Outcome) -> list[str]:
    """Package URLs that are undeclared and not accepted by name. Acceptances are needed only where the policy denies
    it; each is told in one line, since an image has dozens of such files."""
    left = [unknown for unknown in report.unknowns if unknown.kind == "undeclared"]
    if policy.undeclared == "deny":
        for acceptance in policy.accept_unknowns:
            named = [unknown for unknown in left if _names(acceptance, unknown)]
            if named and not _holds(acceptance, today):
                outcome.notes.append(_no_longer(acceptance))
            elif named:
                [line] = undeclared_lines(unknown.subject for unknown in named)
                outcome.accepted.append(f"{line}: {acceptance.reason}")
                left = [unknown for unknown in left if unknown not in named]
    return [unknown.subject for unknown in left]


def _count_unknowns(unknowns: list[Unknown], limit: int | None, outcome: Outcome) -> None:
    """Those that no acceptance names pass up to a number, and are told then too."""
    if limit is not None and len(unknowns) > limit:
        outcome.reasons.extend(_too_many_unknowns(unknowns, limit))
    elif unknowns:
        kinds = Counter(unknown.kind for unknown in unknowns)
        permitted = "any number passes" if limit is None else f"up to {limit} pass"
        outcome.accepted.append(
            f"unknowns: {len(unknowns)} that no acceptance names "
            f"({', '.join(f'{number} {kind}' for kind, number in sorted(kinds.items()))}; {permitted})"
        )


def _names(acceptance: AcceptedUnknown, unknown: Unknown) -> bool:
    return acceptance.kind == unknown.kind and fnmatchcase(unknown.subject, acceptance.subject)


def _holds(acceptance: AcceptedUnknown, today: date) -> bool:
    return acceptance.expires is None or today <= acceptance.expires


def _no_longer(acceptance: AcceptedUnknown) -> str:
    return expired(f"the acceptance of {acceptance.kind}:{acceptance.subject}", acceptance.expires)


def _too_many(severity: str, findings: list[Finding], limit: int) -> Iterable[str]:
    permitted = f"{limit} permitted"
    for finding in sorted(findings, key=lambda finding: (finding.component, finding.ids))[:MAX_LISTED]:
        score = "" if finding.score is None else f" {finding.score:.1f}"
        fixed = f"fixed in {', '.join(finding.fixed_versions)}" if finding.fixed_versions else "no fix known"
        matched = f"; affected is {finding.matched}" if finding.matched else ""
        yield f"{severity}{score}: {finding.component}: {' '.join(finding.ids)}; {fixed}{matched} ({permitted})"
    if len(findings) > MAX_LISTED:
        yield f"{severity}: {len(findings) - MAX_LISTED} more findings ({permitted})"


def _too_many_unknowns(unknowns: list[Unknown], limit: int) -> Iterable[str]:
    permitted = f" ({limit} permitted)" if limit else ""
    alike: dict[tuple[str, str, str], list[Unknown]] = {}
    for unknown in unknowns:
        pattern = _pattern(unknown.subject) if unknown.kind == "uncovered" else ""
        alike.setdefault((unknown.kind, unknown.reason, pattern), []).append(unknown)
    for (kind, reason, pattern), group in alike.items():
        if pattern:
            yield f"{_uncovered(group, reason, pattern)}{permitted}"
            continue
        for unknown in group[:MAX_LISTED]:
            yield f"{kind}: {unknown.subject}: {reason}{permitted}"
        if len(group) > MAX_LISTED:
            yield f"{kind}: {len(group) - MAX_LISTED} more: {reason}{permitted}"


def _pattern(purl: str) -> str:
    """Names the packages of the same type, and distribution where it has one: the unit that advisories cover."""
    kind, _, rest = purl.partition("/")
    distribution = rest.partition("/")[0] if kind in DISTRIBUTED and "/" in rest.partition("@")[0] else ""
    return f"{kind}/{distribution}/*" if distribution else f"{kind}/*"


def _uncovered(unknowns: list[Unknown], reason: str, pattern: str) -> str:
    """One line about packages without advisories, and what lets a release with them pass. One wheel may list 500."""
    names = sorted(unknown.subject for unknown in unknowns)
    first, last = (name.partition("?")[0] for name in (names[0], names[-1]))
    named = names[0] if len(names) == 1 else f"{len(names)} packages, from {first} to {last}"
    load = "" if reason == NO_ECOSYSTEM else "load them (`advisories.source`) and scan again, or "
    return f"uncovered: {named}: {reason}; {load}accept {pattern} by name (`accept_unknowns`)"
