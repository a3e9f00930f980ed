"""Apply a policy's limits, exceptions and accepted unknowns to a vulnerability report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

import msgspec

from registry_pipelines.promote.interface import AcceptedUnknown, Policy, PolicyException
from registry_pipelines.scan.interface import Finding, Limits, Report, Unknown, undeclared_lines


@dataclass
class FindingsOutcome:
    """What the policy makes of a report. Every text names what it is about."""

    reasons: list[str] = field(default_factory=list)
    """Why the limits are not kept."""
    accepted: list[str] = field(default_factory=list)
    """Exceptions and accepted unknowns that were needed."""
    notes: list[str] = field(default_factory=list)
    """Expired exceptions, suppressed findings."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counting findings of each severity, after exceptions."""


def report_breaches(report: Report, policy: Policy, *, image: str, now: datetime) -> list[str]:
    """Why a report does not pass a policy's limits, after exceptions and accepted unknowns; empty: it passes.

    Not judged here: the age of the advisories, which platforms are covered, who signed.
    """
    return judge_findings(report, policy, image=image, now=now).reasons


def judge_findings(report: Report, policy: Policy, *, image: str, now: datetime) -> FindingsOutcome:
    """Apply exceptions, then accepted unknowns, then limits; say all that was accepted and what was not applied."""
    outcome = FindingsOutcome()
    today = now.astimezone(UTC).date()
    counting = [item for item in report.findings if not item.suppressed]
    if len(counting) < len(report.findings):
        outcome.notes.append(f"{len(report.findings) - len(counting)} findings are suppressed by the scanner")
    remaining = [item for item in counting if not _excused(item, policy, image, today, outcome)]
    uncertain = (item for item in report.unknowns if item.kind != "undeclared")
    unknowns = [item for item in uncertain if not _accepted(item, policy, today, outcome)]
    unknowns += _undeclared(report, policy, today, outcome)
    limited = msgspec.structs.replace(report, findings=tuple(remaining), unknowns=tuple(unknowns))
    outcome.counts = limited.counts()
    outcome.reasons.extend(limited.breaches(policy.limits))
    outcome.accepted.extend(_accepted_by_limits(limited, policy.limits))
    return outcome


def _accepted_by_limits(report: Report, limits: Limits) -> Iterable[str]:
    for item in report.accepted(limits):
        if item.kind != "undeclared":
            yield f"{item.key}: {item.reason} (accepted by the policy's limits)"
    uncertain = report.uncertain(limits)
    if uncertain and (limits.unknowns is None or len(uncertain) <= limits.unknowns):
        kinds = Counter(item.kind for item in uncertain)
        permitted = "any number is" if limits.unknowns is None else f"{limits.unknowns} are"
        yield (
            f"unknowns: {len(uncertain)} that no acceptance names "
            f"({', '.join(f'{number} {kind}' for kind, number in sorted(kinds.items()))}; {permitted} permitted)"
        )
    passed = [item for item in report.unknowns if item.kind == "undeclared"]
    if limits.undeclared == "deny":
        passed = [item for item in passed if limits.accepts(item)]
    yield from undeclared_lines(item.subject for item in passed)


def _excused(finding: Finding, policy: Policy, image: str, today: date, outcome: FindingsOutcome) -> bool:
    matching = [item for item in policy.exceptions if _matches(item, finding, image)]
    valid = [item for item in matching if today <= item.expires]
    for item in valid[:1]:
        outcome.accepted.append(
            f"exception {item.advisory} for {finding.component} until {item.expires}: {item.reason}"
        )
    if not valid:
        outcome.notes.extend(
            f"the exception {item.advisory} for {finding.component} expired on {item.expires} and was not applied"
            for item in matching
        )
    if not valid and policy.fixable_only and not finding.fixed_versions:
        outcome.accepted.append(
            f"{finding.severity} {' '.join(finding.ids)} in {finding.component}: no fix is known, "
            "and the policy counts only findings with a fix"
        )
        return True
    return bool(valid)


def _matches(item: PolicyException, finding: Finding, image: str) -> bool:
    return (
        item.advisory in finding.ids
        and fnmatchcase(finding.component, item.component)
        and fnmatchcase(image, item.image)
    )


def _accepted(unknown: Unknown, policy: Policy, today: date, outcome: FindingsOutcome) -> bool:
    matching = [item for item in policy.accepted_unknowns if _names(item, unknown)]
    valid = [item for item in matching if item.expires is None or today <= item.expires]
    for item in valid[:1]:
        outcome.accepted.append(f"{unknown.key}: {item.reason}")
    if not valid:
        outcome.notes.extend(_expired(item) for item in matching)
    return bool(valid)


def _undeclared(report: Report, policy: Policy, today: date, outcome: FindingsOutcome) -> list[Unknown]:
    """What is undeclared and not accepted by name. Acceptances are needed only where the policy denies it; each is told
    in one line, since an image has dozens of such files."""
    left = [item for item in report.unknowns if item.kind == "undeclared"]
    if policy.limits.undeclared == "list":
        return left
    for item in policy.accepted_unknowns:
        named = [unknown for unknown in left if _names(item, unknown)]
        if named and item.expires is not None and today > item.expires:
            outcome.notes.append(_expired(item))
        elif named:
            line = undeclared_lines(unknown.subject for unknown in named)[0]
            outcome.accepted.append(f"{line}: {item.reason}")
            left = [unknown for unknown in left if unknown not in named]
    return left


def _expired(item: AcceptedUnknown) -> str:
    return f"the acceptance of {item.kind}:{item.subject} expired on {item.expires} and was not applied"


def _names(item: AcceptedUnknown, unknown: Unknown) -> bool:
    return item.kind == unknown.kind and fnmatchcase(unknown.subject, item.subject)
