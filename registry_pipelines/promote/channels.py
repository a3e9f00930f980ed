"""Move a channel tag to a release, and leave a signed record. The gate is here, whoever calls."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec

from registry_pipelines.errors import ManifestInvalid, NotFound, PromotionDenied, Unavailable
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Signer, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes, encode_json
from registry_pipelines.promote.interface import (
    PROMOTION_TYPE,
    TIME_FORMAT,
    Policy,
    Promotion,
    PromotionRecord,
    Verdict,
)
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.registry.interface import Place
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

    (1) The evidence is read again from the registry and judged now. (2) The latest verdict a trusted key signed about
    this digest must be the same allow: same policy digest, same evidence, same advisories; and the version tag must
    name this digest, or, deleted since, be one it was promoted as before. (3) The record is signed and attached; (4)
    only then the tag moves, by digest, and is read back. Killed between 3 and 4, the next call finishes.
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
        digest = _require_verdict(place, verdict, verifier, known)
        _require_version(place, release, verdict, verifier, known)
        before = _resolve(place, channel)
        if before == release.digest:
            recorded = latest_record(place, release.digest, verifier, channel=channel, known=known)
            if recorded is not None:
                return Promotion(recorded[0], recorded[1], changed=False, verdict=verdict)
        record = PromotionRecord(
            image=release.image,
            repository=str(place),
            channel=channel,
            to_digest=release.digest,
            from_digest=before,
            version=release.tag,
            promoted_by=promoted_by or signer.key_id,
            verdict=digest,
            policy_digest=policy.digest,
            time=moment.astimezone(UTC).strftime(TIME_FORMAT),
        )
        predicate = msgspec.json.decode(encode_json(record))
        made = attest_once(place, top.descriptor, PROMOTION_TYPE, predicate, signer, known=known)
        _move(place, top, channel)
        return Promotion(record, made.descriptor.digest, changed=True, verdict=verdict)


def latest_record(
    place: Place, digest: Digest, verifier: Verifier, *, channel: str, known: Attestations | None = None
) -> tuple[PromotionRecord, Digest] | None:
    """The latest believed record that put ``channel`` on ``digest``, and its manifest. Raises RegistryError."""
    found = [item for item in records(place, digest, verifier, known=known) if item[0].channel == channel]
    return max(found, key=lambda item: item[0].time, default=None)


def records(
    place: Place, digest: Digest, verifier: Verifier, *, known: Attestations | None = None
) -> list[tuple[PromotionRecord, Digest]]:
    """Every believed promotion record about ``digest``, oldest first. Raises RegistryError."""
    found: list[tuple[PromotionRecord, Digest]] = []
    for item in (known or read_attestations(place, digest, verifier)).of_type(PROMOTION_TYPE):
        try:
            record = PromotionRecord.decode(encode_json(item.predicate), where=str(item.descriptor.digest))
        except ManifestInvalid:
            continue
        if record.to_digest == digest:
            found.append((record, item.descriptor.digest))
    return sorted(found, key=lambda item: (item[0].time, item[1]))


def _require_verdict(place: Place, fresh: Verdict, verifier: Verifier, known: Attestations) -> Digest:
    """The manifest of the signed verdict that says what we just found. Raises PromotionDenied."""
    if not fresh.allow:
        raise _denied(place, fresh, list(fresh.reasons))
    found = read_verdicts(place, fresh.release, verifier, known=known)
    latest = found.latest(fresh.image, fresh.policy)
    if latest is None:
        reasons = [f"verdict: none by policy {fresh.policy} is signed by a trusted key"]
        raise _denied(place, fresh, reasons + [f"verdict: not believed: {item}" for item in found.rejected[:10]])
    signed = latest.verdict
    if not signed.allow:
        raise _denied(place, fresh, ["verdict: the latest signed one is deny", *signed.reasons])
    if signed.policy_digest != fresh.policy_digest:
        raise _denied(
            place, fresh, [f"verdict: made by policy {signed.policy_digest}, now it is {fresh.policy_digest}"]
        )
    if not signed.same_judgement(fresh):
        raise _denied(place, fresh, ["verdict: the evidence changed since it was made"])
    return latest.digest


def _require_version(place: Place, release: Release, fresh: Verdict, verifier: Verifier, known: Attestations) -> None:
    """Raise PromotionDenied when the version tag names another digest, or never was this release's: the record would
    vouch for a moved or an invented tag, and replicas take it over."""
    named = _resolve(place, release.tag)
    if named == release.digest:
        return
    if named:
        raise _denied(place, fresh, [f"version: the tag {release.tag} names {named} now; a version tag never moves"])
    if release.tag not in {found.version for found, _ in records(place, release.digest, verifier, known=known)}:
        raise _denied(
            place, fresh, [f"version: the tag {release.tag} does not exist, and it was never promoted as that"]
        )


def _denied(place: Place, fresh: Verdict, reasons: list[str]) -> PromotionDenied:
    return PromotionDenied(
        f"{fresh.image} may not be promoted",
        reasons=reasons,
        where=f"{place}@{fresh.release}",
        do="Remove the reasons or change the policy, then judge the release again",
    )


def _resolve(place: Place, channel: str) -> str:
    try:
        return str(place.registry.resolve(place.repository, channel).digest)
    except NotFound:
        return ""


def _move(place: Place, top: ManifestBytes, channel: str) -> None:
    place.registry.put_manifest(place.repository, top, tag=channel)
    found = _resolve(place, channel)
    if found != top.digest:
        raise Unavailable(
            f"the channel names {found or 'nothing'} after it was moved: another program moves it too",
            where=f"{place}:{channel}",
            do="Promote again; let one program at a time move a channel",
        )
