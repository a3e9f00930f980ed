"""What a configuration says of a registry's events."""

from __future__ import annotations

from typing import Annotated

import msgspec

from registry_pipelines.settings import Duration, Pattern

SQS = Pattern(
    r"^https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?/[0-9]{12}/[A-Za-z0-9_-]{1,80}(\.fifo)?$",
    "the URL of an SQS queue",
    "write https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",
)
SUBSCRIPTION = Pattern(
    r"^projects/[a-z0-9:.-]{1,100}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}$",
    "a subscription of Pub/Sub",
    "write projects/PROJECT/subscriptions/NAME",
)


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """How soon events are acted on, of either cloud."""

    interval: Duration = Duration(seconds=5)
    """How often the queue is asked."""
    reconcile: Duration = Duration(minutes=10)
    """How often the registry is listed all the same: events are best effort."""


class SqsEvents(Events, frozen=True, kw_only=True):
    """Events of ECR and Inspector that EventBridge puts into a queue (docs/events.md)."""

    sqs: Annotated[str, SQS]
    """URL of the queue, which this registry's sensor reads alone."""


class PubSubEvents(Events, frozen=True, kw_only=True):
    """Messages of the topic `gcr` (docs/events.md)."""

    pubsub: Annotated[str, SUBSCRIPTION]
    """Subscription, which this registry's sensor reads alone."""
