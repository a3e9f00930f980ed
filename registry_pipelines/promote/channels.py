"""Move a channel tag to a release, and leave a signed record. The gate is asked here, whoever calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from registry_pipelines.errors import ContentError, PromotionDenied, PromotionHeld, Unavailable
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Signer, Verifier
from registry_pipelines.evidence.predicates import PROMOTION_TYPE
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes, encode_json
from registry_pipelines.oci.tags import read_version
from registry_pipelines.oci.times import time_behind
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
from registry_pipelines.promote.order import Channel
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import Standing, latest_record, read_standing, records
from registry_pipelines.promote.starts import read_starts
from registry_pipelines.promote.ways import Way, read_way
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.release import Release, check_channel

MOST_LOOKS = 3
"""Times that the evidence is read again because something of it moved meanwhile."""

MOST_AHEAD = timedelta(seconds=30)
"""A promotion is dated behind the one before it where that is ahead of this clock by no more: audits believe signers'
clocks for a minute (``report.audit.alerts``)."""

_LOCKS = [threading.Lock() for _ in range(64)]


def promote(
    place: Place,
    release: Release,
    policy: Policy,
    verifier: Verifier,
    signer: Signer,
    *,
    channel: str,
    order: Sequence[Channel] = (),
    now: datetime | None = None,
    by: Person | None = None,
    still: Callable[[], None] = lambda: None,
) -> Promotion:
    """Point ``channel`` at exactly ``release.digest``; a rollback is the promotion of an earlier release.

    (1) The evidence is read again from the registry and judged now; :func:`gate.may_promote` says what else must hold,
    and :func:`gate.excused` what a break-glass excuses. (2) Nothing of that may have changed meanwhile, and the channel
    must still name what it did. (3) The record is signed and attached; (4) only then the tag moves, by digest, and is
    read back. (5) Evidence that came between (2) and (4) is judged as well: where it denies, a revocation of that
    moment for example, the channel goes back to what it named. Killed between 3 and 4, the next call finishes. Of two
    who ask for one release, the second finds it promoted, by the first.
    order: all channels of the image; a channel that is not among them stands alone. by: who asked; None where nobody
    did: then the record names the signing key. still: asked before the record is signed and before the tag
    moves; raises where somebody else may move the channel now.
    Raises PromotionDenied (every reason; the tag is where it was), of which PromotionHeld is one (what the policy or
    the channel asks for is still to come), TagImmutable (``channel`` is a version tag), Unavailable (another program
    moves the channel), NotFound, RegistryError.
    """
    check_channel(channel, release)
    moment = now or datetime.now(UTC)
    verifier = verifier.under(policy.attestor_names)
    gate_keeper = _Gate(place, release, policy, verifier, channel, order, moment)
    with _LOCKS[hash((place.registry.name, place.repository, channel)) % len(_LOCKS)]:
        asked = gate_keeper.ask_still()
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
            time=gate_keeper.time_after(asked.before),
            identity=by.identity if by else "",
            break_glass=asked.glass,
        )
        predicate = msgspec.json.decode(encode_json(record))
        still()
        made = attest_once(place, asked.top.descriptor, PROMOTION_TYPE, predicate, signer, known=asked.known)
        still()
        put_tag(place, asked.top, channel)
        gate_keeper.look_back(asked, made.descriptor.digest)
        return Promotion(record, made.descriptor.digest, changed=True, verdict=asked.verdict, accepted=asked.accepted)


def promoted_already(
    place: Place,
    release: Release,
    policy: Policy,
    verifier: Verifier,
    *,
    channel: str,
    order: Sequence[Channel] = (),
    now: datetime | None = None,
) -> Promotion | None:
    """The promotion that has a release under its channel, whoever asked for it; None where the gate would allow one and
    nobody asked yet. Writes nothing. Raises what :func:`promote` does."""
    check_channel(channel, release)
    verifier = verifier.under(policy.attestor_names)
    return _Gate(place, release, policy, verifier, channel, order, now or datetime.now(UTC)).ask().done


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
class _Seen:
    """What is attached to a release, and what its tags name: when this is the same, so is the evidence."""

    referrers: frozenset[Digest]
    signature: Digest | None
    """What the ``.sig`` tag names."""
    version: Digest | None
    """What the version tag names."""


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
    glass: str
    """Manifest of the break-glass that lets it pass; empty where the policy does."""
    accepted: tuple[str, ...]
    """What that excuses."""
    seen: _Seen
    """What was there when the reading began."""
    done: Promotion | None
    """The promotion, when the channel names this release already and its record is there."""


@dataclass(frozen=True)
class _Gate:
    """One question to the gate, asked as often as what it rests on moves."""

    place: Place
    release: Release
    policy: Policy
    verifier: Verifier
    channel: str
    order: Sequence[Channel]
    now: datetime

    def ask_still(self) -> _Asked:
        """What the gate lets pass, while nothing moves. Raises PromotionDenied, Unavailable."""
        asked = self.ask()
        for _ in range(MOST_LOOKS):
            if asked.done or (self._named(), self._seen()) == (asked.before, asked.seen):
                return asked
            asked = self.ask()
        raise Unavailable(
            f"{self.channel}, or the evidence of {self.release.tag}, changes all the time: another program writes, too",
            where=f"{self.place}@{self.release.digest}",
            do="Try again; let one program at a time promote an image",
        )

    def ask(self) -> _Asked:
        """Read the evidence again, judge it, ask the gate. Raises PromotionDenied."""
        place, release, verifier, policy = self.place, self.release, self.verifier, self.policy
        before, seen = self._named(), self._seen()
        top = place.registry.get_manifest(place.repository, release.digest)
        known = read_attestations(place, release.digest, verifier)
        verdict = judge(place, top.descriptor, policy, verifier, image=release.image, now=self.now, known=known)
        standing = read_standing(place, release, known, verifier)
        starts = read_starts(place, verdict.platforms if verdict.allow else (), policy, verifier)
        decision = gate.may_promote(verdict, standing, policy, starts, self._way(standing, known))
        lets = gate.excused(decision, verdict, standing, channel=self.channel, now=self.now)
        signed = _allowed(place, verdict, standing, lets, self.channel)
        glass = ""
        if lets is not decision:
            excuse = standing.interventions.excuse(self.channel, release.image, self.now)
            glass = excuse.digest if excuse else ""
        accepted = tuple(lets.accepted if glass else ())
        done = self._done(standing, known, verdict, glass) if before == release.digest else None
        if done:
            done = replace(done, accepted=accepted)
        return _Asked(top, known, verdict, signed, before, glass, accepted, seen, done)

    def time_after(self, before: Digest | None) -> str:
        """Of a record that is made now: behind the promotion of what the channel names, for by their times the moves of
        a channel are walked back, and two may be of one second, or of machines whose clocks differ. What a wrong clock
        wrote far ahead is not followed."""
        found = None
        if before is not None and before != self.release.digest:
            with suppress(ContentError):  # whatever hangs there keeps no other release back
                found = latest_record(self.place, before, self.verifier, channel=self.channel, image=self.release.image)
        last = datetime.strptime(found[0].time, TIME_FORMAT).replace(tzinfo=UTC) if found else None
        return time_behind(self.now.astimezone(UTC), last, MOST_AHEAD).strftime(TIME_FORMAT)

    def look_back(self, asked: _Asked, record: Digest) -> None:
        """After the channel moved: judge what was attached meanwhile. Where it denies, the channel names again what it
        did. Raises PromotionDenied then."""
        seen = self._seen()
        if replace(seen, referrers=seen.referrers - {record}) == asked.seen:
            return
        try:
            self.ask()
        except PromotionDenied as denied:
            denied.add_note(self._take_back(asked))
            raise

    def _take_back(self, asked: _Asked) -> str:
        """Undo the move, where nobody moved the channel since; what became of it."""
        place = self.place
        if self._named() != self.release.digest:
            return f"{self.channel} was moved again by another program"
        if asked.before is None or asked.before == self.release.digest:
            return f"{self.channel} names it all the same: nothing was there before. Promote another release"
        put_tag(place, place.registry.get_manifest(place.repository, asked.before), self.channel)
        return f"{self.channel} had been moved, and names {asked.before.short} again"

    def _done(self, standing: Standing, known: Attestations, verdict: Verdict, glass: str) -> Promotion | None:
        """The record that put the channel there, whose tag it still is. One by a break-glass counts no more as soon as
        the policy lets the release pass: then there is another one to write."""
        found = records(self.place, self.release.digest, self.verifier, known=known)
        mine = [each for each in found if each[0] in standing.promotions(self.channel)]
        counts = [each for each in mine if glass or not each[0].break_glass]
        if not counts:
            return None
        record, digest = max(counts, key=lambda pair: pair[0].time)
        return Promotion(record, digest, changed=False, verdict=verdict)

    def _way(self, standing: Standing, known: Attestations) -> Way | None:
        own = next((each for each in self.order if each.name == self.channel), None)
        if own is None:
            return None
        vouching = self.policy.attestors
        return read_way(self.place, standing, self.order, own, known, self.verifier, now=self.now, attestors=vouching)

    def _named(self) -> Digest | None:
        return digest_at(self.place, self.channel)

    def _seen(self) -> _Seen:
        place, digest = self.place, self.release.digest
        listed = place.registry.referrers(place.repository, digest)
        return _Seen(
            frozenset(each.digest for each in listed),
            digest_at(place, cosign_tag(digest, "sig")),
            digest_at(place, self.release.tag),
        )


def _allowed(place: Place, verdict: Verdict, standing: Standing, decision: Outcome, channel: str) -> Digest:
    """The manifest of the signed verdict that lets it pass. Raises PromotionDenied."""
    steps = in_order([*decision.steps, Step(kind="promote")]) if decision.steps else ()
    if decision.held:
        raise PromotionHeld(
            f"{verdict.image} is allowed, and held: {decision.held}",
            state=decision.held,
            reasons=decision.reasons,
            steps=steps,
            where=f"{place}@{verdict.release}",
            do="Make what is missing or wait for it, then promote it",
        )
    latest = standing.verdicts.latest(verdict.image, verdict.policy)
    if latest is None or not decision.passes:
        raise PromotionDenied(
            f"{verdict.image} may not be promoted to {channel}",
            reasons=decision.reasons,
            steps=steps,
            where=f"{place}@{verdict.release}",
            do="Remove the reasons or change the policy, then judge the release again",
        )
    return latest.digest
