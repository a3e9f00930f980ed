"""Sign a release, and verify what is signed."""

from __future__ import annotations

import time

import msgspec

from registry_pipelines.chain.attesting import verify_attestations
from registry_pipelines.chain.next_steps import next_steps
from registry_pipelines.chain.origins import origins_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.scan import against_policy, current_report
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import AdvisoriesError, EvidenceMissing
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.evidence.predicates import ROLES
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import Policy, in_order
from registry_pipelines.promote.evidence import gather
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.trust import vouched_for
from registry_pipelines.release import Release
from registry_pipelines.scan.report import Report
from registry_pipelines.sign.cosign import verify_image
from registry_pipelines.sign.release import sign_provenance, sign_release


def sign(session: Session, release: Release) -> StageResult:
    """Sign a release, and attest what its builder and scanner did not sign themselves; nothing is written twice. Of a
    release that was derived the provenance is that of what it was made of.

    The newest vulnerability report is attested only when it passes the policy **and** is signed by a trusted scanner or
    what the advisories here say about the attached SBOMs: whoever may push could attach one that finds nothing.
    """
    from registry_pipelines.chain.notation import signing_by_certificate  # what only looks loads less

    started = time.monotonic()
    place, person = session.source(release), session.keys.signer("person")
    by_certificate = signing_by_certificate(session)
    trusted = session.verifier().under(session.policy(release).attestor_names)
    adopts = [role for role in ROLES if session.config.signing.of(role) is None]
    signed = sign_release(
        place,
        session.subject(release),
        {**session.keys.signers(), "person": person},
        trusted,
        identity=f"{place}:{release.tag}",
        consumers=[f"{consumer}:{release.tag}" for consumer in session.consumers(release)],
        adopts=adopts,
        report_passes=lambda report, signed: _against_attesting(session, release, report, signed=signed),
    )
    attestations, problems = list(signed.attestations), list(signed.problems)
    for origin in origins_of(session, release):
        made, missing = sign_provenance(place, origin, session.keys.signers(), trusted, adopts=adopts)
        attestations += made
        problems += [f"of the origin {origin.digest.short}: {each}" for each in missing]
    rows: list[dict[str, Scalar]] = [
        {"kind": "signature (.sig)", "digest": signed.image.sig.digest, "new": signed.image.changed},
        {"kind": "signature (bundle)", "digest": signed.image.bundle.digest, "new": signed.image.changed},
    ]
    rows += by_certificate(place, session.subject(release))
    rows += [
        {"kind": each.predicate_type, "digest": each.descriptor.digest, "new": each.changed} for each in attestations
    ]
    new = sum(bool(row["new"]) for row in rows)
    return StageResult(
        stage="sign",
        subject=release.key,
        action=f"{count_text(new, 'signature or attestation', 'signatures and attestations')} written"
        if new
        else "unchanged",
        digest=signed.image.sig.digest,
        changed=bool(new),
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "key_id": person.key_id,
            "attestations": len(attestations),
            "withheld": len(signed.withheld),
            "problems": len(problems),
        },
        rows=rows,
        reasons=[
            *(f"vulnerability attestation withheld: {reason}" for reason in signed.withheld),
            *problems,
        ],
    )


def _against_attesting(session: Session, release: Release, report: Report, *, signed: bool) -> list[str]:
    """Why a report is not attested: the policy's reasons, about it or, unless the scanner signed it, about what we find
    ourselves."""
    breaches = against_policy(session, release, report).reasons
    if breaches or signed:
        return breaches
    try:
        ours = current_report(session, session.source(release), release)
    except (EvidenceMissing, AdvisoriesError) as error:
        return [f"the vulnerability report cannot be checked: {error.what}"]
    if msgspec.structs.replace(ours, scanned_at=report.scanned_at) == report:
        return []
    stale = "the newest attached vulnerability report is not what these advisories say; scan the release again"
    return [stale, *against_policy(session, release, ours).reasons]


def verify(session: Session, release: Release) -> StageResult:
    """Check that a trusted key signed exactly this digest, and list the attestations that are believed; ``ok`` when the
    attestors vouch for it that its policy names. Where the configuration has a Notation trust policy, it must believe a
    signature, too.

    Raises EvidenceMissing, SignatureInvalid: fail closed.
    """
    from registry_pipelines.chain.notation import verify_by_certificate

    started = time.monotonic()
    place, policy = session.source(release), session.policy(release)
    verifier = session.verifier().under(policy.attestor_names)
    known = read_attestations(place, release.digest, verifier)
    image = verify_image(place, release.digest, verifier, known=known)
    rows: list[dict[str, Scalar]] = [
        {"kind": f"signature ({each.form})", "key": each.key_id, "digest": each.descriptor.digest}
        for each in image.signatures
    ]
    by_certificate, logged = verify_by_certificate(session, place, session.subject(release))
    rows += by_certificate
    attestations, doubted = verify_attestations(session, release)
    rows += attestations
    logged = [*logged, *doubted]
    rows += [
        {"kind": each.predicate_type, "key": each.key_id, "digest": each.descriptor.digest} for each in known.verified
    ]
    signatures = count_text(len(image.signatures) + len(by_certificate), "signature")
    trust = _vouched_for(session, release, policy, known) if policy.attestors else Outcome()
    return StageResult(
        stage="verify",
        subject=release.key,
        action=f"{signatures} and {count_text(len(known.verified), 'attestation')} verified",
        digest=release.digest,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "signatures": len(image.signatures) + len(by_certificate),
            "attestations": len(known.verified),
            "rejected": len(image.rejected) + len(known.rejected),
        },
        rows=rows,
        reasons=[*trust.reasons, *(f"not believed: {each}" for each in (*image.rejected, *known.rejected)), *logged],
        next_steps=next_steps(session, release, in_order(trust.steps)) if trust.steps else (),
        ok=trust.passes,
    )


def _vouched_for(session: Session, release: Release, policy: Policy, known: Attestations) -> Outcome:
    """What speaks against a release by its trust policy alone."""
    place = session.source(release)
    evidence = gather(
        place,
        place.registry.get_manifest(place.repository, release.digest),
        session.verifier().under(policy.attestor_names),
        image=release.image,
        now=session.now(),
        known=known,
        attestors=policy.attestor_names,
    )
    return Outcome([f"release: {evidence.problem}"]) if evidence.problem else vouched_for(evidence, policy)
