"""Break-glass and revocation: what is believed of them, and what the gate makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import (
    BREAK_GLASS_TYPE,
    CLOSING_TYPE,
    LIFTING_TYPE,
    PROMOTION_TYPE,
    REVOCATION_TYPE,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.promote import gate
from registry_pipelines.promote.documents import DEFAULT_POLICY, TIME_FORMAT, PromotionRecord
from registry_pipelines.promote.intervening import end, revoke
from registry_pipelines.promote.interventions import BreakGlass, Closing, Interventions, Revocation, read_interventions
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import Standing, read_standing
from tests.evidence.parts import Key
from tests.promote.parts import CRITICAL, NOW, Candidate


def told(item: Candidate, **more: Any) -> dict[str, Any]:
    return {
        "image": "app",
        "version": item.release.tag,
        "release": item.top.digest,
        "reason": "the fix is urgent",
        "by": "jane",
        "identity": "claimed",
        "time": NOW.strftime(TIME_FORMAT),
        **more,
    }


def say(item: Candidate, kind: str, statement: msgspec.Struct | dict[str, Any], key: Key | None = None) -> Digest:
    plain = statement if isinstance(statement, dict) else msgspec.json.decode(encode_json(statement))
    return attest(item.place, item.top, kind, plain, (key or item.key).signer).digest


def glass(item: Candidate, *, hours: int = 4, channel: str = "prod", **more: Any) -> BreakGlass:
    expires = (NOW + timedelta(hours=hours)).strftime(TIME_FORMAT)
    return BreakGlass(**told(item, **more), channel=channel, expires=expires)


def read(item: Candidate, verifier: KeySet | None = None) -> Interventions:
    believing = verifier or item.key.verifier
    return read_interventions(read_attestations(item.place, item.top.digest, believing), item.top.digest)


def standing(item: Candidate) -> Standing:
    known = read_attestations(item.place, item.top.digest, item.key.verifier)
    return read_standing(item.place, item.release, known, item.key.verifier)


def asked(item: Candidate, *, channel: str = "prod", now: datetime = NOW) -> gate.Outcome:
    """What the gate says about a promotion, with what a break-glass excuses."""
    verdict, found = item.judge(now=now), standing(item)
    return gate.excused(gate.may_promote(verdict, found, DEFAULT_POLICY, {}), verdict, found, channel=channel, now=now)


@pytest.fixture
def bad(bare: Candidate) -> Candidate:
    """A release that is denied by a signed verdict."""
    bare.attach_everything(CRITICAL)
    bare.sign()
    bare.publish(bare.judge())
    return bare


def test_a_break_glass_excuses_its_release_on_its_channel_until_it_expires_or_is_closed(bad: Candidate) -> None:
    assert not asked(bad).passes
    opened = say(bad, BREAK_GLASS_TYPE, glass(bad))
    found = asked(bad)
    assert found.passes
    assert found.accepted[0] == "break-glass by jane for prod until 2026-11-23T16:00:00Z: the fix is urgent"
    assert any("CVE-2026-1" in each for each in found.accepted)
    assert not asked(bad, channel="staging").passes
    late = asked(bad, now=NOW + timedelta(hours=4))
    assert late.reasons[-1].endswith("the fix is urgent: it has expired")
    assert [each.digest for each in read(bad).listed] == [opened], "expired, and listed until it is closed"
    say(bad, CLOSING_TYPE, Closing(**told(bad), ends=opened))
    assert not asked(bad).passes
    assert read(bad).listed == ()


def test_a_break_glass_needs_the_verdict_to_be_signed_as_it_is_now(bare: Candidate) -> None:
    say(bare, BREAK_GLASS_TYPE, glass(bare))
    found = asked(bare)
    assert "a break-glass needs it" in found.reasons[-1]
    bare.publish(bare.judge())
    assert asked(bare).passes


def test_a_break_glass_excuses_neither_a_revocation_nor_a_moved_version_tag(bad: Candidate) -> None:
    say(bad, BREAK_GLASS_TYPE, glass(bad))
    place, tag = bad.place, bad.release.tag
    child = place.registry.get_manifest(place.repository, bad.children[0].digest)
    place.registry.put_manifest(place.repository, child, tag=tag)
    assert any("a version tag never moves" in each for each in asked(bad).reasons)
    place.registry.put_manifest(
        place.repository, place.registry.get_manifest(place.repository, bad.top.digest), tag=tag
    )
    assert asked(bad).passes
    say(bad, REVOCATION_TYPE, Revocation(**told(bad)))
    bad.publish(bad.judge(now=NOW + timedelta(minutes=1)))
    assert asked(bad).reasons[0] == "revoked by jane at 2026-11-23T12:00:00Z: the fix is urgent"


def test_a_break_glass_for_another_digest_or_image_counts_for_nothing(bad: Candidate) -> None:
    say(bad, BREAK_GLASS_TYPE, glass(bad, release=Digest.of(b"other")))
    say(bad, BREAK_GLASS_TYPE, glass(bad, image="tool"))
    say(bad, BREAK_GLASS_TYPE, msgspec.structs.replace(glass(bad), expires="tomorrow"))
    say(bad, BREAK_GLASS_TYPE, {"channel": "prod"})
    assert not asked(bad).passes


def test_a_break_glass_lasts_seven_days_whatever_is_signed(bad: Candidate) -> None:
    """The command asks for less; whoever has the key may sign anything, also a day years from now."""
    say(bad, BREAK_GLASS_TYPE, glass(bad, hours=7 * 24 + 1))
    begins, ends = (f"2036-01-0{day}T00:00:00Z" for day in (1, 8))
    say(bad, BREAK_GLASS_TYPE, msgspec.structs.replace(glass(bad), time=begins, expires=ends))
    assert not asked(bad).passes
    say(bad, BREAK_GLASS_TYPE, glass(bad, hours=7 * 24))
    assert asked(bad).passes


def test_a_revocation_outlives_a_list_of_referrers_that_somebody_wrote_anew(good: Candidate) -> None:
    """Where a registry has no referrers API whoever may push writes that list, and leaves one out."""
    place, jane = good.place, Person("jane", "claimed")
    options: dict[str, Any] = {"by": jane, "reason": "it leaks", "now": NOW}
    made, new = revoke(place, good.release, good.key.verifier, good.key.signer, **options)
    assert new and [each.digest for each in read(good).revocations] == [made.digest], "in two places it is one"
    assert revoke(place, good.release, good.key.verifier, good.key.signer, **options) == (made, False)
    place.registry.delete_manifest(place.repository, made.digest)
    assert read(good).revoked and "it leaks" in good.judge().reasons[0]
    again = read(good).revoked
    assert again
    end(place, good.release, good.key.verifier, good.key.signer, again, **options, lift=True)
    assert read(good).revoked is None


def test_a_revocation_in_two_places_is_lifted_and_closed_once(good: Candidate) -> None:
    options: dict[str, Any] = {"by": Person("jane", "claimed"), "reason": "it leaks", "now": NOW}
    made, _ = revoke(good.place, good.release, good.key.verifier, good.key.signer, **options)
    end(good.place, good.release, good.key.verifier, good.key.signer, made, **options)
    assert read(good).listed == () and read(good).revoked
    end(good.place, good.release, good.key.verifier, good.key.signer, made, **options, lift=True)
    assert read(good).revoked is None


def test_a_revocation_denies_whatever_the_verdict_says_until_it_is_lifted(good: Candidate) -> None:
    good.publish(good.judge())
    allowing = good.judge()
    assert asked(good).passes
    revoked = say(good, REVOCATION_TYPE, Revocation(**told(good)))
    reason = "revoked by jane at 2026-11-23T12:00:00Z: the fix is urgent"
    assert good.judge().reasons == (reason,)
    assert gate.may_promote(allowing, standing(good), DEFAULT_POLICY, {}).reasons == [reason]
    assert gate.may_run(standing(good), [], DEFAULT_POLICY, now=NOW).reasons[0] == reason
    assert gate.may_leave(standing(good), [], DEFAULT_POLICY, channel="prod", now=NOW).reasons[0] == reason
    say(good, CLOSING_TYPE, Closing(**told(good), ends=revoked))
    assert read(good).listed == ()
    assert read(good).revoked is not None, "what is closed goes on denying"
    say(good, LIFTING_TYPE, Closing(**told(good), ends=Digest.of(b"another")))
    assert read(good).revoked is not None
    say(good, LIFTING_TYPE, Closing(**told(good), ends=revoked))
    assert asked(good).passes


def test_a_revocation_that_cannot_be_read_denies_and_one_that_nobody_trusts_does_not(
    good: Candidate, other_key: Key
) -> None:
    say(good, REVOCATION_TYPE, Revocation(**told(good)), other_key)
    assert read(good) == Interventions()
    say(good, REVOCATION_TYPE, {"reason": ["no", "text"]})
    [only] = good.judge().reasons
    assert only.startswith("revoked by sha256:")


def test_only_a_persons_key_breaks_a_glass_or_lifts_a_revocation(bad: Candidate, other_key: Key) -> None:
    believing = load_verifier([], {"promoter": [bad.key.public], "person": [other_key.public]})
    say(bad, BREAK_GLASS_TYPE, glass(bad))
    revoked = say(bad, REVOCATION_TYPE, Revocation(**told(bad)))
    say(bad, LIFTING_TYPE, Closing(**told(bad), ends=revoked))
    found = read(bad, believing)
    assert (len(found.glasses), len(found.revocations)) == (0, 1)
    say(bad, BREAK_GLASS_TYPE, glass(bad), other_key)
    say(bad, LIFTING_TYPE, Closing(**told(bad), ends=revoked), other_key)
    found = read(bad, believing)
    assert (len(found.glasses), len(found.revocations)) == (1, 0)


def test_what_a_break_glass_let_in_may_leave_while_it_holds(bad: Candidate) -> None:
    opened = say(bad, BREAK_GLASS_TYPE, glass(bad))

    def leaves(now: datetime = NOW) -> gate.Outcome:
        return gate.may_leave(standing(bad), [], DEFAULT_POLICY, channel="prod", now=now)

    assert leaves().reasons[-1] == "promotion: no signed record puts prod on it"
    record = PromotionRecord(
        image="app",
        repository=str(bad.place),
        channel="prod",
        to_digest=bad.top.digest,
        from_digest="",
        version=bad.release.tag,
        promoted_by="jane",
        verdict=opened,
        policy_digest=DEFAULT_POLICY.digest,
        time=NOW.strftime(TIME_FORMAT),
        break_glass=opened,
    )
    say(bad, PROMOTION_TYPE, record)
    assert leaves().passes
    assert leaves().accepted[0].startswith("break-glass by jane")
    assert not leaves(NOW + timedelta(hours=5)).passes
