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
from registry_pipelines.transfer.delivery.acts import Acts, Setting
from registry_pipelines.transfer.delivery.plan import BlobKey, BlobStep, Delivery, Plan
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.delivery.vouching import Vouchers
from registry_pipelines.transfer.flow.health import left_to_us
from registry_pipelines.transfer.flow.schedule import Aside, Schedule, Task
from registry_pipelines.transfer.flow.streams import Load

_SMALL, _LED, _OWN = 0, 1, 2
"""Ranks: requests that unblock others; blobs that other deliveries wait for; the rest. Within a rank largest first."""


def execute(plan: Plan, setting: Setting) -> list[TargetResult]:
    """Apply the plan; returns one result per delivery, in the plan's order.

    What fails at one target is in its result and does not stop the others. Nothing is tagged before everything it names
    is there. Applying a plan twice changes nothing the second time.
    """
    copies = _begin(plan)
    with Pool(setting.threads, "read-back") as questions:
        acts = Acts(setting, questions, _vouchers(plan))
        for copy in copies:
            acts.announce(copy)
        _tell_refused(copies, setting)
        _Order(copies, acts, setting.means.aside).schedule.run(setting.threads)
    return copies


def _begin(plan: Plan) -> list[TargetResult]:
    """Each delivery with its result; what is done at a registry goes through one object for all of them."""
    ours: dict[int, Registry] = {}

    def at(place: Place) -> Place:
        key = id(place.registry)
        if key not in ours:
            ours[key] = left_to_us(place).registry
        return Place(ours[key], place.repository)

    return [TargetResult(each, at(each.job.closure.source), at(each.target)) for each in plan.deliveries]


def _tell_refused(copies: Sequence[TargetResult], setting: Setting) -> None:
    for copy in copies:
        if copy.delivery.refused:
            copy.error = copy.delivery.unseen or _refused(copy.delivery)
            setting.progress.end(copy.label, note="failed")


def _vouchers(plan: Plan) -> Vouchers:
    """Those of the registries that many blobs are sent to."""
    targets = ((each.target.registry.name, each.blobs) for each in plan.deliveries)
    return Vouchers(Counter(name for name, blobs in targets for step in blobs if step.action == "upload"))


def _refused(delivery: Delivery) -> Refused:
    return Refused(delivery.refused, where=str(delivery.target), do=f"{delivery.do}; nothing was sent")


class _Order:
    """What waits for what. Tasks know the acts and the copies, never this object or the schedule: a circle would keep
    the memory of parts for long after the run."""

    def __init__(self, copies: Sequence[TargetResult], acts: Acts, aside: Aside) -> None:
        self.schedule = Schedule(aside)
        self._acts = acts
        self._bringing: dict[BlobKey, Task] = {}
        self._committed: list[Task] = []
        self._written = {key for copy in copies for key in copy.delivery.written()}
        self._turns: dict[BlobKey, Task] = {}
        self._add_uploads(copies)
        for at, copy in enumerate(copies):
            self._add_delivery(at, copy)

    def _add_uploads(self, copies: Sequence[TargetResult]) -> None:
        steps = [(copy, step) for copy in copies for step in copy.delivery.blobs]
        led = {step.descriptor.digest for _, step in steps if step.leader is not None}
        uploads: dict[Digest, list[tuple[TargetResult, BlobStep]]] = {}
        for copy, step in steps:
            if step.action == "upload":
                uploads.setdefault(step.descriptor.digest, []).append((copy, step))
        for digest, users in uploads.items():
            rank = (_LED if digest in led else _OWN, -users[0][1].descriptor.size)
            arrived = [self.schedule.signal() for _ in users]
            self.schedule.add(partial(self._acts.upload, users, arrived), rank=rank, load=_load(users))
            self._bringing |= {
                copy.delivery.key(digest): signal for (copy, _), signal in zip(users, arrived, strict=True)
            }

    def _add_delivery(self, at: int, copy: TargetResult) -> None:
        delivery, acts, add = copy.delivery, self._acts, partial(self.schedule.add, rank=(_SMALL, at))
        for step in delivery.blobs:
            if step.action == "mount":
                after = [self._committed[step.leader]] if step.leader is not None else []
                self._bringing[delivery.key(step.descriptor.digest)] = add(partial(acts.mount, copy, step), after=after)
        keys = [delivery.key(step.descriptor.digest) for step in delivery.blobs if step.action != "present"]
        # docker-registry empties a manifest's link for a moment when it is put again, also under another tag; whoever
        # asks for it then, or for an index that names it, is told of a bad digest. So those that share one take turns.
        touched = [] if delivery.unchanged else [delivery.key(step.manifest.digest) for step in delivery.manifests]
        tasks = [self._bringing[key] for key in keys] + [self._turns[key] for key in touched if key in self._turns]
        before = list({id(task): task for task in tasks}.values())
        put = add(partial(acts.attempt, copy, acts.put_manifests), after=before)
        # Only now the leader's blobs can be mounted on ECR: a tag may have brought the manifest that names them.
        tagged = add(partial(acts.attempt, copy, acts.set_tags), after=[put])
        self._committed.append(tagged)
        finish = add(partial(acts.attempt, copy, acts.finish), after=[tagged])
        self._turns |= dict.fromkeys((key for key in touched if key in self._written), finish)


def _load(users: Sequence[tuple[TargetResult, BlobStep]]) -> Load | None:
    source = users[0][0].delivery.job.closure.source
    return load_of(source, users[0][1].descriptor, [copy.delivery.target for copy, _ in users])
