"""Registries that tell of their pushes: a message, and the partition is there; nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import dagster as dg
import pytest
import yaml
from botocore.config import Config as BotoConfig

from dagster_project.definitions import build_definitions
from dagster_project.memory import Memory
from registry_pipelines.chain import Chain
from registry_pipelines.chain.events import STRANGE
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.events.aside import read_aside
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared.documents import FolderDocuments
from tests.dagster_project.conftest import World, write_settings
from tests.doubles.aws.front import AwsDouble
from tests.events.messages import bridge, image_action, replication, scan

GOOD = {"calm": "1.0"}


@dataclass
class Told(World):
    """The world of the other tests, whose source registry is ECR's: ``ecr`` is the registry ``source`` by its API."""

    queue: Any
    url: str

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.queue.send_message(QueueUrl=self.url, MessageBody=message.decode())

    def waiting(self) -> int:
        """Messages that are neither acknowledged nor held."""
        asked = self.queue.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        return int(asked["ApproximateNumberOfMessages"])

    def held(self) -> int:
        asked = self.queue.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        return int(asked["ApproximateNumberOfMessagesNotVisible"])

    def told_push(self, tag: str, *, image: str = "app", packages: dict[str, str] = GOOD) -> tuple[str, bytes]:
        """Push an image: its key, and the message about it."""
        repository = self.config.images[image].repository
        made = self.push_to("source", repository, tag, packages, note=f"{image} {tag}")
        message = image_action(repository=repository, digest=str(made.digest), tag=tag)
        return self.key(image, tag, made.digest), message

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("release"))


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        yield double


@pytest.fixture(scope="module")
def queue(aws: AwsDouble) -> Any:
    """A client of the queues; it takes longer to make than it is used for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        options = BotoConfig(retries={"total_max_attempts": 1, "mode": "standard"})
        return boto3.client("sqs", region_name="eu-west-1", endpoint_url=aws.url, config=options)


@pytest.fixture
def told(tmp_path: Path, aws: AwsDouble, queue: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    url = queue.create_queue(QueueName=f"registry-{uuid4().hex}")["QueueUrl"]
    path = write_settings(tmp_path)
    raw = yaml.safe_load(path.read_text())
    raw["registries"]["ecr"] = {
        "kind": "ecr",
        "account": "111122223333",
        "region": "eu-west-1",
        "endpoint": aws.url,
        "reachable_as": f"127.0.0.1:{raw['registries']['source']['port']}",
        "events": {"sqs": url},
    }
    for image in raw["images"].values():
        image["registry"] = "ecr"
    raw["retention"] = []
    path.write_text(yaml.safe_dump(raw))
    config = load(path)
    with ensure_registries(config), dg.DagsterInstance.ephemeral() as instance:
        chain = Chain(config)
        yield Told(config, chain, build_definitions(config, lambda: chain), instance, queue, url)


def tick(world: Told, cursor: str | None) -> tuple[list[str], str]:
    found = world.tick("push_ecr", cursor)
    return [str(request.partition_key) for request in found.run_requests or []], str(found.cursor)


def test_a_push_is_seen_by_its_message_without_listing_and_acknowledged_by_the_next_tick(
    told: Told, aws: AwsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = told.told_push("v0")
    asked, cursor = tick(told, None)  # the first look lists: what is there was there before
    assert asked == [] and len(told.partitions()) == 1
    key, message = told.told_push("v1")
    monkeypatch.setattr(type(told.chain), "releases", no_listing)
    assert tick(told, cursor)[0] == []  # nobody told, and it is not due
    told.send(message, before)
    asked, after = tick(told, cursor)
    assert asked == [key] and key in told.partitions()
    assert told.held() == 2 and len(Memory.read(after).receipts) == 2  # not acknowledged: this cursor may be lost
    asked, last = tick(told, after)
    assert asked == [] and told.held() == told.waiting() == 0
    assert Memory.read(last).receipts == []


def no_listing(*_: Any, **__: Any) -> Any:
    raise AssertionError("the registry is listed")


def test_a_kill_before_the_cursor_is_kept_loses_nothing_and_doubles_nothing(told: Told) -> None:
    _, cursor = tick(told, None)
    key, message = told.told_push("v1")
    told.send(message)
    first = told.tick("push_ecr", cursor)
    [asked] = first.run_requests or []
    [receipt] = Memory.read(str(first.cursor)).receipts  # its time is over
    told.queue.change_message_visibility(QueueUrl=told.url, ReceiptHandle=receipt, VisibilityTimeout=0)
    again = told.tick("push_ecr", cursor)  # the daemon was killed: it has the old cursor
    [repeated] = again.run_requests or []
    assert (asked.run_key, asked.partition_key) == (repeated.run_key, repeated.partition_key) and key
    assert tick(told, again.cursor)[0] == [] and told.held() == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_events_shuffled_and_doubled_give_the_partitions_that_listing_gives(told: Told, seed: int) -> None:
    _, cursor = tick(told, None)
    messages, kept = [], set()
    for tag in ("v1", "v2", "v3", "v4"):
        key, message = told.told_push(tag, image="app" if tag < "v3" else "tool")
        messages.append(message)
        kept.add(key)
    place = Place(told.chain.registry("source"), "team/app")
    gone = told.told_push("v9")
    messages += [gone[1], image_action("DELETE", digest=str(Digest.of(b"never there")), tag="v8")]
    place.registry.delete_manifest(place.repository, place.registry.resolve(place.repository, "v9").digest)
    messages.append(image_action("DELETE", repository="team/app", digest=f"sha256:{'9' * 64}", tag="v9"))
    messages.append(image_action(repository="team/app", tag="sha256-" + "1" * 64))
    messages.append(image_action(repository="team/app", tag="prod"))
    messages.append(image_action(repository="team/stranger"))
    messages = [*messages, *messages, b"{", b"no event"]
    random.Random(seed).shuffle(messages)
    told.send(*messages)
    asked: list[str] = []
    for _ in range(12):
        found, cursor = tick(told, cursor)
        asked += found
    assert sorted(asked) == sorted(kept)
    assert told.partitions() == kept
    assert told.waiting() == told.held() == 0
    assert {
        each.problem for each in read_aside(FolderDocuments(told.config.state / "events" / "ecr" / "aside")).values()
    }
    by_listing = {release.digest for release in told.chain.releases()}
    assert by_listing == {told.release(key).digest for key in kept}


def test_a_deleted_release_goes_when_the_registry_says_so_and_comes_back_when_pushed_again(told: Told) -> None:
    _, cursor = tick(told, None)
    key, message = told.told_push("v1")
    told.send(message)
    asked, cursor = tick(told, cursor)
    assert asked == [key]
    digest = told.release(key).digest
    told.send(image_action("DELETE", repository="team/app", digest=str(digest), tag="v1"))
    _, cursor = tick(told, cursor)
    assert told.partitions() == {key}  # somebody says so, and it is not true
    place = Place(told.chain.registry("source"), "team/app")
    place.registry.delete_manifest(place.repository, digest)
    told.send(image_action("DELETE", repository="team/app", digest=str(digest), tag="v1"))
    _, cursor = tick(told, cursor)
    assert told.partitions() == set()
    again, message = told.told_push("v1")
    told.send(message)
    asked, cursor = tick(told, cursor)
    assert asked == [again] == [key]


def test_what_the_cap_leaves_comes_again(told: Told) -> None:
    _, cursor = tick(told, None)
    keys = []
    for tag in ("v1", "v2", "v3", "v4", "v5"):
        key, message = told.told_push(tag)
        keys.append(key)
        told.send(message)
    asked: list[str] = []
    for _ in range(4):
        found, cursor = tick(told, cursor)
        asked += found
    assert sorted(asked) == sorted(keys)


def test_a_queue_that_does_not_answer_is_said_and_the_registry_is_listed(told: Told, aws: AwsDouble) -> None:
    _, cursor = tick(told, None)
    key, _ = told.told_push("v1")
    memory = Memory.read(cursor)
    memory.listed_s -= 60
    told.queue.delete_queue(QueueUrl=told.url)
    found = told.tick("push_ecr", memory.write())
    assert [request.partition_key for request in found.run_requests or []] == [key]


def test_a_message_that_was_lost_is_made_up_by_the_next_look_at_everything(told: Told) -> None:
    _, cursor = tick(told, None)
    key, _ = told.told_push("v1")
    asked, cursor = tick(told, cursor)
    assert asked == []
    memory = Memory.read(cursor)
    memory.listed_s -= 600
    assert tick(told, memory.write())[0] == [key]


def test_a_registry_that_is_silent_keeps_its_messages(told: Told) -> None:
    _, cursor = tick(told, None)
    silent, message = told.told_push("v1")
    key, other = told.told_push("v1", image="tool")
    told.send(message, other)
    index = told.config.state / "registries" / "source" / "team" / "app" / "index.json"
    whole = index.read_text()
    index.write_text("{")
    asked, cursor = tick(told, cursor)
    assert asked == [key] and len(Memory.read(cursor).receipts) == 1
    index.write_text(whole)
    assert tick(told, cursor)[0] == [] and told.held() == 1  # what was not done is held still, and comes again
    told.send(message)
    assert tick(told, cursor)[0] == [silent]


def test_a_scan_that_ended_asks_again_for_what_was_not_let_go_and_is_shown(told: Told) -> None:
    _, cursor = tick(told, None)
    key, message = told.told_push("v1", packages={"calm": "1.0", "leaky": "1.0"})
    told.send(message)
    asked, cursor = tick(told, cursor)
    assert asked == [key]
    told.run(key)
    assert told.instance.get_materialized_partitions(dg.AssetKey("verdict")) == {key}
    digest = str(told.release(key).digest)
    told.send(scan(repository="team/app", digest=digest, HIGH=1), scan(repository="team/app", digest=digest, HIGH=1))
    found = told.tick("push_ecr", cursor)
    [request] = found.run_requests or []
    assert request.partition_key == key
    [shown] = found.asset_events
    assert shown.asset_key == dg.AssetKey("vulnerabilities") and shown.partition == key
    assert "1 high" in str(shown.description)
    told.send(scan(repository="team/app", digest=digest, HIGH=1))
    again = told.tick("push_ecr", str(found.cursor))
    assert not again.run_requests and not again.asset_events  # it was told already


def test_a_replication_that_failed_is_visible(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    _, cursor = tick(told, None)
    late = "2026-01-02T04:00:00Z"
    told.send(replication("FAILED", repository="team/app", at=late), replication(repository="team/app"))
    found = told.tick("push_ecr", cursor)
    assert "team/app: the registry's own replication failed" in str(found.skip_reason)
    [fact] = told.chain.told("ecr")
    assert not fact.ok and fact.source == "us-west-2"  # the older word does not count
    told.send(replication(repository="team/app", at="2026-01-02T05:00:00Z"))
    told.tick("push_ecr", str(found.cursor))
    assert [each.ok for each in told.chain.told("ecr")] == [True]


def test_messages_about_other_registries_are_said_and_dropped(told: Told) -> None:
    _, cursor = tick(told, None)
    other = json.loads(image_action(repository="team/app"))
    told.send(json.dumps({**other, "region": "us-east-1"}).encode(), bridge("Something", {}, source="aws.s3"))
    found = told.tick("push_ecr", cursor)
    assert "1 message about other registries" in str(found.skip_reason)
    tick(told, str(found.cursor))
    assert told.held() == told.waiting() == 0


def test_a_look_at_the_queues_each_hour_says_what_failed_and_whether_they_answer(told: Told) -> None:
    [schedule] = [each for each in told.defs.schedules or [] if each.name == "ask_events_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "20 * * * *"
    [spec] = [each for each in told.defs.resolve_all_asset_specs() if each.key.path == ["events"]]
    assert spec.freshness_policy is not None
    assert looked(told) == {"answered": "", "all_told_well": ""}
    _, cursor = tick(told, None)
    told.send(b"no event", replication("FAILED", repository="team/app"))
    tick(told, cursor)
    found = looked(told)
    assert found["answered"] == "" and "replication of team/app: the registry's own" in found["all_told_well"]
    assert "ecr: a message cannot be read" in found["all_told_well"]
    told.queue.delete_queue(QueueUrl=told.url)
    assert looked(told)["answered"].startswith("ecr: ")


def looked(told: Told) -> dict[str, str]:
    """What each check of a look at the queues found; nothing of one that passed."""
    ran = told.run(None, job="ask_events")
    assert ran.success
    return {each.check_name: "" if each.passed else str(each.description) for each in ran.get_asset_check_evaluations()}


def test_a_message_from_the_future_outlasts_nothing(told: Told) -> None:
    """The newest word counts, and anybody who may write to the queue chooses its date."""
    _, cursor = tick(told, None)
    told.send(replication(repository="team/app", at="9999-12-31T23:59:59Z"))
    found = told.tick("push_ecr", cursor)
    assert "1 message about what is still to come, not taken" in str(found.skip_reason) and not told.chain.told("ecr")
    told.send(replication("FAILED", repository="team/app"))
    told.tick("push_ecr", str(found.cursor))
    assert [each.ok for each in told.chain.told("ecr")] == [False]


def test_a_queue_of_another_program_loses_nothing(told: Told) -> None:
    told.send(*(f'{{"order": {number}}}'.encode() for number in range(STRANGE)))
    heard = told.chain.hear("ecr", most=STRANGE, hold_s=120)
    assert not heard.receipts and f"of {STRANGE} messages none can be read" in heard.notes[-1]
    assert told.held() == STRANGE
    assert len(list((told.config.state / "events" / "ecr" / "aside").glob("*.json"))) == 1
    told.send(b"no event", image_action(repository="team/app"))
    assert len(told.chain.hear("ecr", most=STRANGE, hold_s=120).receipts) == 2  # some poison among events is dropped
