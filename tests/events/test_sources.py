"""Both queues against the clouds' doubles: held, given again, acknowledged; and what the command line shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from google.pubsub_v1 import types

from registry_pipelines.cli import main
from registry_pipelines.errors import Forbidden, NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.events.aside import MAX_ASIDE, keep_aside, read_aside
from registry_pipelines.events.model import Pushed
from registry_pipelines.events.pubsub import PubSubSource
from registry_pipelines.events.source import Received
from registry_pipelines.events.sqs import SqsSource
from registry_pipelines.events.told import Fact, merged, read_told, tell
from registry_pipelines.registry.client.retries import NEVER, Retries
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.shared.documents import FolderDocuments
from tests.answers import answered
from tests.doubles.aws.front import AwsDouble, Html
from tests.doubles.google import Fault, GoogleCloud
from tests.doubles.google.services.pubsub import PubSub, create_subscription, create_topic, publish
from tests.events.messages import gcr, image_action, replication

QUICK = Retries(attempts=3, first_wait_s=0.01, repeat_stalls=False)
SUBSCRIPTION = "projects/ml-prod/subscriptions/registry-pipelines"
TOPIC = "projects/ml-prod/topics/gcr"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def queue(aws: AwsDouble) -> str:
    return str(
        boto3.Session().client("sqs", region_name="eu-west-1").create_queue(QueueName="registry-events")["QueueUrl"]
    )


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    with GoogleCloud(tmp_path / "google") as double:
        create_topic(double.world, types.Topic(name=TOPIC))
        create_subscription(double.world, types.Subscription(name=SUBSCRIPTION, topic=TOPIC))
        yield double


def send(url: str, *messages: bytes) -> None:
    client = boto3.Session().client("sqs", region_name="eu-west-1")
    for message in messages:
        client.send_message(QueueUrl=url, MessageBody=message.decode())


def test_a_queue_of_sqs_gives_holds_and_drops(aws: AwsDouble, queue: str) -> None:
    source = SqsSource(AwsAccess("eu-west-1", endpoint=aws.url), queue, retries=QUICK)
    send(queue, *(image_action(tag=f"v{number}") for number in range(23)), b"{")
    aws.fail("ReceiveMessage", Html(503))
    first = source.receive(15, hold_s=300)
    assert len(first) == 15 and len({each.receipt for each in first}) == 15
    rest = source.receive(100, hold_s=300)
    assert len(rest) == 9 and source.receive(100, hold_s=300) == []
    found = [each.event for each in (*first, *rest)]
    assert {each.tag for each in found if isinstance(each, Pushed)} == {f"v{number}" for number in range(23)}
    [bad] = [each for each in (*first, *rest) if each.event is None]
    assert bad.raw == b"{" and bad.problem
    assert (source.state().waiting, source.state().held) == (0, 24)
    assert "no dead-letter queue" in source.state().notes[0]
    before = aws.count("DeleteMessageBatch")
    receipts = [each.receipt for each in (*first, *rest)]
    assert source.acknowledge([*receipts, *receipts]) == 0
    assert aws.count("DeleteMessageBatch") - before == 3
    assert (source.state().waiting, source.state().held) == (0, 0)


def test_a_queue_that_refuses_says_what_is_missing(aws: AwsDouble, queue: str) -> None:
    source = SqsSource(AwsAccess("eu-west-1", endpoint=aws.url), queue, retries=NEVER)
    aws.deny("sqs:ReceiveMessage")
    with pytest.raises(Forbidden) as raised:
        source.receive(1, hold_s=60)
    assert raised.value.where == queue and "sqs:ReceiveMessage" in raised.value.what
    absent = SqsSource(AwsAccess("eu-west-1", endpoint=aws.url), f"{queue}-none", retries=NEVER)
    with pytest.raises(RegistryPipelinesError):
        absent.receive(1, hold_s=60)


def tell_gcr(google: GoogleCloud, *messages: bytes) -> None:
    for data in messages:
        publish(google.world, types.PublishRequest(topic=TOPIC, messages=[types.PubsubMessage(data=data)]))


def left(google: GoogleCloud) -> int:
    return len(google.world.state(PubSub).waiting[SUBSCRIPTION])


def test_a_subscription_gives_holds_longer_than_its_deadline_and_drops(google: GoogleCloud) -> None:
    source = PubSubSource(
        GoogleAccess("ml-prod", "europe-west1", endpoint=google.endpoint), SUBSCRIPTION, retries=QUICK
    )
    tell_gcr(google, *(gcr(tag=f"v{number}") for number in range(12)), b"\xff")
    google.world.fail("Pull", Fault(html=502))
    found = source.receive(100, hold_s=300)
    assert len(found) == 13 and source.receive(100, hold_s=300) == []
    [bad] = [each for each in found if each.event is None]
    assert bad.raw == b"\xff"
    pushed = [each.event for each in found if isinstance(each.event, Pushed)]
    assert {each.tag for each in pushed} == {f"v{number}" for number in range(12)} and all(each.at for each in pushed)
    leases = [each.lease for each in google.world.state(PubSub).waiting[SUBSCRIPTION]]
    assert all(lease and (lease[1] - google.world.now()).total_seconds() > 200 for lease in leases)
    assert source.acknowledge([each.receipt for each in found]) == 0
    assert left(google) == 0
    assert source.state().notes == ()


def test_a_subscription_that_is_not_there_says_so(google: GoogleCloud) -> None:
    access = GoogleAccess("ml-prod", "europe-west1", endpoint=google.endpoint)
    with pytest.raises(NotFound) as raised:
        PubSubSource(access, f"{SUBSCRIPTION}-none", retries=NEVER).receive(1, hold_s=60)
    assert raised.value.where.endswith("-none")
    google.world.fail("Pull", Fault(html=503, times=9))
    with pytest.raises(Unavailable):
        PubSubSource(access, SUBSCRIPTION, retries=QUICK).receive(1, hold_s=60)


CONFIG = """
registries:
  ecr: {{kind: ecr, account: "111122223333", region: eu-west-1, endpoint: "{aws}", events: {{sqs: "{queue}"}}}}
  gar:
    kind: gar
    project: ml-prod
    location: europe-west1
    endpoint: "{google}"
    events: {{pubsub: {subscription}}}
images:
  app: {{registry: ecr, repository: team/app}}
signing: {{generate: true}}
"""


def test_the_command_line_shows_what_waits_and_what_failed(
    aws: AwsDouble, queue: str, google: GoogleCloud, tmp_path: Path
) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(CONFIG.format(aws=aws.url, queue=queue, google=google.endpoint, subscription=SUBSCRIPTION))
    state = FolderDocuments(tmp_path / ".registry-pipelines" / "events" / "ecr")
    failed = {"digest": f"sha256:{'a' * 64}", "repository": "team/app", "registry": "r", "source": "us-west-2"}
    tell(state, [Fact(topic="replication", at="2026-01-02T03:04:05Z", ok=False, said="failed", **failed)])
    keep_aside(state.under("aside"), [Received("r", None, "it is no event", b"hello")], at="2026-01-02T03:04:05Z")
    send(queue, image_action(repository="team/app"), replication("FAILED"))

    def run(*arguments: str, code: int = 0) -> dict[str, object]:
        found = CliRunner().invoke(main, [*arguments, "--config", str(path), "--json"])
        assert found.exit_code == code, found.output
        return dict(answered(found.stdout))

    checked = run("events", "check")
    rows = {row["registry"]: row for row in checked["rows"]}  # type: ignore[attr-defined]
    assert (rows["ecr"]["waiting"], rows["ecr"]["unreadable"], rows["ecr"]["failed"]) == (2, 1, 1)
    assert rows["gar"]["answers"] and rows["gar"]["waiting"] == "not told"
    shown = run("events", "show", "ecr")
    assert {row["what"] for row in shown["rows"]} == {"pushed", "replication failed"}  # type: ignore[attr-defined]
    aws.deny("sqs:GetQueueAttributes")
    assert run("events", "check", "ecr", code=7)["reasons"]


def facts() -> list[Fact]:
    common = {"registry": "r", "repository": "app", "source": "s"}
    return [
        Fact(
            topic="scan",
            digest=f"sha256:{number % 3}",
            at=f"2026-01-0{1 + number % 5}",
            ok=bool(number % 2),
            said="x",
            **common,
        )
        for number in range(20)
    ]


def test_what_was_told_is_the_same_in_any_order_and_is_told_once(tmp_path: Path) -> None:
    told = facts()
    assert merged(told, told) == merged([], reversed(told)) == merged(told[7:], told[:7])
    folder = FolderDocuments(tmp_path / "events")
    assert tell(folder, told) == read_told(folder) and tell(folder, reversed(told)) == []
    (tmp_path / "events" / "told.json").write_text("{")
    assert tell(folder, told[:1]) == told[:1]


def test_what_nobody_can_read_is_kept_once_and_in_bounds(tmp_path: Path) -> None:
    message = Received("r", None, "it is no event", b"\xffhello")
    folder = FolderDocuments(tmp_path)
    assert len(keep_aside(folder, [message, message], at="2026")) == 1
    [kept] = read_aside(folder).values()
    assert kept.body == "\\xffhello" and kept.problem == "it is no event"
    for number in range(MAX_ASIDE):
        (tmp_path / f"{number}.json").write_text("")
    [said] = keep_aside(folder, [Received("r", None, "no", b"other")], at="2026")
    assert f"{MAX_ASIDE} such are kept already" in said
