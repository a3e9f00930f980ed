"""Rules of the gate about a vulnerability report: exceptions, accepted unknowns, limits. Only `gate` uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from itertools import groupby

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import AcceptedUnknown, Policy, PolicyException, Step
from registry_pipelines.promote.vex import decisive, excuses
from registry_pipelines.scan.openvex import VexStatement
from registry_pipelines.scan.report import (
    HOLD_NOTHING,
    MALICIOUS_ID,
    SEVERITIES,
    Finding,
    Report,
    Unknown,
    count_severities,
    undeclared_lines,
)

MAX_LISTED = 20
"""Findings named one by one for each severity, unknowns for each kind; the count says the rest. A kernel header package
alone has 2,000 findings."""

MAX_NAMED = 3
"""Unknowns of one kind and reason that are named; the report lists all of them."""

DISTRIBUTED = ("pkg:deb", "pkg:apk", "pkg:rpm")
"""Types of package URLs that have the distribution behind them."""


@dataclass
class Outcome:
    """What a rule, or the whole gate, says. It passes exactly when there is no reason against."""

    reasons: list[str] = field(default_factory=list)
    """Why not, one sentence each; each names what it is about. The weightiest first, and in an order that does not
    depend on the one in which anything was read."""
    steps: list[Step] = field(default_factory=list)
    """What would remove the reasons, in no order; see :func:`~registry_pipelines.promote.documents.in_order`."""
    accepted: list[str] = field(default_factory=list)
    """Exceptions and unknowns that the policy accepts and that were needed."""
    notes: list[str] = field(default_factory=list)
    """What did not decide: expired exceptions, suppressed findings."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counting findings of each severity, after exceptions; empty where no report was looked at."""
    of_promotion: list[str] = field(default_factory=list)
    """Of the reasons those that a promotion takes away: nobody promoted it, or a break-glass alone did."""
    of_version: list[str] = field(default_factory=list)
    """Of the reasons those about its version tag."""
    held: str = ""
    """Where nothing else is against it: what it waits for, ``recording`` or ``measurement``."""

    @property
    def passes(self) -> bool:
        """Whether there is no reason against."""
        return not self.reasons

    def add(self, other: Outcome) -> None:
        """Take over everything another rule said."""
        self.reasons.extend(other.reasons)
        self.steps.extend(other.steps)
        self.accepted.extend(other.accepted)
        self.notes.extend(other.notes)
        self.counts.update(other.counts)


def findings_against(
    report: Report, policy: Policy, *, image: str, now: datetime, vex: Sequence[VexStatement] = ()
) -> Outcome:
    """A report's findings against a policy: exceptions and VEX first, then limits. All that was accepted is said,
    and what was not applied.

    image: the configuration's name, for exceptions. vex: statements that trusted people signed about the release;
    those of the policy's files count in any case.
    """
    outcome = Outcome()
    today = now.astimezone(UTC).date()
    counting = sorted(report.counting(), key=_weight)
    if len(counting) < len(report.findings):
        outcome.notes.append(_suppressed(len(report.findings) - len(counting)))
    statements = (*policy.vex_statements, *vex)
    findings = [
        finding
        for finding in counting
        if not _excused(finding, policy, image, today, outcome)
        and not _stated_harmless(finding, decisive(finding, statements, report), outcome)
        and not _left_to_others(finding, policy, outcome)
    ]
    if policy.unfixed_by_distribution == "list":
        unfixed = [finding for finding in findings if _is_unfixed(finding, policy)]
        findings = [finding for finding in findings if not _is_unfixed(finding, policy)]
        outcome.accepted.extend(_unfixed(unfixed))
    outcome.counts = count_severities(findings)
    for severity in SEVERITIES:
        of_severity = [finding for finding in findings if finding.severity == severity]
        if severity == "MALICIOUS":
            outcome.reasons.extend(_malicious(of_severity))
            outcome.steps.extend(_remedies(of_severity))
            continue
        limit = _limit(policy, severity)
        if limit is not None and len(of_severity) > limit:
            outcome.reasons.extend(_too_many(severity, of_severity, limit))
            outcome.steps.extend(_remedies(of_severity))
    return outcome


def passes_by(
    finding: Finding, report: Report, policy: Policy, *, image: str, now: datetime, vex: Sequence[VexStatement] = ()
) -> str:
    """Why one finding of a report does not count by a policy, as a verdict says it: an exception, VEX, or that nobody
    fixed it; empty where it counts, or only a limit lets it pass. The arguments as in :func:`findings_against`."""
    outcome = findings_against(
        msgspec.structs.replace(report, findings=(finding,)), policy, image=image, now=now, vex=vex
    )
    return "; ".join(outcome.accepted)


def newly_against(
    report: Report,
    before: Report | None,
    policy: Policy,
    *,
    image: str,
    now: datetime,
    vex: Sequence[VexStatement] = (),
) -> list[str]:
    """What a later report of the same release adds against a policy: the reasons that would not be there without its
    new findings. before: the earlier report; None: all are new. An alias more, or a finding that an exception, VEX or
    a limit permits, adds nothing. The rest as in :func:`findings_against`."""
    new = set(report.new_since(before)) if before else set(report.counting())
    if not new:
        return []
    rest = msgspec.structs.replace(report, findings=tuple(each for each in report.findings if each not in new))
    with_them, without = (
        findings_against(each, policy, image=image, now=now, vex=vex).reasons for each in (report, rest)
    )
    return [reason for reason in with_them if reason not in without]


def unknowns_against(report: Report, policy: Policy, *, now: datetime) -> Outcome:
    """What a report could not judge against a policy: accepted unknowns first, then limits, told as
    :func:`findings_against` tells them."""
    outcome = Outcome()
    today = now.astimezone(UTC).date()
    uncertain = sorted(report.uncertain, key=lambda unknown: (unknown.kind, unknown.subject, unknown.reason))
    unknowns = [unknown for unknown in uncertain if not _accepted(unknown, policy, today, outcome)]
    undeclared = _undeclared(report, policy, today, outcome)
    _count_unknowns(unknowns, policy.limits.unknowns, outcome)
    lines = undeclared_lines(undeclared)
    if policy.undeclared == "deny":
        outcome.reasons.extend(lines)
        outcome.steps.extend(Step(kind="accept", about=(f"undeclared:{purl}",)) for purl in undeclared)
    else:
        outcome.accepted.extend(lines)
    return outcome


def expired(what: str, day: date | None) -> str:
    """What is said of an exception or acceptance whose last day is over."""
    return f"{what} expired on {day} and was not applied"


def _suppressed(count: int) -> str:
    what = count_text(count, "finding does", "findings do")
    return f"{what} not count: a package of the operating system owns what it is about; the report names it"


def _excused(finding: Finding, policy: Policy, image: str, today: date, outcome: Outcome) -> bool:
    matching = [exception for exception in policy.exceptions if _matches(exception, finding, image)]
    for exception in matching:
        if today <= exception.expires:
            outcome.accepted.append(
                f"exception {exception.advisory} for {finding.component} until {exception.expires}, for which "
                f"{exception.owner} answers: {exception.reason}"
            )
            return True
    outcome.notes.extend(
        expired(f"the exception {exception.advisory} for {finding.component}", exception.expires)
        for exception in matching
    )
    return False


def _stated_harmless(finding: Finding, statement: VexStatement | None, outcome: Outcome) -> bool:
    if statement is None:
        return False
    said = f"{' '.join(finding.ids)} in {finding.component}: {statement.status}"
    said += f" ({statement.why})" if statement.why else ""
    text = f"vex: {said}, says {statement.author}, of {statement.time}"
    (outcome.accepted if excuses(statement) else outcome.notes).append(text)
    return excuses(statement)


def _left_to_others(finding: Finding, policy: Policy, outcome: Outcome) -> bool:
    if policy.fixable_only and not finding.fixed_versions and finding.severity != "MALICIOUS":
        outcome.accepted.append(
            f"{finding.severity} {' '.join(finding.ids)} in {finding.component}: no fix is known, "
            "and the policy counts only findings with a fix"
        )
        return True
    return False


def _weight(finding: Finding) -> tuple[float, str, tuple[str, ...], tuple[str, ...], str]:
    """The worst first; a total order, so that texts do not depend on the report's."""
    score = 0.0 if finding.score is None else finding.score
    return -score, finding.component, finding.ids, finding.fixed_versions, finding.matched


def _limit(policy: Policy, severity: str) -> int | None:
    limit: int | None = getattr(policy.limits, severity.lower(), None)
    return limit


def _is_unfixed(finding: Finding, policy: Policy) -> bool:
    """Whether only the distribution could do something about it, and has not, where it would count otherwise."""
    distributed = finding.component.startswith(tuple(f"{kind}/" for kind in DISTRIBUTED))
    return distributed and not finding.fixed_versions and _limit(policy, finding.severity) is not None


def _unfixed(findings: list[Finding]) -> Iterator[str]:
    """One line; the report names them."""
    if findings:
        counts = ", ".join(f"{count} {severity}" for severity, count in count_severities(findings).items() if count)
        number = count_text(len(findings), "finding")
        names = sorted({_name(finding.component) for finding in findings})
        where = names[0] if len(names) == 1 else f"{count_text(len(names), 'package')}, from {names[0]} to {names[-1]}"
        yield f"unfixed: {number} ({counts}) in {where}: the distribution has published no fix"


def _name(purl: str) -> str:
    """``libc6`` of ``pkg:deb/debian/libc6@2.36?arch=amd64``."""
    return purl.partition("?")[0].rpartition("/")[2].partition("@")[0]


def _remedies(findings: list[Finding]) -> Iterator[Step]:
    """Take what is fixed; what nobody fixed goes, or is excepted for a time."""
    fixes: dict[str, dict[str, None]] = {}
    for finding in findings:
        if finding.fixed_versions:
            fixes.setdefault(finding.component, {})[finding.fixed_versions[0]] = None
    about = [f"{component.partition('?')[0]}: fixed in {', '.join(fix)}" for component, fix in fixes.items()]
    if about:
        yield Step(kind="image", about=tuple(about))
    unfixed = [
        f"{_own_id(finding)} {finding.component.partition('?')[0]}"
        for finding in findings
        if not finding.fixed_versions
    ]
    if unfixed:
        yield Step(kind="except", about=tuple(unfixed[:MAX_LISTED]))


def _matches(exception: PolicyException, finding: Finding, image: str) -> bool:
    """A malicious package is excused by its own record's name alone: whoever excuses a CVE means a fault."""
    named = finding.severity != "MALICIOUS" or exception.advisory.startswith(MALICIOUS_ID)
    return (
        named
        and exception.advisory in finding.ids
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
        _too_many_unknowns(unknowns, limit, outcome)
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


def _own_id(finding: Finding) -> str:
    """What an exception for it names."""
    attack = (name for name in finding.ids if finding.severity == "MALICIOUS" and name.startswith(MALICIOUS_ID))
    return next(attack, finding.ids[0])


def _malicious(findings: list[Finding]) -> Iterable[str]:
    """Each one, however many: the package is the attack, and every secret that the image has seen is in question."""
    for finding in findings:
        summary = f": {finding.summary}" if finding.summary else ""
        yield (
            f"MALICIOUS: {finding.component}: {' '.join(finding.ids)}{summary}; no limit permits it: remove the "
            f"package, or write an exception for {_own_id(finding)}"
        )


def _too_many(severity: str, findings: list[Finding], limit: int) -> Iterable[str]:
    permitted = f"{limit} permitted"
    for finding in findings[:MAX_LISTED]:
        score = "" if finding.score is None else f" {finding.score:.1f}"
        fixed = f"fixed in {', '.join(finding.fixed_versions)}" if finding.fixed_versions else "no fix known"
        matched = f"; affected is {finding.matched}" if finding.matched else ""
        component = finding.component.partition("?")[0]
        yield f"{severity}{score}: {component}: {' '.join(finding.ids)}; {fixed}{matched} ({permitted})"
    if len(findings) > MAX_LISTED:
        yield f"{severity}: {len(findings) - MAX_LISTED} more findings ({permitted})"


def _too_many_unknowns(unknowns: list[Unknown], limit: int, outcome: Outcome) -> None:
    """The image's own first, one line for what is alike; last, in one line each, what advisories are not loaded for and
    what the scanner has none for. One wheel may list 500 packages."""
    permitted = f" ({limit} permitted)" if limit else ""
    uncovered = [unknown for unknown in unknowns if unknown.kind == "uncovered"]
    others = [unknown for unknown in unknowns if unknown.kind != "uncovered"]
    if any(unknown.kind == "pending" for unknown in others):
        outcome.steps.append(Step(kind="scan"))
    outcome.steps.extend(
        Step(kind="accept", about=(unknown.key,)) for unknown in others[:MAX_LISTED] if unknown.kind != "pending"
    )
    lines = [*_alike(others), *_uncovered(uncovered, outcome)]
    outcome.reasons.extend(f"{line}{permitted}" for line in lines)


def _alike(unknowns: list[Unknown]) -> Iterator[str]:
    """A line for each kind and reason; of each kind the first ones."""
    for kind, of_kind in groupby(unknowns, key=lambda unknown: unknown.kind):
        subjects: dict[str, list[str]] = {}
        for unknown in of_kind:
            subjects.setdefault(unknown.reason, []).append(unknown.subject)
        yield from [f"{kind}: {_named(names)}: {reason}" for reason, names in subjects.items()][:MAX_LISTED]
        if len(subjects) > MAX_LISTED:
            yield f"{kind}: {len(subjects) - MAX_LISTED} more reasons, which the report lists"


def _uncovered(unknowns: list[Unknown], outcome: Outcome) -> Iterator[str]:
    """A line about packages whose advisories can be loaded, one about those that have none, and one for each other
    scanner that does not cover something."""
    loadable = [unknown for unknown in unknowns if unknown.reason.startswith(HOLD_NOTHING)]
    if loadable:
        ecosystems = sorted({unknown.reason.removeprefix(HOLD_NOTHING) for unknown in loadable})
        outcome.steps.append(Step(kind="advisories", about=tuple(ecosystems)))
        yield f"uncovered: {_packages(loadable)}: no advisories are loaded for {', '.join(ecosystems)}"
    rest = [unknown for unknown in unknowns if not unknown.reason.startswith(HOLD_NOTHING)]
    scanners = sorted({unknown.subject for unknown in rest if unknown.subject.startswith("scanner/")})
    packages = [unknown for unknown in rest if unknown.subject not in scanners]
    groups = [packages, *([each for each in rest if each.subject == name] for name in scanners)]
    for others in filter(None, groups):
        patterns = sorted({_pattern(unknown.subject) for unknown in others})
        outcome.steps.append(Step(kind="accept", about=tuple(f"uncovered:{pattern}" for pattern in patterns)))
        yield f"uncovered: {_packages(others)}: {', '.join(sorted({unknown.reason for unknown in others}))}"


def _packages(unknowns: list[Unknown]) -> str:
    """How many, and the patterns that accept them by name."""
    names = sorted({unknown.subject for unknown in unknowns})
    patterns = ", ".join(sorted({_pattern(name) for name in names}))
    return f"{names[0]} ({patterns})" if len(names) == 1 else f"{count_text(len(names), 'package')} ({patterns})"


def _named(subjects: list[str]) -> str:
    """The first ones, and how many more there are."""
    more = len(subjects) - MAX_NAMED
    return ", ".join(subjects[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _pattern(purl: str) -> str:
    """Names the packages of the same type, and distribution where it has one: the unit that advisories cover."""
    kind, _, rest = purl.partition("/")
    distribution = rest.partition("/")[0] if kind in DISTRIBUTED and "/" in rest.partition("@")[0] else ""
    return f"{kind}/{distribution}/*" if distribution else f"{kind}/*"
