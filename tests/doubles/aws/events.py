"""EventBridge: events of the double's own services reach the SQS queues of rules that moto has.

moto keeps rules, targets and queues, and its ECR tells of nothing. Delivery is at least once and in no order on the
real one; tests that need that say it themselves (``tests/events``).
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.doubles.aws.front import Area, AwsDouble


class EventBridge(Area):
    """Delivers what ``AwsDouble.tell`` tells, as EventBridge writes it."""

    service = "events"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        world.listeners.append(self._deliver)

    def _deliver(self, event: dict[str, Any]) -> None:
        if not self.world.behind.used:
            return  # nobody has made a rule
        from moto.events.models import events_backends
        from moto.sqs.models import sqs_backends

        account, region = event["account"], event["region"]
        told = {
            "version": "0",
            "id": str(uuid.uuid4()),
            **event,
            "time": datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for bus in events_backends[account][region].event_buses.values():
            for rule in bus.rules.values():
                if not rule.event_pattern.matches_event(told):
                    continue
                for target in rule.targets:
                    queue = target["Arn"].split(":")
                    if queue[2] == "sqs":
                        sqs_backends[queue[4]][queue[3]].send_message(queue[5], json.dumps(told))


__all__ = ["EventBridge"]
