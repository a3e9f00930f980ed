"""How far a release has come: the verdicts and promotions about it that trusted keys signed, and what its tag names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.identity_rules import counts
from registry_pipelines.evidence.model import CERTIFICATE, Attestations, Verifier
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, SIGNATURE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.promote.documents import SIGNATURE_FORM, PromotionRecord, is_time
from registry_pipelines.promote.interventions import NONE, Interventions, read_interventions
from registry_pipelines.promote.verdicts import Verdicts
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.promote.vex import attested_vex
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.scan.openvex import VexStatement


@dataclass(frozen=True)
class Standing:
    """What the registry shows about a release beside its evidence."""

    release: Release
    tagged: Digest | None
    """What its version tag names now; None when there is no such tag."""
    verdicts: Verdicts
    records: tuple[PromotionRecord, ...]
    """Every promotion of this digest, oldest first."""
    interventions: Interventions = NONE
    """What persons decided beside the policy: break-glasses, revocations."""
    vex: tuple[VexStatement, ...] = ()
    """What trusted people signed about its findings."""
    weights: frozenset[Digest] | None = None
    """Manifests of the weights that are attached now; None where no policy asks."""
    ended: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Of evidence that its verdicts rest on, by predicate type and key id: why nobody believes that key for it now. It
    is revoked or retired, or was taken out of the configuration since."""

    def promotions(self, channel: str) -> tuple[PromotionRecord, ...]:
        """Every record of its image that put a channel on it, oldest first."""
        return tuple(each for each in self.records if (each.image, each.channel) == (self.release.image, channel))


def read_standing(place: Place, release: Release, known: Attestations, verifier: Verifier) -> Standing:
    """Where a release stands. known: what was read and verified about its digest. Raises RegistryError."""
    verdicts = read_verdicts(place, release.digest, verifier, known=known)
    evidence = (used for published in verdicts.published for used in published.verdict.evidence)
    signers = sorted({(used.predicate_type, used.key_id) for used in evidence})
    return Standing(
        release=release,
        tagged=digest_at(place, release.tag),
        verdicts=verdicts,
        ended={(kind, key_id): why for kind, key_id in signers if (why := _against(kind, key_id, verifier))},
        records=tuple(record for record, _ in records(place, release.digest, verifier, known=known)),
        interventions=read_interventions(known, release.digest),
        vex=attested_vex(known, release.digest)[0],
    )


def _against(kind: str, key_id: str, verifier: Verifier) -> str:
    """Why a key that signed evidence is believed for it no more; empty when it is. A certificate is not asked about
    (but whether those are known still as whom it signed weights), nor what has no key: whoever trusts it reads the
    signature again with the next verdict."""
    if not key_id or (key_id.startswith(CERTIFICATE) and " " not in key_id):
        return ""
    predicate_type = SIGNATURE_TYPE if kind.startswith(SIGNATURE_FORM) else kind
    if why := verifier.against(key_id):
        return why
    return "" if counts(key_id, verifier.believed(predicate_type)) else "is not trusted for that any more"


def records(
    place: Place, digest: Digest, verifier: Verifier, *, known: Attestations | None = None
) -> list[tuple[PromotionRecord, Digest]]:
    """Every believed promotion record about ``digest`` and its manifest, oldest first. Raises RegistryError."""
    believed: list[tuple[PromotionRecord, Digest]] = []
    for attestation in (known or read_attestations(place, digest, verifier)).of_type(PROMOTION_TYPE):
        try:
            record = PromotionRecord.decode(
                encode_json(attestation.predicate), where=str(attestation.descriptor.digest)
            )
        except ManifestInvalid:
            continue
        if record.to_digest == digest and is_time(record.time):
            believed.append((record, attestation.descriptor.digest))
    return sorted(believed, key=lambda pair: (pair[0].time, pair[1]))


def latest_record(
    place: Place,
    digest: Digest,
    verifier: Verifier,
    *,
    channel: str,
    image: str = "",
    known: Attestations | None = None,
) -> tuple[PromotionRecord, Digest] | None:
    """The latest believed record that put ``channel`` on ``digest``, and its manifest. image: promoted as; any unless
    told. Raises RegistryError."""
    of_channel = [
        pair
        for pair in records(place, digest, verifier, known=known)
        if pair[0].channel == channel and image in ("", pair[0].image)
    ]
    return max(of_channel, key=lambda pair: pair[0].time, default=None)
