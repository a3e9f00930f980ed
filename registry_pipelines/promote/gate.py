"""The gate: every rule that decides whether a release ships. Nothing here reads or writes anything: `evidence` and
`standing` say what the registry holds, `findings` (used by this module alone) holds a report against the limits.

Two questions, asked again before every act:

- :func:`may_promote`: may a channel tag be moved to this release?
- :func:`may_leave`: may it be copied out of its source registry?

Both rest on :func:`judged`, the verdict that `judge` signs. Its rules are asked in the order of :data:`RULES`, all of
them, so that every reason is known at once. Texts give dates, not ages: a verdict made tomorrow from the same evidence
must say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, PROVENANCE_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import OLDEST_BELIEVED, read_time
from registry_pipelines.promote.documents import (
    DEFAULT_MAX_ADVISORY_AGE,
    TIME_FORMAT,
    AcceptedUnknown,
    AdvisoriesUsed,
    EvidenceUsed,
    Policy,
    PublishedVerdict,
    Verdict,
)
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome, expired, held_against
from registry_pipelines.promote.standing import Standing
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.scan.report import Report
from registry_pipelines.settings import Duration

CLOCK_SKEW = timedelta(days=1)
"""Advisories and images may be this far in the future: feeds, builders and this machine keep different clocks."""

MAX_NOTES = 50
"""Pieces of unbelieved evidence that a verdict lists; whoever may push can attach any number."""

NAMES = {PROVENANCE_TYPE: "SLSA provenance", CYCLONEDX_TYPE: "CycloneDX SBOM"}
"""What people call the predicate types."""


def may_promote(verdict: Verdict, standing: Standing) -> Outcome:
    """May a channel tag name this release now? The reasons against are all that are known.

    verdict: what :func:`judged` says at this moment. (1) It is allow. (2) The latest verdict that a trusted key signed
    is the same: same policy digest, same evidence, same advisories. (3) The version tag is the release's own.
    """
    if not verdict.allow:
        return Outcome([*verdict.reasons, *_against_version_tag(standing)])
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    reasons = _signed_verdict(latest, verdict.policy, verdict.policy_digest)
    if latest is None:
        reasons += [f"verdict: not believed: {refusal}" for refusal in standing.verdicts.rejected[:10]]
    elif not reasons and not latest.verdict.same_judgement(verdict):
        reasons = ["verdict: the evidence changed since it was made"]
    return Outcome([*reasons, *_against_version_tag(standing)])


def may_leave(standing: Standing, reports: Iterable[Report], policy: Policy, *, channel: str, now: datetime) -> Outcome:
    """May a copy of this release leave its source registry? What the verdict accepted is in the answer.

    reports: every vulnerability report attached to it, signed or not. channel: the one its image is promoted to.
    (1) The latest verdict that a trusted key signed is allow, by the policy as it is now. (2) No report that is later
    than the judged one breaks that policy: a rescan counts before anybody judges again, and unsigned it can only deny.
    (3) A signed record of its image put the channel on it: the digest may be another image's,
    too. (4) The version tag is the release's own, since it goes along.
    Not asked again: the age of the advisories and the end of exceptions, which are the verdict's.
    """
    latest = standing.verdicts.latest(standing.release.image, policy.name)
    reasons = _signed_verdict(latest, policy.name, policy.digest)
    if latest is not None:
        reasons += _later_reports(reports, latest.verdict, policy, now)
    image = standing.release.image
    if channel not in {record.channel for record in standing.records if record.image == image}:
        reasons.append(f"promotion: no signed record puts {channel} on it")
    reasons += _against_version_tag(standing)
    return Outcome(list(dict.fromkeys(reasons)), list(latest.verdict.accepted) if latest else [])


def judged(evidence: Evidence, policy: Policy) -> Verdict:
    """What a policy makes of the evidence, with all it rests on: not signed yet. About a release that is itself not
    whole nothing else is asked."""
    outcome = Outcome([f"release: {evidence.problem}"] if evidence.problem else [])
    for rule in () if evidence.problem else RULES:
        outcome.add(rule(evidence, policy))
    rejected = [f"not believed: {refusal}" for refusal in evidence.rejected]
    if len(rejected) > MAX_NOTES:
        rejected[MAX_NOTES:] = [f"not believed: {len(rejected) - MAX_NOTES} more"]
    verdict = Verdict(
        allow=outcome.passes,
        image=evidence.image,
        release=evidence.release,
        policy=policy.name,
        policy_digest=policy.digest,
        reasons=_unique(outcome.reasons),
        accepted=_unique(outcome.accepted),
        notes=_unique([*outcome.notes, *rejected]),
        platforms={str(digest): str(platform) for digest, platform in evidence.platforms.items()},
        counts=outcome.counts,
        evidence=_evidence_used(policy, evidence),
        time=evidence.now.strftime(TIME_FORMAT),
    )
    if evidence.report is None:
        return verdict
    report = evidence.report.report
    facts = report.advisories
    return msgspec.structs.replace(
        verdict,
        advisories=AdvisoriesUsed(digest=str(facts.digest), newest=facts.newest, source=facts.source),
        report=str(Digest.of(report.encode())),
    )


def report_breaches(report: Report, policy: Policy, *, image: str, now: datetime) -> list[str]:
    """Why a report does not keep a policy's limits, after exceptions and accepted unknowns; empty: it does.

    Not judged here: the age of the advisories, which platforms are covered, who signed.
    """
    return held_against(report, policy, image=image, now=now).reasons


def has_platforms(evidence: Evidence, policy: Policy) -> Outcome:
    """The release holds at least one image, and every platform asked for: by its index's word and its config's."""
    there = ", ".join(_platform(entry) for entry in evidence.images)
    if not evidence.images:
        return Outcome(["platforms: the release holds no image that could be started"])
    return Outcome(
        [
            f"platforms: {wanted} is required, the release has {there}"
            for wanted in policy.platforms
            if not any(entry.serves(wanted) for entry in evidence.images)
        ]
    )


def made_within(evidence: Evidence, policy: Policy) -> Outcome:
    """Every image was made so long ago at most. By ``created`` of its config, which its digest covers: when something
    was pushed says nothing. What has no date has no age, so it does not pass."""
    limit = policy.max_image_age
    if limit is None:
        return Outcome()
    against = [(entry, _image_age(entry, evidence.now, limit)) for entry in evidence.images]
    return Outcome([f"image age: {_platform(entry)} ({entry.digest}) {reason}" for entry, reason in against if reason])


def findings_within(evidence: Evidence, policy: Policy) -> Outcome:
    """The vulnerability report is signed, the latest, about every platform, and keeps the limits. One that is not
    required is judged too where there is one; an unsigned one never passes, but its findings are named."""
    latest = evidence.report
    if latest is None:
        required = VULNERABILITIES_TYPE in policy.predicate_types
        return Outcome(["vulnerability report: there is none about this digest"] if required else [])
    outcome = held_against(latest.report, policy, image=evidence.image, now=evidence.now)
    if latest.attestation is None:
        outcome.reasons.append("vulnerability report: no trusted key signed it; scan where the scanner's key is")
    newer = latest.superseded_by
    if newer is not None:
        outcome.reasons.append(f"vulnerability report: a later one, of {newer.scanned_at}, is not signed")
        outcome.reasons.extend(report_breaches(newer, policy, image=evidence.image, now=evidence.now))
    for digest, platform in evidence.platforms.items():
        if digest not in latest.report.covers:
            outcome.reasons.append(f"vulnerability report: {platform} ({digest}) was not scanned")
    return outcome


def advisories_within(evidence: Evidence, policy: Policy) -> Outcome:
    """The newest advisory that the report knew is young enough, or as old as the policy accepts by name."""
    if evidence.report is None and VULNERABILITIES_TYPE not in policy.predicate_types:
        return Outcome()
    outcome = _age(evidence, policy.max_advisory_age)
    if outcome.passes:
        return outcome
    for acceptance in policy.accept_unknowns:
        if acceptance.kind == "advisories-age":
            accepted = _accepted_age(evidence, acceptance)
            if accepted.passes:
                return Outcome(accepted=accepted.accepted, notes=outcome.notes)
            outcome.add(accepted)
    return outcome


def warnings_denied(evidence: Evidence, policy: Policy) -> Outcome:
    """Of the warnings about the release, those that the policy names deny; the others are noted."""
    outcome = Outcome()
    for name, text in evidence.warnings.items():
        lines = outcome.reasons if name in policy.deny_warnings else outcome.notes
        lines.append(f"warning {name}: {text}")
    return outcome


def is_signed(evidence: Evidence, policy: Policy) -> Outcome:
    """The image is signed by a trusted key, as ``.sig`` or bundle."""
    missing = "signature" in policy.required and evidence.signature_problem
    return Outcome([f"signature: {evidence.signature_problem}"] if missing else [])


def is_attested(evidence: Evidence, policy: Policy) -> Outcome:
    """A trusted key signed a statement of each type about the release, covering every platform.

    The vulnerability report has rules of its own, :func:`findings_within` and :func:`advisories_within`.
    """
    outcome = Outcome()
    for kind in policy.predicate_types:
        name = NAMES.get(kind, kind)
        if kind == VULNERABILITIES_TYPE:
            continue
        if not evidence.attestations.of_type(kind):
            outcome.reasons.append(f"{name}: no attestation of type {kind} is signed by a trusted key")
            continue
        covered = evidence.covered(kind)
        outcome.reasons.extend(
            f"{name}: the signed evidence does not cover {platform} ({digest})"
            for digest, platform in evidence.platforms.items()
            if digest not in covered
        )
    return outcome


Rule = Callable[[Evidence, Policy], Outcome]
"""Every reason against, and everything accepted on the way. Never raises for bad evidence."""

RULES: tuple[Rule, ...] = (
    has_platforms,
    made_within,
    findings_within,
    advisories_within,
    warnings_denied,
    is_signed,
    is_attested,
)
"""All of them are asked of every release; the order is that of a verdict's reasons."""


def _signed_verdict(latest: PublishedVerdict | None, policy: str, policy_digest: Digest) -> list[str]:
    """What speaks against the latest signed verdict by the policy of this name."""
    if latest is None:
        return [f"verdict: none by policy {policy} is signed by a trusted key"]
    if not latest.verdict.allow:
        return ["verdict: the latest signed one is deny", *latest.verdict.reasons]
    if latest.verdict.policy_digest != policy_digest:
        return [f"verdict: made by policy {latest.verdict.policy_digest}, now it is {policy_digest}"]
    return []


def _against_version_tag(standing: Standing) -> list[str]:
    """The tag a release is known by must be its own, or, deleted since, one it was promoted as: records vouch for it,
    and copies take it along."""
    tag = standing.release.tag
    if standing.tagged == standing.release.digest:
        return []
    if standing.tagged:
        return [f"version: the tag {tag} names {standing.tagged} now; a version tag never moves"]
    if tag in {record.version for record in standing.records}:
        return []
    return [f"version: the tag {tag} does not exist, and it was never promoted as that"]


def _later_reports(reports: Iterable[Report], verdict: Verdict, policy: Policy, now: datetime) -> list[str]:
    """Every later report counts, so that nobody can hide one behind a newer one. When the judged report is gone, all
    of them are later."""
    known = list(reports)
    judged_at = max((report.scanned_at for report in known if Digest.of(report.encode()) == verdict.report), default="")
    return [
        f"vulnerability report of {report.scanned_at}, after the verdict: {breach}"
        for report in known
        if report.scanned_at > judged_at
        for breach in report_breaches(report, policy, image=verdict.image, now=now)
    ]


def _image_age(entry: Entry, now: datetime, limit: Duration) -> str:
    """What speaks against an image's date; empty: nothing."""
    text = entry.config.created if entry.config else ""
    made = read_time(text)
    if made is None:
        return (
            f"has no time in `created` of its config, but {text[:40]!r}" if text else "has no `created` in its config"
        )
    if made < OLDEST_BELIEVED:
        return (
            f"is dated {text[:40]}, which a reproducible build writes in place of a time, so its age is not known; "
            "build it with the time of its commit (SOURCE_DATE_EPOCH)"
        )
    if made > now + CLOCK_SKEW:
        return f"was made on {_time_text(made)}, in the future"
    return f"was made on {_time_text(made)}, more than {limit} ago; build it again" if now - made > limit else ""


def _age(evidence: Evidence, age: timedelta) -> Outcome:
    newest = _newest(evidence)
    if isinstance(newest, str):
        return Outcome([newest])
    if newest > evidence.now + CLOCK_SKEW:
        return Outcome([f"advisories: the newest is of {_time_text(newest)}, in the future"])
    if evidence.now - newest > age:
        old = f"advisories: the newest is of {_time_text(newest)}, more than {age.days} days old"
        return Outcome([f"{old}; load newer ones (`advisories.source`) and scan again"])
    if evidence.now - newest > DEFAULT_MAX_ADVISORY_AGE:
        return Outcome(accepted=[f"advisories-age: the newest is of {_time_text(newest)}; up to {age.days} days pass"])
    return Outcome()


def _accepted_age(evidence: Evidence, acceptance: AcceptedUnknown) -> Outcome:
    if acceptance.expires is not None and evidence.now.astimezone(UTC).date() > acceptance.expires:
        note = expired("the acceptance of advisories-age", acceptance.expires)
        return Outcome([f"advisories: {note}"], notes=[note])
    age = acceptance.until_age or timedelta()
    outcome = _age(evidence, age)
    if not outcome.passes:
        return outcome
    newest = evidence.report.report.advisories.newest if evidence.report else ""
    return Outcome(
        accepted=[f"advisories-age: the newest is of {newest}; up to {age.days} days pass: {acceptance.reason}"]
    )


def _newest(evidence: Evidence) -> datetime | str:
    """When the newest advisory was changed, or why that is not known."""
    if evidence.report is None:
        return "advisories: their age is unknown, there is no report"
    text = evidence.report.report.advisories.newest
    return read_time(text, zone=UTC) or f"advisories: the date of the newest is {text[:40]!r}, not a time"


def _evidence_used(policy: Policy, evidence: Evidence) -> tuple[EvidenceUsed, ...]:
    """What the verdict rests on. A bundle is preferred to the ``.sig`` tag: its manifest is the signature's own, while
    the tag's changes with every signature that anybody adds."""
    bundles = [signature for signature in evidence.signatures if signature.form == "bundle"]
    used = {(f"signature:{each.form}", each.descriptor.digest, each.key_id) for each in bundles or evidence.signatures}
    used |= {
        (attestation.predicate_type, attestation.descriptor.digest, attestation.key_id)
        for attestation in evidence.attestations.verified
        if attestation.predicate_type in policy.predicate_types
        or (evidence.report is not None and attestation is evidence.report.attestation)
    }
    return tuple(
        EvidenceUsed(predicate_type=kind, digest=digest, key_id=key_id) for kind, digest, key_id in sorted(used)
    )


def _platform(entry: Entry) -> str:
    return f"{entry.platform} (its config says {entry.configured})" if entry.disagrees else str(entry.platform)


def _time_text(moment: datetime) -> str:
    return moment.strftime(TIME_FORMAT)


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
