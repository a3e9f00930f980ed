"""Move a channel tag to a release, and leave a signed record. The gate is asked here, whoever calls."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Signer, Verifier
from registry_pipelines.evidence.predicates import PROMOTION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes, encode_json
from registry_pipelines.oci.tags import read_version
from registry_pipelines.promote import gate
from registry_pipelines.promote.documents import (
    TIME_FORMAT,
    Policy,
    Promotion,
    PromotionRecord,
    Step,
    Verdict,
    in_order,
)
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import Standing, latest_record, read_standing
from registry_pipelines.promote.starts import read_starts
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
    by: Person | None = None,
) -> Promotion:
    """Point ``channel`` at exactly ``release.digest``; a rollback is the promotion of an earlier release.

    (1) The evidence is read again from the registry and judged now; :func:`gate.may_promote` says what else must hold.
    (2) The record is signed and attached; (3) only then the tag moves, by digest, and is read back. Killed between 2
    and 3, the next call finishes. Of two who ask for one release, the second finds it promoted, by the first.
    by: who asked; None where nobody did: then the record names the signing key.
    Raises PromotionDenied (every reason; the tag is where it was), of which PromotionHeld is one (a hot pack or a
    measurement that the policy asks for is still to be made), TagImmutable (``channel`` is a version tag),
    NotFound, RegistryError.
    """
    check_channel(channel, release)
    moment = now or datetime.now(UTC)
    with _LOCKS[hash((place.registry.name, place.repository, channel)) % len(_LOCKS)]:
        asked = _ask(place, release, policy, verifier, channel, moment)
        if asked.done:
            return asked.done
        record = PromotionRecord(
            image=release.image,
            repository=str(place),
            channel=channel,
            to_digest=release.digest,
            from_digest=asked.before or "",
            version=release.tag,
            promoted_by=by.name if by else signer.key_id,
            verdict=asked.signed,
            policy_digest=policy.digest,
            time=moment.astimezone(UTC).strftime(TIME_FORMAT),
            identity=by.identity if by else "",
        )
        predicate = msgspec.json.decode(encode_json(record))
        made = attest_once(place, asked.top.descriptor, PROMOTION_TYPE, predicate, signer, known=asked.known)
        put_tag(place, asked.top, channel)
        return Promotion(record, made.descriptor.digest, changed=True, verdict=asked.verdict)


def promoted_already(
    place: Place, release: Release, policy: Policy, verifier: Verifier, *, channel: str, now: datetime | None = None
) -> Promotion | None:
    """The promotion that has a release under its channel, whoever asked for it; None where the gate would allow one and
    nobody asked yet. Writes nothing. Raises what :func:`promote` does."""
    check_channel(channel, release)
    return _ask(place, release, policy, verifier, channel, now or datetime.now(UTC)).done


def newer_on(place: Place, release: Release, verifier: Verifier, *, channel: str) -> str:
    """The version tag of the release that a channel names, when it is a higher version than this one; else empty, also
    where one of them is no version. Raises RegistryError."""
    named, version = digest_at(place, channel), read_version(release.tag)
    if named is None or named == release.digest or version is None:
        return ""
    found = latest_record(place, named, verifier, channel=channel, image=release.image)
    other = read_version(found[0].version) if found else None
    return found[0].version if found and other and other.precedence > version.precedence else ""


@dataclass(frozen=True)
class _Asked:
    """What the gate has let pass, and what the channel names."""

    top: ManifestBytes
    known: Attestations
    verdict: Verdict
    signed: Digest
    """Manifest of the signed verdict."""
    before: Digest | None
    """What the channel names."""
    done: Promotion | None
    """The promotion, when the channel names this release already and its record is there."""


def _ask(place: Place, release: Release, policy: Policy, verifier: Verifier, channel: str, moment: datetime) -> _Asked:
    """Read the evidence again, judge it, ask the gate. Raises PromotionDenied."""
    top = place.registry.get_manifest(place.repository, release.digest)
    verifier = verifier.under(policy.attestor_names)
    known = read_attestations(place, release.digest, verifier)
    verdict = judge(place, top.descriptor, policy, verifier, image=release.image, now=moment, known=known)
    standing = read_standing(place, release, known, verifier)
    starts = read_starts(place, verdict.platforms if verdict.allow else (), policy, verifier)
    signed = _allowed(place, verdict, standing, gate.may_promote(verdict, standing, policy, starts))
    before, recorded = digest_at(place, channel), None
    if before == release.digest:
        recorded = latest_record(place, release.digest, verifier, channel=channel, image=release.image, known=known)
    done = Promotion(recorded[0], recorded[1], changed=False, verdict=verdict) if recorded else None
    return _Asked(top, known, verdict, signed, before, done)


def _allowed(place: Place, verdict: Verdict, standing: Standing, decision: Outcome) -> Digest:
    """The manifest of the signed verdict that lets it pass. Raises PromotionDenied."""
    steps = in_order([*decision.steps, Step(kind="promote")]) if decision.steps else ()
    if decision.held:
        raise PromotionHeld(
            f"{verdict.image} is allowed, and held: {decision.held}",
            state=decision.held,
            reasons=decision.reasons,
            steps=steps,
            where=f"{place}@{verdict.release}",
            do="Make what is missing, then promote it",
        )
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    if latest is None or not decision.passes:
        raise PromotionDenied(
            f"{verdict.image} may not be promoted",
            reasons=decision.reasons,
            steps=steps,
            where=f"{place}@{verdict.release}",
            do="Remove the reasons or change the policy, then judge the release again",
        )
    return latest.digest
