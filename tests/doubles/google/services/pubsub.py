"""google.pubsub.v1 Publisher and Subscriber: topics, filtered subscriptions, pull, acknowledge; no streaming pull."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import rest_base as publisher_rest
from google.pubsub_v1.services.publisher.transports.grpc import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import rest_base as subscriber_rest
from google.pubsub_v1.services.subscriber.transports.grpc import SubscriberGrpcTransport

from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import Service
from tests.doubles.google.services import iam_policy
from tests.doubles.google.world import Refusal, World, page, stamp

_CLAUSE = re.compile(r'\s*attributes(?:\.([A-Za-z_-][\w-]*)\s*=\s*"([^"]*)"|:([A-Za-z_-][\w-]*))\s*')
_ID = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][\w.~+%-]{2,254}")
MAX_PULL = 1000


@dataclass
class Waiting:
    """One message of one subscription. lease: its acknowledgement id and until when it is given to somebody."""

    message: types.PubsubMessage
    lease: tuple[str, datetime] | None = None
    attempts: int = 0


@dataclass
class PubSub:
    """Topics, subscriptions, and what waits in them."""

    topics: dict[str, types.Topic] = field(default_factory=dict)
    subscriptions: dict[str, types.Subscription] = field(default_factory=dict)
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


def _named(name: str) -> None:
    if not _ID.fullmatch(name):
        raise Refusal("INVALID_ARGUMENT", f"You have passed an invalid argument to the service (argument={name}).")


def create_topic(world: World, request: types.Topic) -> types.Topic:
    state = world.state(PubSub)
    _named(request.name)
    if request.name in state.topics:
        raise Refusal("ALREADY_EXISTS", "Resource already exists in the project (resource=topic).")
    state.topics[request.name] = request
    return request


def get_topic(world: World, request: types.GetTopicRequest) -> types.Topic:
    return _topic(world, request.topic)


def _topic(world: World, name: str) -> types.Topic:
    if name not in world.state(PubSub).topics:
        raise Refusal("NOT_FOUND", f"Resource not found (resource={name.rpartition('/')[2]}).")
    return world.state(PubSub).topics[name]


def list_topics(world: World, request: types.ListTopicsRequest) -> types.ListTopicsResponse:
    topics = world.state(PubSub).topics
    found = [topics[name] for name in sorted(topics) if name.startswith(request.project + "/")]
    part, after = page(found, request.page_size, request.page_token)
    return types.ListTopicsResponse(topics=part, next_page_token=after)


def delete_topic(world: World, request: types.DeleteTopicRequest) -> Empty:
    """Its subscriptions stay, and say `_deleted-topic_`."""
    _topic(world, request.topic)
    state = world.state(PubSub)
    del state.topics[request.topic]
    for subscription in state.subscriptions.values():
        if subscription.topic == request.topic:
            subscription.topic = "_deleted-topic_"
    return Empty()


def publish(world: World, request: types.PublishRequest) -> types.PublishResponse:
    """Every subscription of the topic whose filter fits gets a message of its own."""
    _topic(world, request.topic)
    state = world.state(PubSub)
    ids = []
    for message in request.messages:
        if not message.data and not message.attributes:
            raise Refusal("INVALID_ARGUMENT", "Some messages in the batch are empty.")
        number = str(next(state.numbers))
        ids.append(number)
        for name, subscription in state.subscriptions.items():
            if subscription.topic == request.topic and _fits(subscription.filter, dict(message.attributes)):
                made = types.PubsubMessage()
                types.PubsubMessage.copy_from(made, message)
                made.message_id, made.publish_time = number, stamp(world.now())
                state.waiting[name].append(Waiting(made))
    return types.PublishResponse(message_ids=ids)


def _fits(text: str, attributes: dict[str, str]) -> bool:
    for clause in text.split(" AND ") if text else ():
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise Refusal("INVALID_ARGUMENT", f"Invalid filter: {text}")
        if match[3] and match[3] not in attributes:
            return False
        if match[1] and attributes.get(match[1]) != match[2]:
            return False
    return True


def create_subscription(world: World, request: types.Subscription) -> types.Subscription:
    state = world.state(PubSub)
    _named(request.name)
    _topic(world, request.topic)
    _fits(request.filter, {})
    if request.name in state.subscriptions:
        raise Refusal("ALREADY_EXISTS", "Resource already exists in the project (resource=subscription).")
    if request.ack_deadline_seconds and not 10 <= request.ack_deadline_seconds <= 600:
        raise Refusal("INVALID_ARGUMENT", "Invalid ack deadline: must be between 10 and 600.")
    request.ack_deadline_seconds = request.ack_deadline_seconds or 10
    state.subscriptions[request.name] = request
    state.waiting[request.name] = []
    return request


def get_subscription(world: World, request: types.GetSubscriptionRequest) -> types.Subscription:
    return _subscription(world, request.subscription)


def _subscription(world: World, name: str) -> types.Subscription:
    if name not in world.state(PubSub).subscriptions:
        raise Refusal("NOT_FOUND", f"Resource not found (resource={name.rpartition('/')[2]}).")
    return world.state(PubSub).subscriptions[name]


def delete_subscription(world: World, request: types.DeleteSubscriptionRequest) -> Empty:
    _subscription(world, request.subscription)
    state = world.state(PubSub)
    del state.subscriptions[request.subscription], state.waiting[request.subscription]
    return Empty()


def pull(world: World, request: types.PullRequest) -> types.PullResponse:
    """Messages that nobody holds; each is held for the acknowledgement deadline, then given out again."""
    subscription = _subscription(world, request.subscription)
    if request.max_messages < 1:
        raise Refusal("INVALID_ARGUMENT", "max_messages: must be positive")
    now, state = world.now(), world.state(PubSub)
    given = []
    for waiting in state.waiting[request.subscription]:
        if len(given) >= min(request.max_messages, MAX_PULL):
            break
        if waiting.lease and waiting.lease[1] > now:
            continue
        waiting.attempts += 1
        ack = f"ack-{next(state.numbers)}"
        waiting.lease = (ack, now + timedelta(seconds=subscription.ack_deadline_seconds))
        given.append(types.ReceivedMessage(ack_id=ack, message=waiting.message))
        if subscription.dead_letter_policy.dead_letter_topic:
            given[-1].delivery_attempt = waiting.attempts
    return types.PullResponse(received_messages=given)


def acknowledge(world: World, request: types.AcknowledgeRequest) -> Empty:
    """An id that is over is ignored: the message comes again (its request's documentation)."""
    _subscription(world, request.subscription)
    now, state = world.now(), world.state(PubSub)
    state.waiting[request.subscription] = [
        each
        for each in state.waiting[request.subscription]
        if not (each.lease and each.lease[0] in request.ack_ids and each.lease[1] > now)
    ]
    return Empty()


def modify_ack_deadline(world: World, request: types.ModifyAckDeadlineRequest) -> Empty:
    """0 gives the message back at once."""
    _subscription(world, request.subscription)
    if not 0 <= request.ack_deadline_seconds <= 600:
        raise Refusal("INVALID_ARGUMENT", "ack_deadline_seconds: must be between 0 and 600")
    until = world.now() + timedelta(seconds=request.ack_deadline_seconds)
    for each in world.state(PubSub).waiting[request.subscription]:
        if each.lease and each.lease[0] in request.ack_ids:
            each.lease = (each.lease[0], until) if request.ack_deadline_seconds else None
    return Empty()


PUBLISHER = Service(
    "publisher",
    read_methods(PublisherGrpcTransport, publisher_rest._BasePublisherRestTransport),
    {
        "CreateTopic": create_topic,
        "GetTopic": get_topic,
        "ListTopics": list_topics,
        "DeleteTopic": delete_topic,
        "Publish": publish,
        **iam_policy.HANDLERS,
    },
    {"Publish": "pubsub.topics.publish", "CreateTopic": "pubsub.topics.create"},
)
_SUBSCRIBER: dict[str, Any] = {
    "CreateSubscription": create_subscription,
    "GetSubscription": get_subscription,
    "DeleteSubscription": delete_subscription,
    "Pull": pull,
    "Acknowledge": acknowledge,
    "ModifyAckDeadline": modify_ack_deadline,
    **iam_policy.HANDLERS,
}
SUBSCRIBER = Service(
    "subscriber",
    read_methods(SubscriberGrpcTransport, subscriber_rest._BaseSubscriberRestTransport),
    _SUBSCRIBER,
    dict.fromkeys(("Pull", "Acknowledge", "ModifyAckDeadline"), "pubsub.subscriptions.consume"),
)
