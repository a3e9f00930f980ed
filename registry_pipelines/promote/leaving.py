"""What the registry shows about a release that is to go somewhere, read at once, for the gate's questions about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote import gate
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.evidence import reports_about
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.standing import Standing, read_standing, records
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.report import Report


@dataclass(frozen=True)
class Leaving:
    """A release as it stands now. Nothing of it is kept: who asks again reads again."""

    policy: Policy
    standing: Standing
    reports: tuple[Report, ...]
    """Every vulnerability report about it, signed or not."""
    known: Attestations

    def may_run(self, now: datetime) -> Outcome:
        """See :func:`gate.may_run`."""
        return gate.may_run(self.standing, self.reports, self.policy, now=now)

    def may_leave(self, channel: str, now: datetime) -> Outcome:
        """See :func:`gate.may_leave`."""
        return gate.may_leave(self.standing, self.reports, self.policy, channel=channel, now=now)


def read_leaving(place: Place, release: Release, policy: Policy, verifier: Verifier) -> Leaving:
    """Read it from its source registry. Raises RegistryError, ClosureIncomplete."""
    verifier = verifier.under(policy.attestor_names)
    return _read(place, release, policy, verifier, read_attestations(place, release.digest, verifier))


def read_digest(
    place: Place, image: str, digest: Digest, policy: Policy, verifier: Verifier, *, unversioned: str
) -> Leaving:
    """The same of a digest whose version nobody says: the one that it was promoted as last, else ``unversioned``."""
    verifier = verifier.under(policy.attestor_names)
    known = read_attestations(place, digest, verifier)
    promoted = [record for record, _ in records(place, digest, verifier, known=known) if record.image == image]
    version = promoted[-1].version if promoted else unversioned
    return _read(place, Release(image, version, digest), policy, verifier, known)


def _read(place: Place, release: Release, policy: Policy, verifier: Verifier, known: Attestations) -> Leaving:
    standing = read_standing(place, release, known, verifier)
    if policy.weights.asks:
        from registry_pipelines.promote.weights import attached_digests  # few policies ask

        images = {Digest(each) for published in standing.verdicts.published for each in published.verdict.platforms}
        standing = replace(standing, weights=attached_digests(place, (release.digest, *sorted(images))))
    return Leaving(policy, standing, tuple(reports_about(place, release.digest, known)), known)


__all__ = ["Leaving", "read_digest", "read_leaving"]
