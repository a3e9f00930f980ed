"""The trust policy of an image: which attestors must vouch for it, all of some, one of others.

``attestors: build-system and vulnerability-scanner and (qa or security)`` in a policy. Each name is an attestor
(``evidence.attestors``) with keys of its own; it vouches for a release when it said all that it attests, about exactly
this digest, covering every platform, and nothing that breaks the policy. Whoever is named is believed alone for that:
a signature by anybody else neither helps nor hurts. Of two that must say the same thing each needs a key of its own: a
key that counts as both says it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import TYPE_CHECKING

from registry_pipelines.evidence.attestors import ATTESTED, WEIGHTS, Attestor
from registry_pipelines.evidence.model import Certified, VerifiedAttestation, key_name
from registry_pipelines.evidence.predicates import APPROVAL_TYPE, CYCLONEDX_TYPE, PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.attestors import AllOf, Expression, Named, read_expression
from registry_pipelines.promote.distinct import without_own_key
from registry_pipelines.promote.documents import Policy, Step
from registry_pipelines.promote.evidence import Evidence
from registry_pipelines.promote.findings import Outcome, findings_against, unknowns_against
from registry_pipelines.scan.report import Report

if TYPE_CHECKING:  # few policies ask
    from registry_pipelines.promote.weights import JudgedWeights

MAX_WAYS = 1_000
"""Choices of attestors that are tried where keys count as several of them; a policy of a dozen names has a few."""


def vouched_for(evidence: Evidence, policy: Policy) -> Outcome:
    """The attestors that the policy names vouch for the release."""
    if not policy.attestors:
        return Outcome()
    expression = read_expression(policy.attestors)
    outcome = _asked(expression, evidence, policy)
    return _by_own_keys(expression, evidence, policy) if outcome.passes else outcome


def used_by_attestors(evidence: Evidence) -> Iterator[VerifiedAttestation]:
    """Every statement by an attestor that the policy names, of what it attests. Of approvals those in its capacity,
    with withdrawals."""
    approvals = {
        each.digest
        for each in evidence.approvals.published
        if each.approval.capacity in evidence.attestors and each.approval.image == evidence.image
    }
    for attestation in evidence.attestations.verified:
        kind = attestation.predicate_type
        made = any(
            kind in each.predicate_types and each.made(attestation.key_id) for each in evidence.attestors.values()
        )
        if made and (kind != APPROVAL_TYPE or attestation.descriptor.digest in approvals):
            yield attestation


def _asked(expression: Expression, evidence: Evidence, policy: Policy) -> Outcome:
    if isinstance(expression, Named):
        return _against_attestor(expression.name, evidence, policy)
    outcomes = [_asked(part, evidence, policy) for part in expression.parts]
    if isinstance(expression, AllOf):
        whole = Outcome()
        for outcome in outcomes:
            whole.add(outcome)
        return whole
    if passing := next((outcome for outcome in outcomes if outcome.passes), None):
        return passing
    reasons = [f"{reason} (or {expression})" for outcome in outcomes for reason in outcome.reasons]
    return Outcome(reasons, list(outcomes[0].steps))


def _by_own_keys(expression: Expression, evidence: Evidence, policy: Policy) -> Outcome:
    """Whether in one of the ways to fulfil the expression every key counts once. Only of one that is fulfilled."""
    against: Outcome | None = None
    for names in islice(_ways(expression, evidence, policy), MAX_WAYS):
        found = _sharing(names, evidence)
        if found.passes:
            return found
        against = against or found
    return against or Outcome()


def _ways(expression: Expression, evidence: Evidence, policy: Policy) -> Iterator[frozenset[str]]:
    """Every choice of attestors that vouch for the release and together are enough."""
    if isinstance(expression, Named):
        if _against_attestor(expression.name, evidence, policy).passes:
            yield frozenset({expression.name})
    elif isinstance(expression, AllOf):
        for parts in product(*(tuple(islice(_ways(part, evidence, policy), MAX_WAYS)) for part in expression.parts)):
            yield frozenset[str]().union(*parts)
    else:
        for part in expression.parts:
            yield from _ways(part, evidence, policy)


def _sharing(names: frozenset[str], evidence: Evidence) -> Outcome:
    """What is against attestors that vouch together: one has no key of its own for what it and others say."""
    attestors = [evidence.attestors[name] for name in sorted(names)]
    for what in sorted({each for attestor in attestors for each in attestor.attests}):
        asked = [each for each in attestors if what in each.attests]
        for weights in evidence.weights if what == WEIGHTS else (None,):
            said = {each.name: _keys_of(what, each, evidence, weights) for each in asked}
            name = without_own_key(said)
            if name is not None:
                others = [other for other, keys in said.items() if other != name and said[name] & keys]
                keys = ", ".join(key_name(key) for key in sorted(said[name]))
                why = f"its {what} is by {keys}, which counts as {' and '.join(others)} already: one key counts once"
                return Outcome([f"attestor {name}: {why}"], [Step(kind="attest", about=(f"{name} {what}",))])
    return Outcome()


def _keys_of(what: str, attestor: Attestor, evidence: Evidence, weights: JudgedWeights | None = None) -> frozenset[str]:
    """The keys, identities and certificates by which an attestor said it; of weights, about this set."""
    if weights is not None:
        return frozenset(each.key_id for each in weights.signatures if attestor.made(each.key_id))
    if what == "approval":
        approvals = evidence.approvals.standing(attestor.name, image=evidence.image, now=evidence.now)
        return frozenset(each.key_id for each in approvals)
    if what == "signature":
        certified = evidence.certified.get(attestor.name, Certified())
        by_key = (each.key_id for each in evidence.signatures if attestor.made(each.key_id))
        return frozenset({*by_key, *(signer for _, signer in certified.signatures)})
    if what == "vulnerabilities":
        newest = _report_of(attestor, evidence)
        made = ((report, signed.key_id) for report, signed in evidence.reports if attestor.made(signed.key_id))
        return frozenset(key_id for report, key_id in made if report == newest)
    said = {each.key_id for kind in ATTESTED.get(what, (what,)) for each in evidence.attestations.of_type(kind)}
    if what == "provenance":
        said |= {each.key_id for origin in evidence.origins for each in origin.provenance}
    return frozenset(filter(attestor.made, said))


def _against_attestor(name: str, evidence: Evidence, policy: Policy) -> Outcome:
    attestor = evidence.attestors.get(name)
    if attestor is None:
        return Outcome([f"attestor {name}: nobody is known as that"], [Step(kind="attest", about=(name,))])
    outcome = Outcome()
    for what in attestor.attests:
        reasons = list(_missing(what, attestor, evidence))
        about = (f"{name} {what}",)
        steps = [Step(kind="attest", about=about)] if reasons else []
        outcome.add(Outcome([f"attestor {name}: {reason}" for reason in reasons], steps))
        if what == "vulnerabilities" and (report := _report_of(attestor, evidence)):
            for found in (
                findings_against(report, policy, image=evidence.image, now=evidence.now, vex=evidence.vex),
                unknowns_against(report, policy, now=evidence.now),
            ):
                outcome.add(Outcome([f"attestor {name}: {reason}" for reason in found.reasons], found.steps))
    return outcome


def _missing(what: str, attestor: Attestor, evidence: Evidence) -> Iterator[str]:
    """What an attestor did not say of all that it attests, one sentence each."""
    if what == "approval":
        if why := evidence.approvals.why_none(attestor.name, image=evidence.image, now=evidence.now):
            yield why
    elif what == "signature":
        certified = evidence.certified.get(attestor.name, Certified())
        if not certified.signatures and not any(attestor.made(each.key_id) for each in evidence.signatures):
            yield "no signature of the image is by its keys" + (
                f", and {certified.problem}" if certified.problem else ""
            )
    elif what == WEIGHTS:  # whether some must be there, and can be read, is the policy's `weights` to say
        for each in evidence.weights:
            if not any(attestor.made(signature.key_id) for signature in each.signatures):
                yield f"no signature of the weights {each.digest} is by its keys or certificates"
    elif what == "vulnerabilities":
        report = _report_of(attestor, evidence)
        if report is None:
            yield "no vulnerability report is by its keys"
            return
        for digest, platform in evidence.platforms.items():
            if digest not in report.covers:
                yield f"its vulnerability report does not cover {platform} ({digest})"
    else:
        [kind] = ATTESTED.get(what, (what,))
        said = [each for each in evidence.attestations.of_type(kind) if attestor.made(each.key_id)]
        covered = _covered(kind, said, attestor, evidence)
        if not covered:
            yield f"no {what} is by its keys"
            return
        for digest, platform in evidence.platforms.items():
            if digest not in covered:
                yield f"its {what} does not cover {platform} ({digest})"


def _covered(kind: str, said: list[VerifiedAttestation], attestor: Attestor, evidence: Evidence) -> set[Digest]:
    covered = {digest for each in said for digest in evidence.covered_by(each)}
    if kind == PROVENANCE_TYPE:
        for origin in evidence.origins:
            covered |= origin.proven_by(attestor.made)
    return covered if kind in (PROVENANCE_TYPE, CYCLONEDX_TYPE) or not said else set(evidence.platforms)


def _report_of(attestor: Attestor, evidence: Evidence) -> Report | None:
    """Its newest report, which must keep the limits; whose report counts elsewhere does not matter."""
    own = [report for report, signed in evidence.reports if attestor.made(signed.key_id)]
    return max(own, key=lambda each: each.order, default=None)
