"""Approvals: whose count, as what, until when, and how one is taken back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import APPROVAL_TYPE
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.promote.approvals import Approvals, PublishedApproval, new_approval, publish, read_approvals
from registry_pipelines.promote.person import Person
from tests.evidence.parts import Key
from tests.promote.parts import NOW, Candidate

ANNA = Person("anna@example.com", "claimed")
DAY = timedelta(days=1)


def say(
    item: Candidate, capacity: str = "qa", *, now: datetime = NOW, by: Key | None = None, **more: Any
) -> PublishedApproval:
    key = by or item.key
    approval = new_approval(item.place, item.release, capacity, more.pop("person", ANNA), now=now, **more)
    return publish(item.place, item.top, approval, key.signer, key.verifier)


def found(item: Candidate, verifier: KeySet | None = None) -> Approvals:
    return read_approvals(item.place, item.top.digest, verifier or item.key.verifier)


def standing(item: Candidate, capacity: str = "qa", *, now: datetime = NOW, image: str = "app") -> list[str]:
    return [each.approval.approved_by for each in found(item).standing(capacity, image=image, now=now)]


@pytest.mark.peer("docker-registry")
def test_an_approval_names_who_gave_it_for_what_as_what_and_why(good: Candidate) -> None:
    assert not found(good).published
    made = say(good, note="  looked at the forecasts of March ", lasts=30 * DAY)
    [read] = found(good).published
    assert (read.approval, read.digest, read.key_id) == (made.approval, made.digest, good.key.signer.key_id)
    approval = read.approval
    assert (approval.image, approval.version, approval.release) == ("app", "v1-good", good.top.digest)
    assert (approval.capacity, approval.approved_by, approval.identity) == ("qa", "anna@example.com", "claimed")
    assert (approval.note, approval.time) == ("looked at the forecasts of March", "2026-11-23T12:00:00Z")
    assert approval.expires == "2026-12-23T12:00:00Z"
    assert standing(good) == ["anna@example.com"]
    assert standing(good, "security") == standing(good, image="other") == []
    assert found(good).why_none("security", image="app", now=NOW) == "nobody approved it as security"


def test_an_approval_counts_until_it_ends(good: Candidate) -> None:
    say(good, lasts=DAY)
    assert standing(good, now=NOW + DAY - timedelta(seconds=1))
    assert not standing(good, now=NOW + DAY)
    why = found(good).why_none("qa", image="app", now=NOW + DAY)
    assert why == "the approval of anna@example.com as qa ended at 2026-11-24T12:00:00Z"


def test_a_withdrawal_takes_back_what_was_said_before_and_nothing_later(good: Candidate) -> None:
    say(good)
    say(good, person=Person("ben", "claimed"))
    assert standing(good, now=NOW + DAY) == ["anna@example.com", "ben"]
    say(good, withdraw=True, note="wrong in May", person=Person("ben", "claimed"))
    assert standing(good, now=NOW + DAY) == []
    why = found(good).why_none("qa", image="app", now=NOW + DAY)
    assert why == "ben withdrew it as qa at 2026-11-23T12:00:02Z: wrong in May"
    say(good, "security")
    assert standing(good, "security", now=NOW + DAY) == ["anna@example.com"]
    say(good)
    assert standing(good, now=NOW + DAY) == ["anna@example.com"]


def test_the_same_approval_is_written_once(good: Candidate) -> None:
    first = say(good, note="fine")
    again = say(good, note="fine", now=NOW + DAY)
    assert (first.changed, again.changed, again.digest) == (True, False, first.digest)
    assert say(good, note="still fine", now=NOW + DAY).changed


def test_an_approval_of_the_future_waits_for_its_day(good: Candidate) -> None:
    say(good, now=NOW + 3 * DAY)
    assert standing(good) == []
    assert "is dated 2026-11-26T12:00:00Z, which is not past" in found(good).why_none("qa", image="app", now=NOW)
    assert standing(good, now=NOW + 3 * DAY)


def test_a_key_that_is_no_persons_approves_nothing(good: Candidate, make_key: Callable[[str], Key]) -> None:
    ci, person = make_key("ci"), make_key("person")
    trusted = load_verifier([ci.public], {"person": [person.public]})
    approval = new_approval(good.place, good.release, "qa", ANNA, now=NOW)
    with pytest.raises(InputError, match="does not count as qa"):
        publish(good.place, good.top, approval, ci.signer, trusted)
    attest(good.place, good.top, APPROVAL_TYPE, msgspec.json.decode(encode_json(approval)), ci.signer)
    answer = found(good, trusted)
    assert not answer.published
    assert any("not as person" in refusal.reason for refusal in answer.rejected)
    publish(good.place, good.top, approval, person.signer, trusted)
    assert len(found(good, trusted).published) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"release": "sha256:" + "0" * 64}, "the approval is about sha256:0000"),
        ({"time": "yesterday"}, "`time` 'yesterday'"),
        ({"time": "2026-11-23T12:00:00+01:00"}, "`time`"),
        ({"time": "2026-1-3T1:0:0Z"}, "`time`"),
        ({"expires": "never"}, "`expires`"),
        ({"says": "perhaps"}, "says"),
        ({"image": 7}, "image"),
    ],
)
def test_a_bad_approval_is_no_approval_and_hides_no_good_one(
    good: Candidate, change: dict[str, Any], reason: str
) -> None:
    approval = new_approval(good.place, good.release, "qa", ANNA, now=NOW)
    attest(
        good.place, good.top, APPROVAL_TYPE, {**msgspec.json.decode(encode_json(approval)), **change}, good.key.signer
    )
    answer = found(good)
    assert not answer.published
    assert any(reason in refusal.reason for refusal in answer.rejected), answer.rejected
    say(good)
    assert standing(good) == ["anna@example.com"]


def test_what_cannot_be_said(good: Candidate) -> None:
    for capacity, note in (("QA", ""), ("", ""), ("qa", "x" * 2001), ("qa", "a\x07b")):
        with pytest.raises(InputError):
            new_approval(good.place, good.release, capacity, ANNA, now=NOW, note=note)
    other = msgspec.structs.replace(
        new_approval(good.place, good.release, "qa", ANNA, now=NOW), release=good.children[0].digest
    )
    with pytest.raises(SignatureInvalid, match="the approval is about"):
        publish(good.place, good.top, other, good.key.signer, good.key.verifier)
