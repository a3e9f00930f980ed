"""A queue of Amazon SQS that an EventBridge rule puts ECR's events into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from registry_pipelines.events.eventbridge import read_eventbridge
from registry_pipelines.events.source import QueueState, Received, portions, read
from registry_pipelines.progress import count_text
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.ecr.calls import AwsCalls

if TYPE_CHECKING:
    from registry_pipelines.registry.ecr.access import AwsAccess

BATCH = 10
"""Messages in one request, both ways (SQS API reference, "ReceiveMessage", "DeleteMessageBatch")."""
LONGEST_HOLD_S = 12 * 3600
_REGION = re.compile(r"https://(?:sqs|queue)\.([a-z0-9-]+)\.")


class SqsSource:
    """One queue by its URL. Implements EventSource."""

    def __init__(self, access: AwsAccess, url: str, *, retries: Retries | None = None) -> None:
        self.where = url
        self._calls = AwsCalls(access, retries=retries)
        match = _REGION.match(url)
        self._region = match[1] if match else ""

    def receive(self, most: int, *, hold_s: int, wait_s: int = 0) -> list[Received]:
        """See EventSource. A standard queue may give fewer than there are; only the first request waits."""
        found: list[Received] = []
        while len(found) < most:
            answer = self._call(
                "receive_message",
                "receiving messages",
                MaxNumberOfMessages=min(BATCH, most - len(found)),
                VisibilityTimeout=min(hold_s, LONGEST_HOLD_S),
                WaitTimeSeconds=0 if found else min(wait_s, 20),
            )
            messages = answer.get("Messages") or []
            found += [
                read(lambda raw: read_eventbridge(raw, where=self.where), each["Body"].encode(), each["ReceiptHandle"])
                for each in messages
            ]
            if not messages:
                break
        return found

    def acknowledge(self, receipts: Sequence[str]) -> int:
        """See EventSource."""
        failed = 0
        for some in portions(receipts, BATCH):
            entries = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(some)]
            answer = self._call("delete_message_batch", "deleting messages", Entries=entries)
            failed += len(answer.get("Failed") or [])
        return failed

    def state(self) -> QueueState:
        """See EventSource. The permission ``sqs:GetQueueAttributes`` is needed for this alone."""
        told = self._call("get_queue_attributes", "asking about the queue", AttributeNames=["All"]).get(
            "Attributes", {}
        )
        return QueueState(
            self.where,
            waiting=int(told.get("ApproximateNumberOfMessages", -1)),
            held=int(told.get("ApproximateNumberOfMessagesNotVisible", -1)),
            notes=tuple(_notes(told)),
        )

    def _call(self, operation: str, doing: str, **values: Any) -> Mapping[str, Any]:
        return self._calls.call(
            operation, where=self.where, doing=doing, service="sqs", region=self._region, QueueUrl=self.where, **values
        )


def _notes(told: dict[str, str]) -> list[str]:
    notes = []
    if int(told.get("MessageRetentionPeriod") or 345600) < 24 * 3600:
        notes.append("messages are dropped after less than a day (MessageRetentionPeriod)")
    if policy := told.get("RedrivePolicy"):
        try:
            count = int(msgspec.json.decode(policy).get("maxReceiveCount", 0))
        except (msgspec.MsgspecError, AttributeError, ValueError):
            count = 0
        if 0 < count < 5:
            notes.append(
                f"a message that was received {count_text(count, 'time')} goes to the dead-letter queue "
                "(maxReceiveCount): while a registry does not answer, pushes get lost there until the next look at "
                "everything"
            )
    else:
        notes.append("it has no dead-letter queue; what cannot be read is kept aside here")
    return notes
