"""A subscription of Google Pub/Sub to the topic ``gcr``, or to one of Artifact Analysis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import NotFound, Stalled
from registry_pipelines.events.gcr_topic import read_gcr
from registry_pipelines.events.source import QueueState, Received, portions, read
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.gar.calls import ANSWER_S, GoogleCalls

if TYPE_CHECKING:
    from registry_pipelines.registry.gar.access import GoogleAccess

BATCH = 1000
"""Messages in one pull (Pub/Sub quotas, "Messages per pull"); acknowledgements are bounded by 512 KiB a request."""
ACKNOWLEDGED = 1000
SHORTEST_PULL_S = 5
"""An empty subscription answers after some time of its own; a tick waits no longer than this."""
LONGEST_HOLD_S = 600
"""Pub/Sub's longest deadline. What is acknowledged after it is delivered again, mostly."""


class PubSubSource:
    """One subscription by its name, ``projects/P/subscriptions/S``. Implements EventSource."""

    def __init__(self, access: GoogleAccess, subscription: str, *, retries: Retries | None = None) -> None:
        self.where = subscription
        self._calls = GoogleCalls(access, retries=retries or Retries(repeat_stalls=False))

    def receive(self, most: int, *, hold_s: int, wait_s: int = 0) -> list[Received]:
        """See EventSource. A pull may give fewer than there are. It waits where nothing is there: to ask
        for no wait is deprecated."""
        request = {"subscription": self.where, "max_messages": min(most, BATCH)}
        try:
            answer = self._call("pull", "receiving messages", request, answer_s=max(wait_s, SHORTEST_PULL_S))
        except Stalled:
            return []  # nothing came; what came that very moment is given again after the deadline
        found = [self._read(each) for each in answer.received_messages]
        if found:  # a subscription holds for 10 s unless told, which is less than a sensor's interval
            receipts = [each.receipt for each in found]
            self._modify(receipts, min(hold_s, LONGEST_HOLD_S))
        return found

    def acknowledge(self, receipts: Sequence[str]) -> int:
        """See EventSource. Pub/Sub does not say which it could not drop."""
        for some in portions(receipts, ACKNOWLEDGED):
            request = {"subscription": self.where, "ack_ids": list(some)}
            self._call("acknowledge", "acknowledging messages", request)
        return 0

    def state(self) -> QueueState:
        """See EventSource. How many wait is Cloud Monitoring's to say."""
        told = self._call("get_subscription", "asking about the subscription", {"subscription": self.where})
        notes = []
        if told.push_config.push_endpoint:
            notes.append("it pushes to an address, and nothing can be pulled: make a subscription of the kind pull")
        if told.enable_exactly_once_delivery:
            notes.append("exactly-once delivery is on: not needed here, and it refuses late acknowledgements")
        if told.filter:
            notes.append(f"it has a filter, and what that leaves out is never told: {told.filter[:200]}")
        if told.message_retention_duration and told.message_retention_duration.total_seconds() < 24 * 3600:
            notes.append("messages are dropped after less than a day (messageRetentionDuration)")
        if told.topic == "_deleted-topic_":
            raise NotFound(
                "the subscription's topic is deleted", where=self.where, do="Make the topic `gcr` and a subscription"
            )
        return QueueState(self.where, notes=tuple(notes))

    def _read(self, received: Any) -> Received:
        published, where = _utc(received.message.publish_time), self.where
        decode = partial(read_gcr, published=published, where=where)
        return read(decode, bytes(received.message.data), received.ack_id)

    def _modify(self, receipts: Sequence[str], hold_s: int) -> None:
        for some in portions(receipts, ACKNOWLEDGED):
            request = {"subscription": self.where, "ack_ids": list(some), "ack_deadline_seconds": hold_s}
            self._call("modify_ack_deadline", "holding messages", request)

    def _call(self, method: str, doing: str, request: dict[str, Any], *, answer_s: float = ANSWER_S) -> Any:
        from google.pubsub_v1 import SubscriberClient

        client = self._calls.client(SubscriberClient)
        permission = "pubsub.subscriptions.get" if method == "get_subscription" else "pubsub.subscriptions.consume"
        return self._calls.call(
            getattr(client, method), request, where=self.where, doing=doing, answer_s=answer_s, permission=permission
        )


def _utc(at: Any) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""
