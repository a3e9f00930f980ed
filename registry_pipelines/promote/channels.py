"""Move a channel tag to a release, and leave a signed record. The gate is asked here, whoever calls."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec

from registry_pipelines.errors import PromotionDenied
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import PROMOTION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.promote import gate
from registry_pipelines.promote.documents import TIME_FORMAT, Policy, Promotion, PromotionRecord, Verdict
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.standing import Standing, latest_record, read_standing
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.release import Release, check_channel

_LOCKS = [threading.Lock() for _ in range(64)]


def promote(
    place: Place,
    release: Release,
    policy: Policy,
    verifier: Verifier,
    signer: Signer,
    *,
    channel: str,
    now: datetime | None = None,
    promoted_by: str = "",
) -> Promotion:
    """Point ``channel`` at exactly ``release.digest``; a rollback is the promotion of an earlier release.

    (1) The evidence is read again from the registry and judged now; :func:`gate.may_promote` says what else must hold.
    (2) The record is signed and attached; (3) only then the tag moves, by digest, and is read back. Killed between 2
    and 3, the next call finishes.
    promoted_by: who or what asked; the signing key's id unless told.
    Raises PromotionDenied (every reason; the tag is where it was), TagImmutable (``channel`` is a version tag),
    NotFound, RegistryError.
    """
    check_channel(channel, release)
    moment = now or datetime.now(UTC)
    with _LOCKS[hash((place.registry.name, place.repository, channel)) % len(_LOCKS)]:
        top = place.registry.get_manifest(place.repository, release.digest)
        known = read_attestations(place, release.digest, verifier)
        verdict = judge(place, top.descriptor, policy, verifier, image=release.image, now=moment, known=known)
        standing = read_standing(place, release, known, verifier)
        signed = _allowed(place, verdict, standing)
        before = digest_at(place, channel)
        if before == release.digest:
            recorded = latest_record(place, release.digest, verifier, channel=channel, image=release.image, known=known)
            if recorded is not None:
                return Promotion(recorded[0], recorded[1], changed=False, verdict=verdict)
        record = PromotionRecord(
            image=release.image,
            repository=str(place),
            channel=channel,
            to_digest=release.digest,
            from_digest=before or "",
            version=release.tag,
            promoted_by=promoted_by or signer.key_id,
            verdict=signed,
            policy_digest=policy.digest,
            time=moment.astimezone(UTC).strftime(TIME_FORMAT),
        )
        predicate = msgspec.json.decode(encode_json(record))
        made = attest_once(place, top.descriptor, PROMOTION_TYPE, predicate, signer, known=known)
        put_tag(place, top, channel)
        return Promotion(record, made.descriptor.digest, changed=True, verdict=verdict)


def _allowed(place: Place, verdict: Verdict, standing: Standing) -> Digest:
    """The manifest of the signed verdict that lets it pass. Raises PromotionDenied."""
    decision = gate.may_promote(verdict, standing)
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    if latest is None or not decision.passes:
        raise PromotionDenied(
            f"{verdict.image} may not be promoted",
            reasons=decision.reasons,
            where=f"{place}@{verdict.release}",
            do="Remove the reasons or change the policy, then judge the release again",
        )
    return latest.digest
