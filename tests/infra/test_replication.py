"""Native replication on the double: rules in one call, backfills with all their ways to fail, arrivals by digest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.infra.apply import apply_plan
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.ecr.cloud import EcrSettings
from registry_pipelines.infra.ecr.replicating import Waiting
from registry_pipelines.infra.ecr.wanted import Wanted
from registry_pipelines.infra.plan import Plan, make_plan
from registry_pipelines.shared.documents import FolderDocuments
from tests.doubles.aws.ecr_policies import EcrPolicies
from tests.doubles.aws.ecr_replication import Backfill, EcrReplication
from tests.doubles.aws.front import ACCOUNT
from tests.doubles.aws.sts import Role, Sts
from tests.infra.cloud import AWAY, REGION, Cloud

FILLED = {"replication": [{"to": ["us-east-1"], "prefixes": ["ml/"], "backfill": True}]}
ABROAD = "444455556666"


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self, ecr: Cloud) -> None:
        self.now = 1_800_000_000.0
        ecr.aws.clock = lambda: self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(ecr: Cloud) -> Clock:
    return Clock(ecr)


def settings(ecr: Cloud, infra: dict[str, Any], clock: Clock, *, limit_s: float = 600.0) -> tuple[EcrSettings, Any]:
    """One registry's settings in the cloud, where waiting costs nothing, and what is declared."""
    declared = load(ecr.write(infra)).infra["eu"]
    waiting = Waiting(limit_s=limit_s, sleep=clock.sleep, clock=lambda: clock.now)
    asking = Asking(ecr.calls, account=ACCOUNT, region=REGION)
    cloud = EcrSettings("eu", asking, state=FolderDocuments(ecr.folder / "state"), waiting=waiting)
    return cloud, Wanted(declared, account=ACCOUNT, region=REGION).settings


def applied(ecr: Cloud, infra: dict[str, Any], clock: Clock, **options: Any) -> dict[str, Any]:
    """Outcomes by kind and name."""
    cloud, wanted = settings(ecr, infra, clock, **options)
    plan = make_plan(cloud, cloud.read(wanted))
    return {str(each.key): each for each in apply_plan(cloud, plan, fresh=True).outcomes}


def planned(ecr: Cloud, infra: dict[str, Any], clock: Clock) -> Plan:
    cloud, wanted = settings(ecr, infra, clock)
    return make_plan(cloud, cloud.read(wanted))


BACKFILL = "ecr:backfill 123456789012/us-east-1"


def test_a_thousand_repositories_are_set_up_backfilled_and_verified_in_one_apply(ecr: Cloud, clock: Clock) -> None:
    """1.1 times the calls that the changes need at most: a rule, a backfill with its results, and the destination's
    list of each repository. A second plan asks the lists alone."""
    names = [f"ml/r{number}" for number in range(1000)]
    digests = {name: ecr.push(ecr.here, name, "v1") for name in names}
    declared = {**FILLED, "repositories": [{"names": names, "immutable": False, "scan_on_push": False}]}
    outcomes = applied(ecr, declared, clock)
    counted = ecr.asked()
    needed = 1 + 1 + 1 + 1000
    assert outcomes[BACKFILL].facts == {"images": 1000, "verified": 1000, "repositories": 1000}
    assert sum(counted.values()) <= 1.1 * needed, counted
    assert {name: ecr.away.repositories[name].tags["v1"] for name in names} == digests
    plan = planned(ecr, declared, clock)
    assert plan.settled and sum(ecr.asked().values()) == 9


def test_what_is_pushed_later_arrives_with_its_deletion_and_under_the_same_name(ecr: Cloud, clock: Clock) -> None:
    assert all(each.ok for each in applied(ecr, {"replication": [
        {"to": ["us-east-1"], "prefixes": ["ml/"], "deletes": True}, {"to": ["us-east-1"], "prefixes": ["tools"]},
    ]}, clock).values())  # fmt: skip
    replication = ecr.aws.area(EcrReplication)
    for name in ("ml/a", "tools", "other"):
        pushed(ecr, name, "v1")
    assert set(ecr.away.repositories) == {"ml/a", "tools"}
    for name in ("ml/a", "tools"):
        deleted(ecr, name, "v1")
    assert not ecr.away.repositories["ml/a"].images and ecr.away.repositories["tools"].images
    replication.hold = True
    pushed(ecr, "ml/a", "v2")
    assert "v2" not in ecr.away.repositories["ml/a"].tags
    replication.release()
    assert "v2" in ecr.away.repositories["ml/a"].tags


def pushed(ecr: Cloud, name: str, tag: str) -> str:
    digest = ecr.push(ecr.here, name, tag)
    tell(ecr, name, digest, tag, "PUSH")
    return digest


def deleted(ecr: Cloud, name: str, tag: str) -> None:
    digest = ecr.here.repositories[name].tags[tag]
    ecr.here.note_deleted(name, digest)
    tell(ecr, name, digest, tag, "DELETE")


def tell(ecr: Cloud, name: str, digest: str, tag: str, action: str) -> None:
    detail = {"repository-name": name, "image-digest": digest, "image-tag": tag, "action-type": action}
    ecr.aws.tell("aws.ecr", "ECR Image Action", detail, account=ACCOUNT, region=REGION, resources=[])


def filled(ecr: Cloud, images: int, *, broken: int = 0) -> None:
    for number in range(images):
        ecr.push(ecr.here, f"ml/r{number:03}", "v1")
    ecr.aws.area(EcrReplication).broken = {f"ml/r{number:03}" for number in range(broken)}


def test_a_backfill_that_half_fails_is_given_up_by_ecr_and_started_anew_by_the_next_apply(
    ecr: Cloud, clock: Clock
) -> None:
    filled(ecr, 120, broken=60)
    [outcome] = [each for key, each in applied(ecr, FILLED, clock).items() if key == BACKFILL]
    assert outcome.state == "failed"
    assert "ended as FAILED" in outcome.why and "60 of 100 images failed (KmsAccessDenied 60)" in outcome.why
    assert not planned(ecr, FILLED, clock).settled
    ecr.aws.area(EcrReplication).broken = set()
    assert applied(ecr, FILLED, clock)[BACKFILL].facts["verified"] == 120
    assert planned(ecr, FILLED, clock).settled


def test_a_backfill_that_ends_well_and_lost_images_is_no_success(ecr: Cloud, clock: Clock) -> None:
    """Below a hundred images ECR judges nothing: it says COMPLETE."""
    filled(ecr, 40, broken=30)
    outcome = applied(ecr, FILLED, clock)[BACKFILL]
    assert outcome.state == "failed" and "30 of 40 images did not arrive" in outcome.why
    assert ecr.aws.area(EcrReplication).backfills[-1].status == "COMPLETE"
    ecr.aws.area(EcrReplication).broken = set()
    assert applied(ecr, FILLED, clock)[BACKFILL].ok


def test_a_backfill_that_runs_is_waited_for_and_no_second_one_started(ecr: Cloud, clock: Clock) -> None:
    filled(ecr, 3)
    replication = ecr.aws.area(EcrReplication)
    replication.backfill_s = 3600.0
    first = applied(ecr, FILLED, clock, limit_s=60.0)[BACKFILL]
    assert first.state == "failed" and "goes on; the same command waits for it" in first.why
    assert applied(ecr, FILLED, clock, limit_s=7200.0)[BACKFILL].ok
    assert len(replication.backfills) == 1


def test_a_backfill_that_somebody_else_started_is_waited_for(ecr: Cloud, clock: Clock) -> None:
    filled(ecr, 3)
    cloud, wanted = settings(ecr, FILLED, clock)
    plan = make_plan(cloud, cloud.read(wanted))
    replication = ecr.aws.area(EcrReplication)
    replication.backfill_s = 60.0
    units = [(f"ml/r{number:03}", ecr.here.repositories[f"ml/r{number:03}"].tags["v1"], "v1") for number in range(3)]
    replication.backfills.append(Backfill(ecr.here, {"registryId": ACCOUNT, "region": AWAY}, clock.now, units))
    outcomes = {str(each.key): each for each in apply_plan(cloud, plan, fresh=True).outcomes}
    assert outcomes[BACKFILL].facts["verified"] == 3 and len(replication.backfills) == 1


def test_a_rule_that_changed_owes_a_backfill_also_after_a_kill(ecr: Cloud, clock: Clock) -> None:
    """An older backfill that ended well is none of the new rule."""
    filled(ecr, 3)
    assert applied(ecr, FILLED, clock)[BACKFILL].ok
    ecr.push(ecr.here, "tools", "v1")
    wider = {"replication": [{"to": ["us-east-1"], "prefixes": ["ml/", "tools"], "backfill": True}]}
    assert [str(each.key) for each in planned(ecr, wider, clock).actions] == [
        "ecr:replication 123456789012/us-east-1", BACKFILL,
    ]  # fmt: skip
    cloud, wanted = settings(ecr, wider, clock)
    plan = make_plan(cloud, cloud.read(wanted))
    [rule] = [each for each in plan.actions if each.kind == "ecr:replication"]
    assert all(each.ok for each in cloud.apply([rule]))  # and here the process is killed
    assert [str(each.key) for each in planned(ecr, wider, clock).actions] == [BACKFILL]
    assert applied(ecr, wider, clock)[BACKFILL].facts["verified"] == 4
    assert "tools" in ecr.away.repositories and planned(ecr, wider, clock).settled


def test_a_backfill_of_the_rules_before_is_followed_by_one_of_the_new(ecr: Cloud, clock: Clock) -> None:
    filled(ecr, 3)
    replication = ecr.aws.area(EcrReplication)
    replication.backfill_s = 600.0
    applied(ecr, FILLED, clock, limit_s=5.0)
    ecr.push(ecr.here, "tools", "v1")
    wider = {"replication": [{"to": ["us-east-1"], "prefixes": ["ml/", "tools"], "backfill": True}]}
    assert applied(ecr, wider, clock, limit_s=7200.0)[BACKFILL].facts["verified"] == 4
    assert len(replication.backfills) == 2


def test_another_account_has_to_allow_it_and_what_arrived_there_is_not_verified_from_here(
    ecr: Cloud, clock: Clock
) -> None:
    filled(ecr, 2)
    declared = {"replication": [{"to": [f"{ABROAD}/eu-west-1"], "backfill": True}]}
    key = f"ecr:backfill {ABROAD}/eu-west-1"
    assert not ecr.registries.at(ABROAD, REGION).repositories
    refused = applied(ecr, declared, clock)[key]
    assert refused.state == "failed" and "2 of 2 images failed (DestinationAccessDenied 2)" in refused.why
    plan = planned(ecr, declared, clock)
    assert not plan.settled
    [need] = [note for note in plan.notes if ABROAD in note]
    ecr.aws.area(EcrPolicies).registry_policies[ABROAD, REGION] = need[need.index("{") :].replace(
        f'"{ACCOUNT}"', f'"arn:aws:iam::{ACCOUNT}:root"'
    )
    outcome = applied(ecr, declared, clock)[key]
    assert outcome.ok and outcome.facts["verified"] == 0 and "another account" in str(outcome.facts["not_verified"])
    assert set(ecr.registries.at(ABROAD, REGION).repositories) == {"ml/r000", "ml/r001"}
    assert planned(ecr, declared, clock).settled


def test_a_destination_in_another_account_that_is_configured_is_verified_there(ecr: Cloud) -> None:
    """By the role of that registry."""
    filled(ecr, 3)
    role = f"arn:aws:iam::{ABROAD}:role/reader"
    ecr.aws.area(Sts).roles[role] = Role()
    allowed = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "ecr:*"}
    ecr.aws.area(EcrPolicies).registry_policies[ABROAD, REGION] = json.dumps({"Statement": [allowed]})
    path = ecr.write({"replication": [{"to": [f"{ABROAD}/eu-west-1"], "backfill": True}]})
    other = f'other: {{kind: ecr, account: "{ABROAD}", region: {REGION}, role: "{role}", endpoint: "{ecr.aws.url}"}}'
    path.write_text(path.read_text().replace("registries:\n", f"registries:\n  {other}\n"))
    applied = Chain(load(path)).apply_infra("eu")
    [backfill] = [row for row in applied.rows if row["kind"] == "ecr:backfill"]
    assert backfill["told"] == "images 3; verified 3; repositories 3", applied.reasons


def test_a_destination_that_is_declared_absent_goes_and_others_stay(ecr: Cloud, clock: Clock) -> None:
    both = {"replication": [{"to": ["us-east-1", "ap-south-1"], "prefixes": ["ml/"]}]}
    assert all(each.ok for each in applied(ecr, both, clock).values())
    gone = {"replication": [{"to": ["us-east-1"], "absent": True}]}
    outcomes = applied(ecr, gone, clock)
    assert {key: each.action for key, each in outcomes.items()} == {"ecr:replication 123456789012/us-east-1": "delete"}
    [rule] = ecr.aws.area(EcrReplication).rules[ACCOUNT, REGION]
    assert [each["region"] for each in rule["destinations"]] == ["ap-south-1"]


def test_rules_that_somebody_changed_since_the_plan_are_left(ecr: Cloud, clock: Clock) -> None:
    cloud, wanted = settings(ecr, {"replication": [{"to": ["us-east-1"], "prefixes": ["ml/"]}]}, clock)
    plan = make_plan(cloud, cloud.read(wanted))
    theirs = [{"destinations": [{"registryId": ACCOUNT, "region": AWAY}]}]
    ecr.aws.area(EcrReplication).rules[ACCOUNT, REGION] = theirs
    [outcome] = apply_plan(cloud, plan, fresh=True).outcomes
    assert outcome.state == "failed" and "somebody changed it" in outcome.why
    assert ecr.aws.area(EcrReplication).rules[ACCOUNT, REGION] == theirs
