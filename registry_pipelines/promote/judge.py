"""Decide about one digest, from what the registry holds about it now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from registry_pipelines.errors import ContentError
from registry_pipelines.evidence.model import Attestations, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.promote.evidence import Evidence, gather
from registry_pipelines.promote.findings import judge_findings
from registry_pipelines.promote.interface import TIME_FORMAT, AdvisoriesUsed, EvidenceUsed, Policy, Verdict
from registry_pipelines.promote.policy import Outcome, rules_of
from registry_pipelines.registry.interface import Place

MAX_NOTES = 50
"""Pieces of unbelieved evidence that a verdict lists; whoever may push can attach any number."""


def judge(
    place: Place,
    release: Descriptor,
    policy: Policy,
    verifier: Verifier,
    *,
    image: str,
    now: datetime | None = None,
    known: Attestations | None = None,
) -> Verdict:
    """Read the evidence about exactly ``release`` from the registry and apply the policy.

    Steps: (1) the release's manifests must be there and whole; (2) signature, attestations and reports are read and
    verified; (3) every rule of the policy is asked, so that all reasons are known; (4) the verdict names what it rests
    on.
    image: the configuration's name, for exceptions. now: UTC, the clock unless told. known: what was read and verified
    about this digest just now, when the caller has it.
    Missing or bad evidence is a deny with reasons. Raises NotFound (no such release), RegistryError (the registry does
    not answer: no verdict is made).
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    top = place.registry.get_manifest(place.repository, release.digest)
    try:
        evidence = gather(place, top, verifier, image=image, now=moment, known=known)
    except ContentError as error:
        return _verdict(policy, image, release, moment, Outcome([f"release: {error.what}"]), None)
    return _verdict(policy, image, release, moment, rules_of(policy).check(evidence), evidence)


def _verdict(
    policy: Policy, image: str, release: Descriptor, now: datetime, outcome: Outcome, evidence: Evidence | None
) -> Verdict:
    verdict = Verdict(
        allow=outcome.passes,
        image=image,
        release=release.digest,
        policy=policy.name,
        policy_digest=policy.digest,
        reasons=_unique(outcome.reasons),
        accepted=_unique(outcome.accepted),
        notes=_unique(outcome.notes),
        time=now.strftime(TIME_FORMAT),
    )
    return verdict if evidence is None else _with_evidence(verdict, policy, evidence)


def _with_evidence(verdict: Verdict, policy: Policy, evidence: Evidence) -> Verdict:
    rejected = [f"not believed: {item}" for item in evidence.rejected]
    if len(rejected) > MAX_NOTES:
        rejected[MAX_NOTES:] = [f"not believed: {len(rejected) - MAX_NOTES} more"]
    found = msgspec.structs.replace(
        verdict,
        notes=_unique([*verdict.notes, *rejected]),
        platforms={str(digest): str(platform) for digest, platform in evidence.platforms.items()},
        evidence=_used(policy, evidence),
    )
    if evidence.report is None:
        return found
    report = evidence.report.report
    facts = report.advisories
    return msgspec.structs.replace(
        found,
        advisories=AdvisoriesUsed(digest=str(facts.digest), newest=facts.newest, source=facts.source),
        report=str(Digest.of(report.encode())),
        counts=judge_findings(report, policy, image=evidence.image, now=evidence.now).counts,
    )


def _used(policy: Policy, evidence: Evidence) -> tuple[EvidenceUsed, ...]:
    """What the verdict rests on. A bundle is preferred to the ``.sig`` tag: its manifest is the signature's own, while
    the tag's changes with every signature that anybody adds."""
    bundles = [item for item in evidence.signatures if item.form == "bundle"]
    used = {(f"signature:{item.form}", item.descriptor.digest, item.key_id) for item in bundles or evidence.signatures}
    used |= {
        (item.predicate_type, item.descriptor.digest, item.key_id)
        for item in evidence.attestations.verified
        if item.predicate_type in policy.require_attestations
    }
    return tuple(
        EvidenceUsed(predicate_type=kind, digest=digest, key_id=key_id) for kind, digest, key_id in sorted(used)
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
