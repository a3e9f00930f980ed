"""Verdicts in the registry: SLSA Verification Summary Attestations (slsa.dev, "Verification Summary", v1), signed.

One that says where the release is nowhere is ours (``resourceUri`` is a package URL without a place), so that it is the
same everywhere. Other verifiers compare that field with the repository they pull from: for those one more is written
for each such repository, with the same standard fields.

Our reasons stand in the extension field :data:`EXTENSION`, named by SLSA's rule for extensions (vendor, underscore,
name); the standard fields say PASSED or FAILED to every other reader. When they disagree the verdict is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from registry_pipelines.errors import ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE, VERDICT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.promote.documents import TIME_FORMAT, PublishedVerdict, Verdict, is_time
from registry_pipelines.registry.protocol import Place

EXTENSION = "RegistryPipelines_verdict"
REPEATED = "RegistryPipelines_repeats"
"""In one that is for a consumer: the digest of the manifest of the verdict that it repeats. It is none of its own."""
VERIFIER_ID = "urn:registry-pipelines:promote:v1"
SLSA_VERSION = "1.1"


@dataclass(frozen=True)
class Verdicts:
    """All verdicts about a digest that a trusted key signed."""

    published: tuple[PublishedVerdict, ...]
    """The latest first."""
    rejected: tuple[Rejected, ...]
    """What looked like a verdict, or may have been one, and was not believed."""

    def latest(self, image: str = "", policy: str = "") -> PublishedVerdict | None:
        """The one that counts, for an image and a policy by name (empty: any). A release judged by the policies of two
        channels has two verdicts that count."""
        for published in self.published:
            if image in ("", published.verdict.image) and policy in ("", published.verdict.policy):
                return published
        return None


def publish(
    place: Place,
    release: Descriptor,
    verdict: Verdict,
    signer: Signer,
    verifier: Verifier,
    *,
    consumers: Sequence[str] = (),
) -> PublishedVerdict:
    """Sign a verdict and attach it to its release, unless the latest one by the same policy says the same.

    The latest counts, so a new one is dated after it: one second later when this clock is not ahead of the other's.
    consumers: repositories (``registry.example/app``) that a summary is written for, too, where it is not there yet.
    Raises SignatureInvalid when the verdict is about another digest, RegistryError.
    """
    if verdict.release != release.digest:
        raise SignatureInvalid(f"the verdict is about {verdict.release}, not {release.digest}", where=str(place))
    known = read_attestations(place, release.digest, verifier)
    latest = read(place, release.digest, verifier, known=known).latest(verdict.image, verdict.policy)
    if latest is not None and latest.verdict.same_judgement(verdict):
        published = latest
    else:
        if latest is not None and verdict.time <= latest.verdict.time:
            after = datetime.strptime(latest.verdict.time, TIME_FORMAT) + timedelta(seconds=1)
            verdict = msgspec.structs.replace(verdict, time=after.strftime(TIME_FORMAT))
        made = attest_once(place, release, VERDICT_TYPE, to_predicate(place, verdict), signer, known=known)
        published = PublishedVerdict(verdict, made.descriptor.digest, signer.key_id, changed=True)
    for consumer in consumers:
        predicate = for_consumer(place, published, consumer)
        attest_once(place, release, VERDICT_TYPE, predicate, signer, known=known)
    return published


def read(place: Place, digest: Digest, verifier: Verifier, *, known: Attestations | None = None) -> Verdicts:
    """Every believed verdict about ``digest``, the latest first (equal times: deny first). Raises RegistryError.

    known: what was read and verified about this digest just now, when the caller has it.
    """
    attestations = known or read_attestations(place, digest, verifier)
    published: list[PublishedVerdict] = []
    rejected = list(attestations.rejected)
    for attestation in attestations.of_type(VERDICT_TYPE):
        if EXTENSION not in attestation.predicate and REPEATED in attestation.predicate:
            continue
        where = str(attestation.descriptor.digest)
        try:
            published.append(
                PublishedVerdict(
                    _verdict_of(attestation, digest, where), attestation.descriptor.digest, attestation.key_id
                )
            )
        except (SignatureInvalid, ManifestInvalid) as error:
            rejected.append(Rejected(where, error.what))
    published.sort(key=lambda each: (each.verdict.time, not each.verdict.allow, each.digest), reverse=True)
    return Verdicts(tuple(published), tuple(rejected))


def to_predicate(place: Place, verdict: Verdict) -> dict[str, Any]:
    """The VSA predicate with our reasons. place: any with the image's name at the end of the repository's."""
    return {**_summary(place, verdict), EXTENSION: msgspec.json.decode(encode_json(verdict))}


def for_consumer(place: Place, published: PublishedVerdict, repository: str) -> dict[str, Any]:
    """The VSA predicate for who pulls from ``repository``, as a registry and a path."""
    return {**_summary(place, published.verdict, repository), REPEATED: str(published.digest)}


def resource_uri(repository: str, digest: Digest, *, located: bool = False) -> str:
    """The package URL of an image (purl-spec, type ``oci``). located: with the repository it is pulled from, else
    without any place."""
    purl = f"pkg:oci/{repository.rpartition('/')[2]}@{digest}"
    return f"{purl}?repository_url={repository}" if located else purl


def _summary(place: Place, verdict: Verdict, consumer: str = "") -> dict[str, Any]:
    """The standard fields.

    ``verifiedLevels``: level 1 of the build track when signed provenance was among the evidence; more would need a
    judgement about the builder that the policy does not make, and without none was made. ``inputAttestations`` must
    hold all that was used when it holds any, so a denial has none: what it rests on may be unsigned, or not there.
    """
    has_provenance = any(used.predicate_type == PROVENANCE_TYPE for used in verdict.evidence)
    passed = ["SLSA_BUILD_LEVEL_1" if has_provenance else "SLSA_BUILD_LEVEL_UNEVALUATED"]
    inputs = [
        {
            "name": used.predicate_type,
            "uri": resource_uri(place.repository, used.digest),
            "digest": {used.digest.algorithm: used.digest.hex},
        }
        for used in verdict.evidence
    ]
    return {
        "verifier": {"id": VERIFIER_ID},
        "timeVerified": verdict.time,
        "resourceUri": resource_uri(consumer or place.repository, verdict.release, located=bool(consumer)),
        "policy": {
            "uri": f"urn:registry-pipelines:policy:{verdict.policy}",
            "digest": {verdict.policy_digest.algorithm: verdict.policy_digest.hex},
        },
        **({"inputAttestations": inputs} if verdict.allow and inputs else {}),
        "verificationResult": "PASSED" if verdict.allow else "FAILED",
        "verifiedLevels": passed if verdict.allow else ["FAILED"],
        "slsaVersion": SLSA_VERSION,
    }


def from_predicate(predicate: Mapping[str, Any], *, where: str = "") -> Verdict:
    """Read :func:`to_predicate`'s form. Raises ManifestInvalid (names the field), SignatureInvalid (it contradicts
    itself, has no date, or another program made it)."""
    if EXTENSION not in predicate:
        raise SignatureInvalid(f"the verification summary has no `{EXTENSION}`: another program made it", where=where)
    verdict = decode_json(encode_json(predicate[EXTENSION]), Verdict, where=where, what="verdict")
    result = "PASSED" if verdict.allow else "FAILED"
    if predicate.get("verificationResult") != result or verdict.allow == bool(verdict.reasons):
        raise SignatureInvalid("the verdict contradicts its `verificationResult` or its reasons", where=where)
    if not is_time(verdict.time):
        raise SignatureInvalid(f"`time` {verdict.time[:40]!r} of the verdict is not a time", where=where)
    return verdict


def _verdict_of(attestation: VerifiedAttestation, digest: Digest, where: str) -> Verdict:
    verdict = from_predicate(attestation.predicate, where=where)
    if verdict.release != digest:
        raise SignatureInvalid(f"the verdict is about {verdict.release}, not {digest}", where=where)
    return verdict
