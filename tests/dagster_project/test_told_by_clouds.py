"""From a push to the run that it asks for, by what the doubles of both clouds tell by themselves, as the clouds do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import dagster as dg
import pytest
import yaml
from google.pubsub_v1 import types

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.dagster_project.conftest import World, write_settings
from tests.doubles.aws.ecr import ACCOUNT, REGION, EcrDouble
from tests.doubles.google import GoogleCloud
from tests.doubles.google.accounts import service_account_file
from tests.doubles.google.services.pubsub import PubSub, create_subscription, create_topic

GOOD = {"calm": "1.0"}
SUBSCRIPTION, TOPIC = "projects/ml-prod/subscriptions/pushes", "projects/ml-prod/topics/gcr"


def world_of(folder: Path, registry: dict[str, object], repository: str) -> World:
    path = write_settings(folder)
    raw = yaml.safe_load(path.read_text())
    raw["registries"]["source"] = registry
    raw["images"] = {"app": {"registry": "source", "repository": repository, "promote": "auto"}}
    raw["mirrors"], raw["retention"] = {}, []
    path.write_text(yaml.safe_dump(raw))
    config = load(path)
    chain = Chain(config)
    return World(config, chain, build_definitions(config, lambda: chain), dg.DagsterInstance.ephemeral())


def pushed(world: World, tag: str) -> str:
    made = world.push_to("source", world.config.images["app"].repository, tag, GOOD, note=tag)
    return world.key("app", tag, made.digest)


def follow(world: World, emptied: Callable[[], bool]) -> None:
    """A first look, then three pushes and a deletion, each told by the cloud alone."""
    found = world.tick("push_source", None)
    keys = [pushed(world, "v1"), pushed(world, "v2")]
    found = world.tick("push_source", found.cursor)
    assert sorted(str(each.partition_key) for each in found.run_requests or []) == sorted(keys)
    keys.append(pushed(world, "v3"))
    found = world.tick("push_source", found.cursor)
    assert [each.partition_key for each in found.run_requests or []] == keys[-1:]
    place = Place(world.chain.registry("source"), world.config.images["app"].repository)
    place.registry.delete_manifest(place.repository, world.release(keys[0]).digest)
    found = world.tick("push_source", found.cursor)
    assert set(world.instance.get_dynamic_partitions("release")) == set(keys[1:])
    world.tick("push_source", found.cursor)
    assert emptied()


def test_artifact_registry_tells_of_pushes(tmp_path: Path) -> None:
    with GoogleCloud(tmp_path / "google") as google:
        google.repository("ml-prod", "europe-west1", "models")
        plane = google.registry("europe-west1")
        create_topic(google.world, types.Topic(name=TOPIC))
        create_subscription(google.world, types.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        registry = {
            "kind": "gar",
            "project": "ml-prod",
            "location": "europe-west1",
            "endpoint": google.endpoint,
            "reachable_as": plane.address,
            "credentials": str(service_account_file(google.world, tmp_path / "key.json", google.endpoint)),
            "events": {"pubsub": SUBSCRIPTION},
        }
        world = world_of(tmp_path, registry, "ml-prod/models/app")
        with world.instance:
            follow(world, lambda: not google.world.state(PubSub).waiting[SUBSCRIPTION])


@pytest.fixture
def ecr(tmp_path: Path) -> Iterator[EcrDouble]:
    with EmbeddedServer(tmp_path / "registry") as server, EcrDouble(server.address) as double:
        yield double


def test_ecr_tells_of_pushes(ecr: EcrDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ecr.environment.items():
        monkeypatch.setenv(name, value)
    queue = boto3.client("sqs", region_name=REGION, endpoint_url=ecr.url)
    url = queue.create_queue(QueueName="image-pushes")["QueueUrl"]
    told: list[dict[str, object]] = []
    ecr.listeners.append(told.append)

    def deliver() -> None:
        """EventBridge's rule: what was told is in the queue."""
        for event in told:
            at = datetime.fromtimestamp(float(str(event["time"])), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            queue.send_message(QueueUrl=url, MessageBody=json.dumps({"version": "0", "id": "x", **event, "time": at}))
        told.clear()

    registry = {
        "kind": "ecr",
        "account": ACCOUNT,
        "region": REGION,
        "endpoint": ecr.url,
        "reachable_as": ecr.proxy_address,
        "events": {"sqs": url},
    }
    world = world_of(tmp_path, registry, "team/app")
    before = world.tick

    def tick(*arguments: str | None) -> dg.SensorResult:
        deliver()
        return before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world, "tick", tick)

    def emptied() -> bool:
        state = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return all(int(state[name]) == 0 for name in names)

    with world.instance:
        follow(world, emptied)
