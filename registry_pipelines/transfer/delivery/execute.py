"""Apply a plan: blobs, then manifests, then tags, then the read-back; as much at once as the plan's order permits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from registry_pipelines.errors import Refused
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.fanout import load_of
from registry_pipelines.transfer.delivery.acts import Acts, DeliveryTools
from registry_pipelines.transfer.delivery.plan import BlobKey, BlobStep, Delivery, Plan
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.delivery.vouching import Vouchers
from registry_pipelines.transfer.flow.health import left_to_us
from registry_pipelines.transfer.flow.schedule import Aside, Schedule, Task
from registry_pipelines.transfer.flow.streams import Load

_SMALL, _LED, _OWN = 0, 1, 2
"""Ranks: requests that unblock others; blobs that other deliveries wait for; the rest. Within a rank largest first."""


def execute(plan: Plan, tools: DeliveryTools) -> list[TargetResult]:
    """Apply the plan; returns one result per delivery, in the plan's order.

    What fails at one target is in its result and does not stop the others. Nothing is tagged before everything it names
    is there. Applying a plan twice changes nothing the second time.
    """
    results = _begin(plan)
    with Pool(tools.threads, "read-back") as questions:
        acts = Acts(tools, questions, _vouchers(plan))
        for result in results:
            acts.announce(result)
        _tell_refused(results, tools)
        _Order(results, acts, tools.blob.aside).schedule.run(tools.threads)
    return results


def _begin(plan: Plan) -> list[TargetResult]:
    """Each delivery with its result; what is done at a registry goes through one object for all of them."""
    ours: dict[int, Registry] = {}

    def at(place: Place) -> Place:
        key = id(place.registry)
        if key not in ours:
            ours[key] = left_to_us(place).registry
        return Place(ours[key], place.repository)

    return [TargetResult(each, at(each.job.closure.source), at(each.target)) for each in plan.deliveries]


def _tell_refused(results: Sequence[TargetResult], tools: DeliveryTools) -> None:
    for result in results:
        if result.delivery.refused:
            result.error = result.delivery.unseen or _refused(result.delivery)
            tools.progress.end(result.label, note="failed")


def _vouchers(plan: Plan) -> Vouchers:
    """Those of the registries that many blobs are sent to."""
    targets = ((each.target.registry.name, each.blobs) for each in plan.deliveries)
    return Vouchers(Counter(name for name, blobs in targets for step in blobs if step.action == "upload"))


def _refused(delivery: Delivery) -> Refused:
    return Refused(delivery.refused, where=str(delivery.target), do=f"{delivery.do}; nothing was sent")


class _Order:
    """What waits for what. Tasks know the acts and the copies, never this object or the schedule: a circle would keep
    the memory of parts for long after the run."""

    def __init__(self, results: Sequence[TargetResult], acts: Acts, aside: Aside) -> None:
        self.schedule = Schedule(aside)
        self._acts = acts
        self._bringing: dict[BlobKey, Task] = {}
        self._committed: list[Task] = []
        self._written = {key for result in results for key in result.delivery.written()}
        self._turns: dict[BlobKey, Task] = {}
        self._add_uploads(results)
        for at, result in enumerate(results):
            self._add_delivery(at, result)

    def _add_uploads(self, results: Sequence[TargetResult]) -> None:
        steps = [(result, step) for result in results for step in result.delivery.blobs]
        led = {step.descriptor.digest for _, step in steps if step.leader is not None}
        uploads: dict[Digest, list[tuple[TargetResult, BlobStep]]] = {}
        for result, step in steps:
            if step.action == "upload":
                uploads.setdefault(step.descriptor.digest, []).append((result, step))
        for digest, users in uploads.items():
            rank = (_LED if digest in led else _OWN, -users[0][1].descriptor.size)
            arrived = [self.schedule.signal() for _ in users]
            self.schedule.add(partial(self._acts.upload, users, arrived), rank=rank, load=_load(users))
            self._bringing |= {
                result.delivery.key(digest): signal for (result, _), signal in zip(users, arrived, strict=True)
            }

    def _add_delivery(self, at: int, result: TargetResult) -> None:
        delivery, acts, add = result.delivery, self._acts, partial(self.schedule.add, rank=(_SMALL, at))
        if delivery.unchanged:  # most are, each night: one task for what needs three
            self._committed.append(add(partial(acts.attempt, result, acts.finish_unchanged)))
            return
        for step in delivery.blobs:
            if step.action == "mount":
                after = [self._committed[step.leader]] if step.leader is not None else []
                self._bringing[delivery.key(step.descriptor.digest)] = add(
                    partial(acts.mount, result, step), after=after
                )
        keys = [delivery.key(step.descriptor.digest) for step in delivery.blobs if step.action != "present"]
        # docker-registry empties a manifest's link for a moment when it is put again, also under another tag; whoever
        # asks for it then, or for an index that names it, is told of a bad digest. So those that share one take turns.
        touched = [delivery.key(step.manifest.digest) for step in delivery.manifests]
        tasks = [self._bringing[key] for key in keys] + [self._turns[key] for key in touched if key in self._turns]
        before = list({id(task): task for task in tasks}.values())
        put = add(partial(acts.attempt, result, acts.put_manifests), after=before)
        # Only now the leader's blobs can be mounted on ECR: a tag may have brought the manifest that names them.
        tagged = add(partial(acts.attempt, result, acts.set_tags), after=[put])
        self._committed.append(tagged)
        finish = add(partial(acts.attempt, result, acts.finish), after=[tagged])
        self._turns |= dict.fromkeys((key for key in touched if key in self._written), finish)


def _load(users: Sequence[tuple[TargetResult, BlobStep]]) -> Load | None:
    source = users[0][0].delivery.job.closure.source
    return load_of(source, users[0][1].descriptor, [result.delivery.target for result, _ in users])
