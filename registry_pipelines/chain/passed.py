"""cosign's record of a scan, which other programs read as a pass: signed when a verdict allowed the report, not before.

The scanner's key signs it, so it is written by whoever has that key: the judge where both are on one machine, else the
next scan where the scanner is.
"""

from __future__ import annotations

from registry_pipelines.chain.channels import policies_of
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.attestations import Attested, read_attestations
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.evidence import signed_about
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.release import Release
from registry_pipelines.scan.predicates import attest_pass
from registry_pipelines.scan.report import Report


def attest_what_passed(session: Session, release: Release) -> Attested | None:
    """Sign the record of the report that the signed verdicts of a release allow, by every policy of its image and as
    those are now. None: nothing of the kind is signed, or the scanner's key is not here. Raises RegistryError."""
    image, signer = session.image(release.image), session.keys.at_hand("scanner")
    trusted = session.keys.trusted_if_any() if signer else None
    if signer is None or trusted is None:
        return None
    place = session.source(release)
    passed: tuple[Report, Attestations] | None = None
    for name, channels in policies_of(session, image).items():
        policy = session.policy_of(image, channels[0])
        verifier = trusted.under(policy.attestor_names)
        known = read_attestations(place, release.digest, verifier)
        latest = read_verdicts(place, release.digest, verifier, known=known).latest(image.name, name)
        found = signed_about(known, release.digest)
        if latest is None or found is None or not latest.verdict.allow:
            return None
        allowed = (latest.verdict.policy_digest, latest.verdict.report)
        if allowed != (policy.digest, str(Digest.of(found[0].encode()))):
            return None
        passed = found[0], known
    if passed is None:
        return None
    try:
        return attest_pass(place, session.subject(release), passed[0], signer, known=passed[1])
    except InputError:  # larger than readers take; the report itself says so when it is signed
        return None


__all__ = ["attest_what_passed"]
