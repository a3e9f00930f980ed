"""The rules of the verdict: what each holds against a release, by its evidence and the policy.

The gate asks all of them (:func:`~registry_pipelines.promote.gate.judged`); a new rule is a function here and a row of
:data:`RULES`. Nothing here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Callable

from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    PROVENANCE_TYPE,
    VULNERABILITIES_TYPE,
)
from registry_pipelines.promote.ages import accepted_age, advisory_age, image_age
from registry_pipelines.promote.documents import Policy, Step
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome, findings_against, unknowns_against
from registry_pipelines.promote.interventions import read_interventions
from registry_pipelines.promote.streaming import streams
from registry_pipelines.promote.trust import vouched_for
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.scan.report import Report

NAMES = {PROVENANCE_TYPE: "SLSA provenance", CYCLONEDX_TYPE: "CycloneDX SBOM"}
"""What people call the predicate types."""


def is_not_revoked(evidence: Evidence, policy: Policy) -> Outcome:
    """No trusted key revoked it."""
    revoked = read_interventions(evidence.attestations, evidence.release).revoked
    if revoked is None:
        return Outcome()
    return Outcome(
        [revoked.sentence()], [Step(kind="image", about=(f"what it was revoked for ({revoked.document.reason})",))]
    )


def has_platforms(evidence: Evidence, policy: Policy) -> Outcome:
    """The release holds at least one image, and every platform asked for: by its index's word and its config's."""
    there = ", ".join(_platform(entry) for entry in evidence.images)
    if not evidence.images:
        about = ("an image that could be started is missing",)
        return Outcome(
            ["platforms: the release holds no image that could be started"], [Step(kind="image", about=about)]
        )
    missing = [wanted for wanted in policy.platforms if not any(entry.serves(wanted) for entry in evidence.images)]
    return Outcome(
        [f"platforms: {wanted} is required, the release has {there}" for wanted in missing],
        [Step(kind="image", about=(f"{wanted} is missing",)) for wanted in missing],
    )


def made_within(evidence: Evidence, policy: Policy) -> Outcome:
    """Every image was made so long ago at most. By ``created`` of its config, which its digest covers: when something
    was pushed says nothing. What has no date has no age, so it does not pass."""
    limit = policy.max_image_age
    if limit is None:
        return Outcome()
    against = [(entry, image_age(entry, evidence.now, limit)) for entry in evidence.images]
    reasons = [f"image age: {_platform(entry)} ({entry.digest}) {reason}" for entry, reason in against if reason]
    return Outcome(reasons, [Step(kind="image", about=("made too long ago, or not dated",))] if reasons else [])


def findings_within(evidence: Evidence, policy: Policy) -> Outcome:
    """The findings of the vulnerability report keep the limits, and so do those of a later one that is not signed: one
    that is not required is judged too where there is one."""
    return _of_reports(
        evidence,
        lambda report: findings_against(report, policy, image=evidence.image, now=evidence.now, vex=evidence.vex),
    )


def unknowns_within(evidence: Evidence, policy: Policy) -> Outcome:
    """What the same reports could not judge is accepted, or permitted."""
    return _of_reports(evidence, lambda report: unknowns_against(report, policy, now=evidence.now))


def is_scanned(evidence: Evidence, policy: Policy) -> Outcome:
    """The vulnerability report is signed, the latest, and about every platform."""
    latest = evidence.report
    if latest is None:
        required = VULNERABILITIES_TYPE in policy.predicate_types
        reasons = ["vulnerability report: there is none about this digest"] if required else []
        return Outcome(reasons, [Step(kind="scan")] if required else [])
    reasons = []
    if latest.attestation is None:
        reasons.append("vulnerability report: no trusted key signed it; scan where the scanner's key is")
    if latest.superseded_by is not None:
        reasons.append(f"vulnerability report: a later one, of {latest.superseded_by.scanned_at}, is not signed")
    reasons += [
        f"vulnerability report: {platform} ({digest}) was not scanned"
        for digest, platform in evidence.platforms.items()
        if digest not in latest.report.covers
    ]
    return Outcome(reasons, [Step(kind="scan")] if reasons else [])


def advisories_within(evidence: Evidence, policy: Policy) -> Outcome:
    """The newest advisory that the report knew is young enough, or as old as the policy accepts by name."""
    if evidence.report is None and VULNERABILITIES_TYPE not in policy.predicate_types:
        return Outcome()
    outcome = advisory_age(evidence, policy.max_advisory_age)
    if outcome.passes:
        return outcome
    for acceptance in policy.accept_unknowns:
        if acceptance.kind == "advisories-age":
            accepted = accepted_age(evidence, acceptance)
            if accepted.passes:
                return Outcome(accepted=accepted.accepted, notes=outcome.notes)
            outcome.add(accepted)
    return outcome


def warnings_denied(evidence: Evidence, policy: Policy) -> Outcome:
    """Of the warnings about the release, those that the policy names deny; the others are noted."""
    outcome = Outcome()
    for name, text in sorted(evidence.warnings.items()):
        denied = name in policy.deny_warnings
        (outcome.reasons if denied else outcome.notes).append(f"warning {name}: {text}")
        outcome.steps += [Step(kind="image", about=(f"warning {name}",))] if denied else []
    return outcome


def is_signed(evidence: Evidence, policy: Policy) -> Outcome:
    """The image is signed by a trusted key, as ``.sig`` or bundle, and by a certificate where the policy wants it."""
    notation = evidence.notation.problem if evidence.notation else ""
    problems = {"signature": evidence.signature_problem, "notation": notation}
    reasons = [f"{name}: {problem}" for name, problem in problems.items() if name in policy.required and problem]
    return Outcome(reasons, [Step(kind="sign")] if reasons else [])


def is_attested(evidence: Evidence, policy: Policy) -> Outcome:
    """A trusted key signed a statement of each type about the release, covering every platform.

    The vulnerability report has rules of its own, :func:`findings_within` and :func:`advisories_within`.
    """
    outcome = Outcome()
    for kind in policy.predicate_types:
        name = NAMES.get(kind, kind)
        if kind == VULNERABILITIES_TYPE:
            continue
        if kind == PROVENANCE_TYPE and evidence.origins:
            outcome.add(_proven_by_origins(evidence))
            continue
        if not evidence.attestations.of_type(kind):
            outcome.add(
                Outcome([f"{name}: no attestation of type {kind} is signed by a trusted key"], _attesting(kind))
            )
            continue
        covered = evidence.covered(kind)
        missing = [
            f"{name}: the signed evidence does not cover {platform} ({digest})"
            for digest, platform in evidence.platforms.items()
            if digest not in covered
        ]
        outcome.add(Outcome(missing, _attesting(kind) if missing else []))
    return outcome


def _proven_by_origins(evidence: Evidence) -> Outcome:
    """The provenance of a release that was converted: its own where it has some, and that of its origins through their
    derivation records, together about every platform. Without that the reason is where the record leads nowhere."""
    name, covered = NAMES[PROVENANCE_TYPE], evidence.covered(PROVENANCE_TYPE)
    missing = [
        f"{name}: nothing signed covers {platform} ({digest})"
        for digest, platform in evidence.platforms.items()
        if digest not in covered
    ]
    notes = [
        f"{name}: that of {origin.record.origin}, which it was made of ({origin.made_by}) by a record that "
        f"{origin.attestation.key_id[:19]} signed as indexer"
        for origin in evidence.origins
        if origin.covers
    ]
    if not missing:
        return Outcome(notes=notes)
    against = [f"{name}: {problem}" for origin in evidence.origins for problem in origin.problems]
    return Outcome([*missing, *against], [Step(kind="provenance")], notes=notes)


def is_indexed(evidence: Evidence, policy: Policy) -> Outcome:
    """Every image starts before it is fetched whole, by what a trusted indexer signed."""
    outcome = Outcome()
    for entry in evidence.images if "streaming-index" in policy.required else ():
        outcome.add(streams(entry, evidence.indexes.get(entry.digest, ()), evidence.origins))
    return outcome


def stands_on_base(evidence: Evidence, policy: Policy) -> Outcome:
    """Every image stands on an approved base, by its layers."""
    if "approved-base" not in policy.required:
        return Outcome()
    from registry_pipelines.promote.base_evidence import stands_on_approved  # few policies ask

    return stands_on_approved(evidence.images, evidence.standing_on, policy, evidence.now)


def keeps_advice(evidence: Evidence, policy: Policy) -> Outcome:
    """What signed advice says of the inside of each image keeps the policy's limits."""
    if not policy.image_advice.asks:
        return Outcome()
    from registry_pipelines.promote.advice import advice_within  # few policies ask

    return advice_within(evidence, policy.image_advice)


def weights(evidence: Evidence, policy: Policy) -> Outcome:
    """The weights that are attached are signed, and of forms that the policy takes."""
    if not policy.weights.asks:
        return Outcome()
    from registry_pipelines.promote.weights import weights_within  # few policies ask

    return weights_within(evidence.weights, policy.weights)


def links(evidence: Evidence, policy: Policy) -> Outcome:
    """What the images need is in them, as far as signed provenance says."""
    if policy.links is None:
        return Outcome()
    from registry_pipelines.promote.links import links_within  # few policies ask

    return links_within(evidence, policy.links)


def keeps_files(evidence: Evidence, policy: Policy) -> Outcome:
    """Every image that was rechunked has the files of what it was made of."""
    if "same-tree" not in policy.required:
        return Outcome()
    from registry_pipelines.promote.same_tree import has_same_tree  # few policies ask

    return has_same_tree(evidence.images, evidence.regrouped)


Rule = Callable[[Evidence, Policy], Outcome]
"""Every reason against, and everything accepted on the way. Never raises for bad evidence."""

RULES: tuple[Rule, ...] = (
    is_not_revoked,
    findings_within,
    has_platforms,
    made_within,
    warnings_denied,
    keeps_advice,
    links,
    weights,
    is_scanned,
    advisories_within,
    is_signed,
    is_attested,
    is_indexed,
    stands_on_base,
    keeps_files,
    vouched_for,
    unknowns_within,
)
"""All of them are asked of every release. The order is that of a verdict's reasons, by weight: what is found in the
image, what else is wrong with it, which evidence is missing, and last what nobody could tell."""


def _of_reports(evidence: Evidence, rule: Callable[[Report], Outcome]) -> Outcome:
    """What a rule says of the report that counts. A later one that is not signed adds its reasons, and nothing else:
    nobody vouches for what it accepts."""
    if evidence.report is None:
        return Outcome()
    outcome = rule(evidence.report.report)
    if evidence.report.superseded_by is not None:
        newer = rule(evidence.report.superseded_by)
        outcome.add(Outcome(newer.reasons, newer.steps))
    return outcome


def _attesting(kind: str) -> list[Step]:
    """What a missing attestation wants: an SBOM is listed again before it is signed, provenance may not be there at
    all, and others are made elsewhere, so that only the verdict is left."""
    first: dict[str, list[Step]] = {
        CYCLONEDX_TYPE: [Step(kind="scan"), Step(kind="sign")],
        PROVENANCE_TYPE: [Step(kind="provenance")],
    }
    return first.get(kind, [Step(kind="judge")])


def _platform(entry: Entry) -> str:
    return f"{entry.platform} (its config says {entry.configured})" if entry.disagrees else str(entry.platform)
