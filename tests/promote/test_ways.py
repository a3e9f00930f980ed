"""Channels in order: from the channel before, after the hours there, approved; back at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from registry_pipelines.deploying.record import TIME_FORMAT, DeploymentRecord, Outcome, attest_deployment
from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.evidence.attestors import AttestorFiles
from registry_pipelines.evidence.key_files import read_public_keys
from registry_pipelines.evidence.keys import KeySet, PublicKeys, load_verifier
from registry_pipelines.evidence.model import Signer
from registry_pipelines.promote.approvals import new_approval
from registry_pipelines.promote.approvals import publish as publish_approval
from registry_pipelines.promote.attestors import choices, read_expression
from registry_pipelines.promote.channels import promote
from registry_pipelines.promote.documents import DEFAULT_POLICY, Promotion
from registry_pipelines.promote.judge import judge, require_promoted
from registry_pipelines.promote.order import Channel, Deployed
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.verdicts import publish
from registry_pipelines.promote.ways import releases_before
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration
from tests.evidence.parts import Key
from tests.promote.parts import NOW, Candidate
from tests.promote.test_channels import channel, passing
from tests.promote.test_interventions import glass, say

STAGING, PROD = Channel(name="staging"), Channel(name="prod")
DAY = Channel(name="prod", after=Duration(hours=24))
QA = Channel(name="prod", approvals=("qa",))
JANE = Person("jane", "claimed")
HOUR = timedelta(hours=1)


def go(item: Candidate, name: str, order: tuple[Channel, ...], now: datetime = NOW) -> Promotion:
    return promote(
        item.place,
        item.release,
        DEFAULT_POLICY,
        item.key.verifier,
        item.key.signer,
        channel=name,
        order=order,
        now=now,
        by=JANE,
    )


def held(item: Candidate, name: str, order: tuple[Channel, ...], now: datetime = NOW) -> tuple[str, str]:
    with pytest.raises(PromotionHeld) as caught:
        go(item, name, order, now)
    return caught.value.state, caught.value.reasons[0]


def test_a_release_comes_from_the_channel_before(place: Place, key: Key) -> None:
    one, order = passing(place, key, "one"), (STAGING, PROD)
    with pytest.raises(PromotionDenied, match="order: prod comes after staging"):
        go(one, "prod", order)
    assert channel(place) == ""
    go(one, "staging", order)
    assert go(one, "prod", order).changed
    assert channel(place) == channel(place, "staging") == one.top.digest


def test_hours_count_by_signed_records_and_without_a_break(place: Place, key: Key) -> None:
    order = (STAGING, DAY)
    one, two = passing(place, key, "one"), passing(place, key, "two")
    go(one, "staging", order)
    state, reason = held(one, "prod", order, NOW + 3 * HOUR)
    assert (state, reason) == ("time", "time: prod wants 1d under staging without a break, it was there for 3 h")
    go(two, "staging", order, NOW + 23 * HOUR)  # one has left staging after 23 hours
    assert "it was there for 23 h" in held(one, "prod", order, NOW + 100 * HOUR)[1]
    assert "it was there for 1 h" in held(two, "prod", order, NOW + 24 * HOUR)[1]
    go(one, "staging", order, NOW + 30 * HOUR)  # two stays go together to nothing
    assert "it was there for 23 h" in held(one, "prod", order, NOW + 35 * HOUR)[1]
    assert go(one, "prod", order, NOW + 54 * HOUR).changed


def test_promotions_of_one_second_are_walked_back_all_the_same(
    place: Place, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older builds signed them."""
    monkeypatch.setattr(
        "registry_pipelines.promote.channels._Gate.time_after", lambda gate, before: gate.now.strftime(TIME_FORMAT)
    )
    order = (STAGING, DAY)
    one, two, three = (passing(place, key, name) for name in ("one", "two", "three"))
    for item in (one, two, three):
        go(item, "staging", order)
    before = releases_before(place, three.release, "staging", key.verifier)
    assert [each.digest for each in before] == [two.top.digest, one.top.digest]
    assert "it was there for 0 s" in held(one, "prod", order, NOW + 25 * HOUR)[1]
    assert go(three, "prod", order, NOW + 25 * HOUR).changed


@pytest.mark.parametrize("back_s", [0, 2, 20])
def test_promotions_stand_behind_each_other_though_they_are_of_one_second_or_a_clock_was_set_back(
    place: Place, key: Key, back_s: int
) -> None:
    one, two, back = passing(place, key, "one"), passing(place, key, "two"), timedelta(seconds=back_s)
    times = []
    for item, now in ((one, NOW), (two, NOW - back), (one, NOW - back), (two, NOW - back)):
        times.append(go(item, "staging", (STAGING,), now).record.time)
        before = releases_before(place, item.release, "staging", key.verifier)
        there = (one, two) if item is two else (two,) if len(times) > 1 else ()
        assert [each.digest for each in before] == [each.top.digest for each in there if each is not item], times
    assert times == [f"{NOW + timedelta(seconds=number):{TIME_FORMAT}}" for number in range(4)]


def test_no_promotion_follows_a_wrong_clock_far_ahead(place: Place, key: Key) -> None:
    one, two = passing(place, key, "one"), passing(place, key, "two")
    go(one, "staging", (STAGING,), NOW + timedelta(minutes=1))
    assert go(two, "staging", (STAGING,)).record.time == f"{NOW:{TIME_FORMAT}}"


def test_a_release_that_left_after_its_hours_may_still_come(place: Place, key: Key) -> None:
    order = (STAGING, DAY)
    one, two = passing(place, key, "one"), passing(place, key, "two")
    go(one, "staging", order)
    go(two, "staging", order, NOW + 25 * HOUR)
    assert go(one, "prod", order, NOW + 26 * HOUR).changed


def test_a_channel_that_was_moved_by_hand_shows_no_hours(place: Place, key: Key) -> None:
    order = (STAGING, DAY)
    one, two = passing(place, key, "one"), passing(place, key, "two")
    go(one, "staging", order)
    place.registry.put_manifest(
        place.repository, place.registry.get_manifest(place.repository, two.top.digest), tag="staging"
    )
    assert "it was there for 0 s" in held(one, "prod", order, NOW + 48 * HOUR)[1]


def test_a_person_approves(place: Place, key: Key) -> None:
    order = (STAGING, QA)
    one = passing(place, key, "one")
    go(one, "staging", order)
    assert held(one, "prod", order) == ("approval", "approval: prod wants one as qa: nobody approved it as qa")
    approval = new_approval(place, one.release, "qa", JANE, now=NOW, lasts=timedelta(hours=2))
    publish_approval(place, one.top, approval, key.signer, key.verifier)
    assert "ended at" in held(one, "prod", order, NOW + 2 * HOUR)[1]
    assert go(one, "prod", order, NOW + HOUR).changed


def test_one_key_approves_as_one_person(place: Place, key: Key, other_key: Key) -> None:
    """Two capacities are two persons, where both are the same key's to give, too."""
    order = (STAGING, Channel(name="prod", approvals=("qa", "security")))
    one = passing(place, key, "one")
    go(one, "staging", order)
    both = KeySet([*key_of(key), *key_of(other_key)])

    def approve(capacity: str, by: Key) -> None:
        approval = new_approval(place, one.release, capacity, JANE, now=NOW)
        publish_approval(place, one.top, approval, by.signer, both)

    item = replace(one, key=replace(key, verifier=both))
    approve("qa", key)
    approve("security", key)
    state, reason = held(item, "prod", order)
    assert state == "approval" and reason.startswith("approval: prod wants one as security: it was approved by sha256:")
    assert reason.endswith("alone, which counts in another capacity: one key counts once")
    approve("qa", other_key)
    assert go(item, "prod", order).changed


def test_one_key_is_no_attestor_of_the_policy_and_a_capacity_of_the_channel(
    place: Place, key: Key, make_key: Callable[[str], Key]
) -> None:
    """The policy wants QA to vouch, the channel somebody of security: who is in both teams says it once."""
    anna, carl = make_key("anna"), make_key("carl")
    attestors = {
        name: AttestorFiles(["approval"], [each.public for each in members])
        for name, members in {"qa": (anna,), "security": (anna, carl)}.items()
    }
    verifier = load_verifier([key.public], attestors=attestors)
    item = replace(passing(place, key, "one"), key=replace(key, verifier=verifier))
    prod = Channel(name="prod", approvals=("security",))
    policy = msgspec.structs.replace(DEFAULT_POLICY, attestors="qa")

    def approve(capacity: str, by: Key) -> None:
        approval = new_approval(place, item.release, capacity, JANE, now=NOW)
        publish_approval(place, item.top, approval, by.signer, item.key.verifier)

    def promoted() -> Promotion:
        whole = judge(place, item.top, policy, verifier.under(["qa"]), image="app", now=NOW + HOUR)
        publish(place, item.top, whole, key.signer, verifier)
        asked = (place, item.release, policy, verifier, key.signer)
        return promote(*asked, channel="prod", order=(prod,), now=NOW + HOUR, by=JANE)

    approve("qa", anna)
    approve("security", anna)
    with pytest.raises(PromotionHeld, match="one key counts once"):
        promoted()
    approve("security", carl)
    assert promoted().changed


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("qa and legal", ["legal qa"]),
        ("qa or legal", ["qa", "legal"]),
        ("build and (qa or legal)", ["qa", "legal"]),
        ("qa or build", ["qa"]),
        ("build or scanner", [""]),
        ("(qa or legal) and (qa or build)", ["qa", "legal qa"]),
    ],
)
def test_the_ways_to_fulfil_an_expression(expression: str, expected: list[str]) -> None:
    found = choices(read_expression(expression), {"qa", "legal"})
    assert [" ".join(sorted(each)) for each in found] == expected


def key_of(key: Key) -> PublicKeys:
    return read_public_keys(key.signer.public_key_pem, where="test")


def test_a_rollback_waits_neither_for_hours_nor_for_a_person(place: Place, key: Key) -> None:
    order = (STAGING, Channel(name="prod", after=Duration(hours=24), approvals=("qa",)))
    one, two = passing(place, key, "one"), passing(place, key, "two")
    for number, item in enumerate((one, two)):
        now = NOW + number * 30 * HOUR
        go(item, "staging", order, now)
        approval = new_approval(place, item.release, "qa", JANE, now=now, lasts=timedelta(hours=26))
        publish_approval(place, item.top, approval, key.signer, key.verifier)
        go(item, "prod", order, now + 25 * HOUR)
    assert channel(place) == two.top.digest
    back = go(one, "prod", order, NOW + 60 * HOUR)
    assert (back.changed, channel(place)) == (True, one.top.digest)


def test_what_a_break_glass_let_in_was_not_let_in_by_the_gate(place: Place, key: Key) -> None:
    order = (STAGING, DAY)
    one = passing(place, key, "one")
    go(one, "staging", order)
    opened = say(one, "urn:registry-pipelines:break-glass:v1", glass(one))
    done = go(one, "prod", order)
    assert (done.record.break_glass, channel(place)) == (opened, one.top.digest)
    assert done.accepted[1].startswith("excused: time: prod wants 1d under staging")
    assert not go(one, "prod", order, NOW + HOUR).changed

    def leave(now: datetime) -> None:
        require_promoted(place, one.release, DEFAULT_POLICY, key.verifier, channel="prod", now=now)

    leave(NOW + HOUR)
    with pytest.raises(PromotionDenied, match="only a break-glass put prod on it, and that holds no longer"):
        leave(NOW + 5 * HOUR)
    late = NOW + 5 * HOUR  # the glass has expired: it is no rollback, and the time is asked for
    assert held(one, "prod", order, late)[0] == "time"
    regular = go(one, "prod", order, NOW + 24 * HOUR)
    assert (regular.changed, regular.record.break_glass) == (True, ""), "now the policy itself lets it be there"
    assert not go(one, "prod", order, NOW + 25 * HOUR).changed
    leave(NOW + 25 * HOUR)


RAN = Channel(name="prod", deployed=Deployed(names=("web",), run_for=Duration(hours=1)))


def looked(item: Candidate, minutes: int, outcome: Outcome = "running", *, signer: Signer | None = None) -> None:
    """A signed look at the deployment `web`, so long after the first one."""
    record = DeploymentRecord(
        deployment="web",
        image="app",
        version=item.release.tag,
        digest=item.top.digest,
        channel="staging",
        where="cluster x",
        written=f"x@{item.top.digest}",
        outcome=outcome,
        reasons=() if outcome == "running" else ("it crashed",),
        since=f"{NOW:{TIME_FORMAT}}" if outcome == "running" else "",
        time=f"{NOW + timedelta(minutes=minutes):{TIME_FORMAT}}",
    )
    attest_deployment(item.place, item.top, record, signer or item.key.signer)


def test_a_channel_waits_until_a_release_ran_where_it_must(place: Place, key: Key, other_key: Key) -> None:
    one, two, order = passing(place, key, "one"), passing(place, key, "two"), (STAGING, RAN)
    go(one, "staging", order)
    assert held(one, "prod", order) == (
        "deployment",
        "deployment: prod wants it at web, and nobody read back that it runs there",
    )
    later = NOW + 2 * HOUR  # a look of the future counts for nothing
    looked(one, 0)
    looked(one, 30)
    assert "for 1h without a break, it was seen there for 30 min" in held(one, "prod", order, later)[1]
    looked(one, 90, signer=other_key.signer)
    assert "it was seen there for 30 min" in held(one, "prod", order, later)[1], "of whose key is not believed"
    looked(one, 60)
    assert go(one, "prod", order, later).changed
    looked(one, 70, "failed")
    assert not go(one, "prod", order, later).changed, "what the gate let in waits no second time"

    go(two, "staging", order, later)
    looked(two, 61)
    looked(two, 62, "taken back")
    looked(two, 62)  # of one second the worse one counts
    with pytest.raises(PromotionDenied) as caught:
        go(two, "prod", order, later)
    assert not isinstance(caught.value, PromotionHeld)
    assert caught.value.reasons[0].startswith("deployment: it did not come up at web (")
    looked(two, 63)
    assert go(two, "prod", order, later).changed, "it came up after all"
