"""How fast an image started: a measurement, signed and attached to the platform's manifest, so that a policy can hold
every later release to its budget, wherever the image was copied to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once, read_attestations
from registry_pipelines.evidence.model import Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import START_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.registry.protocol import Place

SAME_WITHIN = 0.25
"""A measurement that is not further from the one before than this share of it says nothing new: clocks of a machine
that does other things, too, differ that much, and a schedule would attach one more each night."""


class StartReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, as the JSON of the predicate, field by field. Both clocks run from the beginning of the mount,
    with nothing of the image on the machine; medians where it was started several times."""

    image: Digest
    """The manifest of one platform."""
    release: Digest
    """Top digest below which the image was when it was measured."""
    started_s: float | None
    """Seconds until the first byte of output; None where the program printed nothing."""
    result_s: float
    """Seconds until what was waited for came."""
    until: str
    """What that is, in the words of `stream.record`."""
    starts: int
    """How many the medians are of."""
    pack: str
    """Digest of the hot pack that was used; empty without one."""
    pack_bytes: int
    fetched_bytes: int
    """From the registry, the pack included."""
    machine: str
    """Architecture, processors and kernel."""
    carrier: str
    """What mounted the image: ``fuse`` or ``fanotify``."""
    tool: str
    time: str
    """RFC 3339, UTC, whole seconds."""

    def says_anew(self, before: StartReport | None, longest_s: float | None = None) -> bool:
        """Whether it says something that an earlier report does not. longest_s: what a policy permits."""
        if before is None or (before.pack, before.carrier, before.until) != (self.pack, self.carrier, self.until):
            return True
        if longest_s is not None and (before.result_s > longest_s) != (self.result_s > longest_s):
            return True
        return abs(self.result_s - before.result_s) > SAME_WITHIN * before.result_s


class SignedReport(msgspec.Struct, frozen=True):
    """A report that a believed key signed."""

    report: StartReport
    key_id: str
    statement: Digest
    """Of the manifest that carries it."""


def read_reports(place: Place, image: Digest, verifier: Verifier) -> tuple[Sequence[SignedReport], list[Rejected]]:
    """The believed measurements of a platform's manifest, the newest first, and what looked like one and is not.
    Raises RegistryError, ClosureIncomplete (more referrers than are read)."""
    known = read_attestations(place, image, verifier, predicate_type=START_TYPE)
    found: list[SignedReport] = []
    rejected = list(known.rejected)
    for attestation in known.verified:
        read = _read(attestation, image)
        if isinstance(read, Rejected):
            rejected.append(read)
        else:
            found.append(read)
    return sorted(found, key=lambda each: (each.report.time, each.statement), reverse=True), rejected


def attach_report(
    place: Place, image: Descriptor, report: StartReport, signer: Signer, *, longest_s: float | None = None
) -> Attested | None:
    """Sign a measurement and attach it, unless the newest one of this key says as much; None then. longest_s: what the
    image's policy permits: a start that is on the other side of that now is news, however little it differs. Raises
    RegistryError."""
    from registry_pipelines.evidence.keys import verifier_of

    there, _ = read_reports(place, image.digest, verifier_of(signer))
    if not report.says_anew(there[0].report if there else None, longest_s):
        return None
    return attest_once(place, image, START_TYPE, msgspec.json.decode(encode_json(report)), signer)


def _read(attestation: VerifiedAttestation, image: Digest) -> SignedReport | Rejected:
    where = str(attestation.descriptor.digest)
    try:
        report = decode_json(encode_json(attestation.predicate), StartReport, where=where, what="measured start")
    except ManifestInvalid as error:
        return Rejected(where, error.what, damaged=True)
    if report.image != image:
        return Rejected(where, f"the signed measurement is of {report.image}, not of {image}")
    if not 0 <= report.result_s < float("inf"):
        return Rejected(where, "the signed measurement has no time", damaged=True)
    return SignedReport(report, attestation.key_id, attestation.descriptor.digest)
