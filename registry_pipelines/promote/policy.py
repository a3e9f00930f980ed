"""A policy as rules: objects with one method, joined by AllOf and AnyOf, which keep every child's reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from registry_pipelines.errors import InputError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import judge_findings, report_breaches
from registry_pipelines.promote.interface import (
    CYCLONEDX_TYPE,
    DEFAULT_MAX_ADVISORY_AGE_DAYS,
    PROVENANCE_TYPE,
    TIME_FORMAT,
    VULNERABILITIES_TYPE,
    AcceptedUnknown,
    Policy,
)
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.warnings import WarningId

CLOCK_SKEW = timedelta(days=1)
"""Advisories may be this far in the future: feeds and this machine keep different clocks."""

NAMES = {PROVENANCE_TYPE: "SLSA provenance", CYCLONEDX_TYPE: "CycloneDX SBOM"}
"""What people call the predicate types."""


@dataclass
class Outcome:
    """What a rule says. It passes exactly when there is no reason against."""

    reasons: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against."""
        return not self.reasons

    def add(self, other: Outcome) -> None:
        """Take over everything another rule said."""
        self.reasons.extend(other.reasons)
        self.accepted.extend(other.accepted)
        self.notes.extend(other.notes)


class Rule(Protocol):
    """One thing a policy asks for."""

    def check(self, evidence: Evidence) -> Outcome:
        """Every reason against, and everything accepted on the way. Never raises for bad evidence."""
        ...


class AllOf:
    """Passes when every rule passes; asks all of them, so that every reason is known at once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = _not_empty(rules)

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        outcome = Outcome()
        for rule in self._rules:
            outcome.add(rule.check(evidence))
        return outcome


class AnyOf:
    """Passes when one rule passes, in order, with what that rule accepted; else gives the reasons of all."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = _not_empty(rules)

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        failed = Outcome()
        for rule in self._rules:
            outcome = rule.check(evidence)
            if outcome.passes:
                return Outcome(accepted=outcome.accepted, notes=[*failed.notes, *outcome.notes])
            failed.reasons.extend(outcome.reasons)
            failed.notes.extend(outcome.notes)
        return failed


class SignatureRequired:
    """The image is signed by a trusted key, as ``.sig`` or bundle."""

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        return Outcome([f"signature: {evidence.signature_problem}"] if evidence.signature_problem else [])


class HasPlatforms:
    """The release holds at least one image, and every platform asked for: by its index's word and its config's."""

    def __init__(self, platforms: Sequence[Platform]) -> None:
        self._platforms = platforms

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        there = ", ".join(_platform(entry) for entry in evidence.images)
        if not evidence.images:
            return Outcome(["platforms: the release holds no image that could be started"])
        return Outcome(
            [
                f"platforms: {wanted} is required, the release has {there}"
                for wanted in self._platforms
                if not any(entry.serves(wanted) for entry in evidence.images)
            ]
        )


class WarningsDenied:
    """Of the warnings about the release, those that the policy names deny; the others are noted."""

    def __init__(self, denied: Sequence[WarningId]) -> None:
        self._denied = denied

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        outcome = Outcome()
        for name, text in evidence.warnings.items():
            told = outcome.reasons if name in self._denied else outcome.notes
            told.append(f"warning {name}: {text}")
        return outcome


class AttestationRequired:
    """A trusted key signed a statement of this type about the release, covering every platform.

    The vulnerability report has a rule of its own, :class:`FindingsWithin`.
    """

    def __init__(self, predicate_type: str) -> None:
        self._type = predicate_type
        self._name = NAMES.get(predicate_type, predicate_type)

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        if not evidence.attestations.of_type(self._type):
            return Outcome([f"{self._name}: no attestation of type {self._type} is signed by a trusted key"])
        covered = evidence.covered(self._type)
        return Outcome(
            [
                f"{self._name}: the signed evidence does not cover {platform} ({digest})"
                for digest, platform in evidence.platforms.items()
                if digest not in covered
            ]
        )


class FindingsWithin:
    """The vulnerability report keeps the limits, after exceptions and accepted unknowns.

    An unsigned report is judged too, so that its findings are named; it never passes.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        judged = evidence.report
        if judged is None:
            return Outcome(["vulnerability report: there is none about this digest"])
        found = judge_findings(judged.report, self._policy, image=evidence.image, now=evidence.now)
        outcome = Outcome(found.reasons, found.accepted, found.notes)
        if judged.attestation is None:
            outcome.reasons.append("vulnerability report: no trusted key signed it (done only when its findings pass)")
        newer = judged.superseded_by
        if newer is not None:
            outcome.reasons.append(f"vulnerability report: a later one, of {newer.scanned_at}, is not signed")
            outcome.reasons.extend(report_breaches(newer, self._policy, image=evidence.image, now=evidence.now))
        for digest, platform in evidence.platforms.items():
            if digest not in judged.report.covers:
                outcome.reasons.append(f"vulnerability report: {platform} ({digest}) was not scanned")
        return outcome


class IfReported:
    """Asks a rule only when there is a report: a policy may do without one, but not overlook what one says."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        return self._rule.check(evidence) if evidence.report is not None else Outcome()


class AdvisoriesWithin:
    """The newest advisory the report knew is at most so many days old.

    Texts give dates, not ages: a verdict made tomorrow from the same evidence must say the same.
    """

    def __init__(self, days: int) -> None:
        self._days = days

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        newest = _newest(evidence)
        if isinstance(newest, str):
            return Outcome([newest])
        if newest > evidence.now + CLOCK_SKEW:
            return Outcome([f"advisories: the newest is of {_text(newest)}, in the future"])
        if evidence.now - newest > timedelta(days=self._days):
            old = f"advisories: the newest is of {_text(newest)}, more than {self._days} days old"
            return Outcome([f"{old}; load newer ones (`advisories.source`) and scan again"])
        if evidence.now - newest > timedelta(days=DEFAULT_MAX_ADVISORY_AGE_DAYS):
            return Outcome(accepted=[f"advisories-age: the newest is of {_text(newest)}; up to {self._days} days pass"])
        return Outcome()


class AdvisoriesAccepted:
    """Older advisories that the policy accepts by name, up to an age."""

    def __init__(self, acceptance: AcceptedUnknown) -> None:
        self._acceptance = acceptance

    def check(self, evidence: Evidence) -> Outcome:
        """See Rule."""
        item = self._acceptance
        if item.expires is not None and evidence.now.astimezone(UTC).date() > item.expires:
            note = f"the acceptance of advisories-age expired on {item.expires} and was not applied"
            return Outcome([f"advisories: {note}"], notes=[note])
        outcome = AdvisoriesWithin(item.until_age_days).check(evidence)
        if outcome.passes:
            newest = evidence.report.report.advisories.newest if evidence.report else ""
            accepted = (
                f"advisories-age: the newest is of {newest}; up to {item.until_age_days} days pass: {item.reason}"
            )
            return Outcome(accepted=[accepted])
        return outcome


def rules_of(policy: Policy) -> AllOf:
    """The rules a policy stands for, in the order reasons are listed."""
    ages: list[Rule] = [AdvisoriesWithin(policy.max_advisory_age_days)]
    ages.extend(AdvisoriesAccepted(item) for item in policy.accepted_unknowns if item.kind == "advisories-age")
    vulnerabilities = AllOf([FindingsWithin(policy), AnyOf(ages)])
    required = VULNERABILITIES_TYPE in policy.require_attestations
    rules: list[Rule] = [
        HasPlatforms(policy.require_platforms),
        vulnerabilities if required else IfReported(vulnerabilities),
        WarningsDenied(policy.deny_warnings),
    ]
    if policy.require_signature:
        rules.append(SignatureRequired())
    rules.extend(AttestationRequired(item) for item in policy.require_attestations if item != VULNERABILITIES_TYPE)
    return AllOf(rules)


def _not_empty(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    found = tuple(rules)
    if not found:
        raise InputError("a policy without rules would pass everything", do="Give at least one rule")
    return found


def _platform(entry: Entry) -> str:
    return f"{entry.platform} (its config says {entry.configured})" if entry.disagrees else str(entry.platform)


def _newest(evidence: Evidence) -> datetime | str:
    """When the newest advisory was changed, or why that is not known."""
    if evidence.report is None:
        return "advisories: their age is unknown, there is no report"
    text = evidence.report.report.advisories.newest
    try:
        newest = datetime.fromisoformat(text)
    except ValueError:
        return f"advisories: the date of the newest is {text[:40]!r}, not a time"
    return newest if newest.tzinfo else newest.replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(TIME_FORMAT)
