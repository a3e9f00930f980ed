"""The gate: every rule that decides whether a release ships. Nothing here reads or writes anything: `evidence` and
`standing` say what the registry holds; `findings`, `ages`, `streaming` and `starts` hold it against the limits.

Three questions, asked again before every act:

- :func:`may_run`: may it be run here, so that its start is recorded?
- :func:`may_promote`: may a channel tag be moved to this release?
- :func:`may_leave`: may it be copied out of its source registry?

All rest on :func:`judged`, the verdict that `judge` signs. Its rules are asked in the order of :data:`RULES`, all of
them, so that every reason is known at once. Texts give dates, not ages: a verdict made tomorrow from the same evidence
must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from registry_pipelines.evidence.model import key_name
from registry_pipelines.evidence.predicates import (
    IMAGE_ADVICE_TYPE,
    OPENVEX_TYPES,
    PROVENANCE_TYPE,
    SIGNATURE_TYPE,
    STREAMING_INDEX_TYPE,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import (
    SIGNATURE_FORM,
    TIME_FORMAT,
    AdvisoriesUsed,
    EvidenceUsed,
    Policy,
    PublishedVerdict,
    Step,
    Verdict,
    in_order,
)
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome, findings_against, unknowns_against
from registry_pipelines.promote.interventions import BrokenGlass
from registry_pipelines.promote.rules import RULES
from registry_pipelines.promote.standing import Standing
from registry_pipelines.promote.starts import Starts, starts_within
from registry_pipelines.promote.streaming import way_of
from registry_pipelines.promote.trust import used_by_attestors
from registry_pipelines.promote.vex import states_something
from registry_pipelines.promote.ways import Way, enters, returns
from registry_pipelines.scan.openvex import VexStatement
from registry_pipelines.scan.report import Report

MAX_NOTES = 50
"""Pieces of unbelieved evidence that a verdict lists; whoever may push can attach any number."""

NOT_WHOLE = "release: "
"""How the reason begins of a release that is itself not whole."""

EXCUSED = "excused: "
"""How a reason begins that a break-glass excuses."""


def may_run(standing: Standing, reports: Iterable[Report], policy: Policy, *, now: datetime) -> Outcome:
    """May a release be run where releases are made? Points (1), (2) and (4) of :func:`may_leave`: it needs no
    promotion, which may be waiting for what the run is for."""
    outcome = _allowed(standing, reports, policy, now)
    outcome.reasons += _against_release(standing)
    outcome.reasons = list(dict.fromkeys(outcome.reasons))
    return outcome


def may_promote(
    verdict: Verdict, standing: Standing, policy: Policy, starts: Starts, way: Way | None = None
) -> Outcome:
    """May a channel tag name this release now? The reasons against are all that are known.

    verdict: what :func:`judged` says at this moment. starts: of its platforms, where the policy asks. way: how it comes
    to the channel; None for a channel that stands alone. (1) The verdict is allow. (2) The latest one that a trusted
    key signed is the same: same policy digest, same evidence, same advisories. (3) The version tag is the release's
    own, and nobody revoked it. Only of one that passes all that is asked: (4) It comes from the channel before. (5) It
    starts as the policy says, was there long enough, and is approved; else it is ``held`` where that is still to come.
    """
    against = _against_release(standing)
    if not verdict.allow:
        return Outcome(list(dict.fromkeys([*_revoked(standing), *verdict.reasons, *against])), list(verdict.steps))
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    outcome = _signed_verdict(latest, verdict.policy, verdict.policy_digest)
    if latest is None:
        outcome.reasons += [f"verdict: not believed: {refusal}" for refusal in standing.verdicts.rejected[:10]]
    elif outcome.passes and not latest.verdict.same_judgement(verdict):
        outcome = Outcome([_changed_since(latest.verdict, verdict)], [Step(kind="judge")])
    outcome.reasons = list(dict.fromkeys([*outcome.reasons, *against]))
    if outcome.reasons:
        return outcome
    return may_enter(standing, policy, starts, way, platforms=verdict.platforms)


def may_enter(
    standing: Standing, policy: Policy, starts: Starts, way: Way | None, *, platforms: Mapping[str, str]
) -> Outcome:
    """Points (4) and (5) of :func:`may_promote`, of a release that passes the others. platforms: manifest to name."""
    outcome = Outcome()
    entered = enters(standing, way) if way else Outcome()
    sides = [each for each in (entered, starts_within(platforms, starts, policy)) if each.reasons]
    for side in [each for each in sides if not each.held] or sides:
        outcome.add(side)
        outcome.held = outcome.held or side.held
    return outcome


def excused(outcome: Outcome, verdict: Verdict, standing: Standing, *, channel: str, now: datetime) -> Outcome:
    """The answer of :func:`may_promote` where a break-glass holds for this channel now: it passes, and what was against
    it stands under ``accepted``. The verdict must be signed as it is now, so that what was known is on record.

    Nothing excuses a revocation, a version tag that names something else, or a release that is not whole. One that
    has expired is named among the reasons.
    """
    if outcome.passes:
        return outcome
    glass = standing.interventions.excuse(channel, standing.release.image, now)
    if glass is None:
        outcome.reasons += _expired(standing, channel, now)
        return outcome
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    if latest is None or not latest.verdict.same_judgement(verdict):
        why = f"verdict: the signed one of policy {verdict.policy} is not what is known now; a break-glass needs it"
        return Outcome([*outcome.reasons, why], [Step(kind="judge")])
    return _excused(outcome, glass, [*_against_release(standing), *_not_whole(verdict)])


def may_leave(standing: Standing, reports: Iterable[Report], policy: Policy, *, channel: str, now: datetime) -> Outcome:
    """May a copy of this release leave its source registry? What the verdict accepted is in the answer.

    reports: every vulnerability report attached to it, signed or not. channel: the one its image is promoted to.
    (1) The latest verdict that a trusted key signed is allow, by the policy as it is now, and rests on no evidence of a
    key that was revoked, has ended, or is believed for that no more, and on the
    weights that are attached now. (2) No report that is later
    than the judged one breaks that policy: a rescan counts before anybody judges again, and unsigned it can only deny.
    (3) A signed record of its image put the channel on it: the digest may be another image's,
    too. (4) The version tag is the release's own, since it goes along, and nobody revoked it. While a break-glass
    holds, (1) and (2) are excused; when it is over they are asked again, and a record that only it made counts no more.
    Not asked again: the age of the advisories and the end of exceptions, which are the verdict's.
    """
    outcome = _allowed(standing, reports, policy, now)
    hard = _against_release(standing)
    outcome.of_version = _against_version_tag(standing)
    if not standing.promotions(channel):
        outcome.of_promotion = [f"promotion: no signed record puts {channel} on it"]
        hard = [*outcome.of_promotion, *hard]
        outcome.steps.append(Step(kind="promote"))
    outcome.reasons = list(dict.fromkeys([*_revoked(standing), *outcome.reasons, *hard]))
    glass = standing.interventions.excuse(channel, standing.release.image, now)
    if glass and not (outcome.passes and returns(standing, channel)):  # of a wait that it excused nothing is left here
        return _excused(outcome, glass, hard)
    if not glass and standing.promotions(channel) and not returns(standing, channel):
        outcome.of_promotion.append(f"promotion: only a break-glass put {channel} on it, and that holds no longer")
        outcome.reasons += outcome.of_promotion
        outcome.steps.append(Step(kind="promote"))
    outcome.reasons += [] if outcome.passes else _expired(standing, channel, now)
    return outcome


def judged(evidence: Evidence, policy: Policy) -> Verdict:
    """What a policy makes of the evidence, with all it rests on: not signed yet. About a release that is itself not
    whole nothing else is asked."""
    outcome = Outcome()
    if evidence.problem:
        outcome = Outcome([f"{NOT_WHOLE}{evidence.problem}"], [Step(kind="image", about=("it is not whole",))])
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
        steps=in_order(outcome.steps),
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


def against_limits(
    report: Report, policy: Policy, *, image: str, now: datetime, vex: Sequence[VexStatement] = ()
) -> Outcome:
    """What speaks against a report by a policy's limits, after exceptions, VEX and accepted unknowns. vex: as in
    :func:`~registry_pipelines.promote.findings.findings_against`.

    Not judged here: the age of the advisories, which platforms are covered, who signed.
    """
    outcome = findings_against(report, policy, image=image, now=now, vex=vex)
    outcome.add(unknowns_against(report, policy, now=now))
    return outcome


def report_breaches(
    report: Report, policy: Policy, *, image: str, now: datetime, vex: Sequence[VexStatement] = ()
) -> list[str]:
    """The reasons of :func:`against_limits`; empty: it keeps them."""
    return against_limits(report, policy, image=image, now=now, vex=vex).reasons


def _signed_verdict(latest: PublishedVerdict | None, policy: str, policy_digest: Digest) -> Outcome:
    """What speaks against the latest signed verdict by the policy of this name."""
    judge = [Step(kind="judge")]
    if latest is None:
        return Outcome([f"verdict: none by policy {policy} is signed by a trusted key"], judge)
    if not latest.verdict.allow:
        reasons = ["verdict: the latest signed one is deny", *latest.verdict.reasons]
        return Outcome(reasons, list(latest.verdict.steps) or judge)
    if latest.verdict.policy_digest != policy_digest:
        made, now = latest.verdict.policy_digest.short, policy_digest.short
        return Outcome([f"verdict: policy {policy} was changed since it was made (from {made} to {now})"], judge)
    return Outcome()


def _allowed(standing: Standing, reports: Iterable[Report], policy: Policy, now: datetime) -> Outcome:
    """What speaks against the latest signed verdict, and what later reports say."""
    latest = standing.verdicts.latest(standing.release.image, policy.name)
    outcome = _signed_verdict(latest, policy.name, policy.digest)
    if latest is not None:
        outcome.add(_later_reports(reports, latest.verdict, policy, now, standing.vex))
        outcome.add(_ended_keys(latest.verdict, standing))
        if standing.weights is not None:
            from registry_pipelines.promote.weights import attached_since

            outcome.add(attached_since(latest.verdict.evidence, standing.weights))
        outcome.accepted = list(latest.verdict.accepted)
    return outcome


def _ended_keys(verdict: Verdict, standing: Standing) -> Outcome:
    """A verdict is worth no more than what it rests on: a key that was revoked since takes its evidence away."""
    reasons = [
        f"key: the verdict rests on {used.predicate_type}, signed by {key_name(used.key_id)}, which {why}"
        for used in verdict.evidence
        if (why := standing.ended.get((used.predicate_type, used.key_id)))
    ]
    return Outcome(list(dict.fromkeys(reasons)), [Step(kind="judge")] if reasons else [])


def _excused(outcome: Outcome, glass: BrokenGlass, hard: Sequence[str]) -> Outcome:
    """The same without what a break-glass excuses. hard: what none does."""
    if any(reason in hard for reason in outcome.reasons):
        return outcome
    return Outcome(accepted=[glass.sentence(), *(f"{EXCUSED}{reason}" for reason in outcome.reasons)])


def _expired(standing: Standing, channel: str, now: datetime) -> list[str]:
    """Break-glasses for a channel that excuse nothing any more."""
    own = (channel, standing.release.image)
    glasses = [each for each in standing.interventions.glasses if (each.document.channel, each.document.image) == own]
    return [f"{each.sentence()}: it has expired" for each in glasses if not each.closed and each.expired(now)]


def _not_whole(verdict: Verdict) -> list[str]:
    return [reason for reason in verdict.reasons if reason.startswith(NOT_WHOLE)]


def _changed_since(signed: Verdict, now: Verdict) -> str:
    """What makes an allowing verdict another one than the signed one."""
    if signed.same_judgement(msgspec.structs.replace(now, accepted=signed.accepted)):
        return "verdict: the policy accepts more, or words it otherwise, since it was made"
    return "verdict: the evidence changed since it was made"


def _against_release(standing: Standing) -> list[str]:
    """What speaks against the release whatever its verdict says, and what no break-glass excuses."""
    return [*_revoked(standing), *_against_version_tag(standing)]


def _revoked(standing: Standing) -> list[str]:
    revoked = standing.interventions.revoked
    return [revoked.sentence()] if revoked else []


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


def _later_reports(
    reports: Iterable[Report], verdict: Verdict, policy: Policy, now: datetime, vex: Sequence[VexStatement]
) -> Outcome:
    """Every later report counts, so that nobody can hide one behind a newer one. When the judged report is gone, all
    of them are later."""
    known = list(reports)
    judged_at = max((report.scanned_at for report in known if Digest.of(report.encode()) == verdict.report), default="")
    outcome = Outcome()
    for report in sorted((each for each in known if each.scanned_at > judged_at), key=lambda report: report.order):
        against = against_limits(report, policy, image=verdict.image, now=now, vex=vex)
        of = f"vulnerability report of {report.scanned_at}, after the verdict"
        outcome.add(Outcome([f"{of}: {reason}" for reason in against.reasons], against.steps))
    return outcome


def _evidence_used(policy: Policy, evidence: Evidence) -> tuple[EvidenceUsed, ...]:
    """What the verdict rests on. A bundle is preferred to the ``.sig`` tag: its manifest is the signature's own, while
    the tag's changes with every signature that anybody adds."""
    bundles = [signature for signature in evidence.signatures if signature.form == "bundle"]
    used = {
        (f"{SIGNATURE_FORM}{each.form}", each.descriptor.digest, each.key_id) for each in bundles or evidence.signatures
    }
    used |= {
        (f"{SIGNATURE_FORM}notation", digest, signer)
        for certified in (*evidence.certified.values(), *filter(None, [evidence.notation]))
        for digest, signer in certified.signatures
    }
    used |= {
        (attestation.predicate_type, attestation.descriptor.digest, attestation.key_id)
        for attestation in used_by_attestors(evidence)
        if attestation.predicate_type != SIGNATURE_TYPE and not evidence.repeats(attestation)
    }
    used |= {
        (attestation.predicate_type, attestation.descriptor.digest, attestation.key_id)
        for attestation in evidence.attestations.verified
        if (attestation.predicate_type in policy.predicate_types and not evidence.repeats(attestation))
        or (evidence.report is not None and attestation is evidence.report.attestation)
        or (attestation.predicate_type == IMAGE_ADVICE_TYPE and policy.image_advice.asks)
        or (attestation.predicate_type == PROVENANCE_TYPE and policy.links is not None)
    }
    used |= {
        (attestation.predicate_type, attestation.descriptor.digest, attestation.key_id)
        for attestation in evidence.attestations.verified
        if attestation.predicate_type in OPENVEX_TYPES and states_something(attestation, evidence.release)
    }
    by_provenance = policy.links is not None or "approved-base" in policy.required
    if PROVENANCE_TYPE in policy.predicate_types or evidence.attestors or by_provenance:
        used |= {
            (attestation.predicate_type, attestation.descriptor.digest, attestation.key_id)
            for origin in evidence.origins
            for attestation in (origin.attestation, *origin.also, *origin.provenance)
        }
    used |= {
        (each.record.predicate_type, each.record.descriptor.digest, each.record.key_id)
        for each in evidence.regrouped.values()
        if each.record
    }
    if evidence.weights:
        from registry_pipelines.promote.weights import weights_used

        used |= weights_used(evidence.weights)
    for entry in evidence.images if "streaming-index" in policy.required else ():
        way = way_of(entry, evidence.indexes.get(entry.digest, ()), evidence.origins)
        if way.index:
            used.add((STREAMING_INDEX_TYPE, way.index.signed.statement, way.index.signed.key_id))
        if way.converted:
            used.add((way.converted.predicate_type, way.converted.descriptor.digest, way.converted.key_id))
    return tuple(
        EvidenceUsed(predicate_type=kind, digest=digest, key_id=key_id) for kind, digest, key_id in sorted(used)
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
