"""Records of roll-outs: that a release was read back where it runs, and for how long, or that it did not come up.

Signed by the promoter and attached to the release, which is the statement's subject. Nothing but documents here: gates
of channels, ``collect`` and the page of a release read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once
from registry_pipelines.evidence.model import Attestations, Signer
from registry_pipelines.evidence.predicates import DEPLOYMENT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.oci.times import CLOCKS_DIFFER, time_behind
from registry_pipelines.registry.protocol import Place

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""UTC, whole seconds."""
Outcome = Literal["running", "failed", "taken back"]
"""``running``: all that runs there is the release. ``failed``: it did not come up, and what runs is not known, or is
somebody else's. ``taken back``: it did not come up, and what ran before runs again."""


class DeploymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note. JSON of the predicate, field by field."""

    deployment: str
    """Name of the section of `deploy`."""
    image: str
    version: str
    digest: Digest
    """Top digest of the release."""
    channel: str
    where: str
    """For people: ``cluster 10.0.0.1:6443, deployment shop/web, container app``."""
    written: str
    """The image as it was written there, by digest."""
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """Why it did not come up."""
    seen: tuple[str, ...] = ()
    """The digests that instances were said to run when it was read back, each once: of the release, of one of its
    platforms, or of their configs."""
    instances: int = 0
    """Pods, or revisions with traffic, that were read back."""
    before: str = ""
    """The image that ran before, by digest where that was known; empty where there was none."""
    revision: str = ""
    """What the platform calls this state of the workload; another one is another roll-out."""
    since: str = ""
    """When it was first read back in this state without a break; empty unless it runs. UTC, RFC 3339."""
    time: str
    """When this was read back. UTC, RFC 3339."""

    @property
    def ran(self) -> timedelta:
        """For how long it is known to run: from the first look to this one. Zero for one that does not run."""
        if self.outcome != "running":
            return timedelta()
        begun, seen = _moment(self.since), _moment(self.time)
        return max(seen - begun, timedelta()) if begun and seen else timedelta()

    @property
    def before_digest(self) -> str:
        """The digest in ``before``; empty where it names none."""
        return self.before.rpartition("@")[2] if "@" in self.before else ""


def attest_deployment(place: Place, subject: Descriptor, record: DeploymentRecord, signer: Signer) -> Attested:
    """Sign a record and attach it to its release. Raises RegistryError."""
    return attest_once(place, subject, DEPLOYMENT_TYPE, msgspec.Raw(encode_json(record)), signer)


def read_deployments(known: Attestations, digest: Digest, now: datetime | None) -> list[DeploymentRecord]:
    """The believed records about ``digest``, oldest first. known: what was read and verified about it. A damaged record
    counts for nothing; nor does one that says it ran there in the future: a wrong clock wrote it, and it would hide for
    years that the release went down since. now None: those count, too."""
    found: list[DeploymentRecord] = []
    for attestation in known.of_type(DEPLOYMENT_TYPE):
        where = str(attestation.descriptor.digest)
        try:
            record = decode_json(
                encode_json(attestation.predicate), DeploymentRecord, where=where, what="deployment record"
            )
        except ManifestInvalid:
            continue
        at = _moment(record.time)
        if record.digest == digest and at and not (now and record.outcome == "running" and at > now + CLOCKS_DIFFER):
            found.append(record)
    return sorted(found, key=lambda each: (each.time, each.outcome != "running"))


def latest(records: Sequence[DeploymentRecord], deployment: str, image: str) -> DeploymentRecord | None:
    """The newest record of a deployment of an image; of one second the worse one. records: oldest first."""
    mine = [each for each in records if (each.deployment, each.image) == (deployment, image)]
    return mine[-1] if mine else None


def time_after(now: datetime, last: DeploymentRecord | None, before: DeploymentRecord | None = None) -> str:
    """The time of a record that is made now: behind the last one about its release where a clock was set back, for the
    newest counts. before: for a roll-out the last record of its deployment, whichever release that is about; behind it,
    too, for two may be of one second, unless a wrong clock wrote it far ahead."""
    newest, rolled_out = (_moment(each.time) if each else None for each in (last, before))
    at = time_behind(now, rolled_out, CLOCKS_DIFFER)
    if newest and newest > now:
        at = max(at, newest + timedelta(seconds=1))
    return at.strftime(TIME_FORMAT)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


__all__ = [
    "TIME_FORMAT",
    "DeploymentRecord",
    "Outcome",
    "attest_deployment",
    "latest",
    "read_deployments",
    "time_after",
]
