"""Apply a plan: blobs, then manifests, then tags, then the read-back; as much at once as the plan's order permits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from registry_pipelines.errors import (
    ClosureIncomplete,
    NotFound,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    TagImmutable,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.closure import Closure
from registry_pipelines.transfer.fanout import Means, Outcome, move_blob
from registry_pipelines.transfer.plan import BlobKey, BlobStep, Delivery, Plan, TagStep
from registry_pipelines.transfer.receipts import (
    Receipt,
    ReceiptSigner,
    ReceiptStore,
    SizesRead,
    make_receipt,
    read_back,
)
from registry_pipelines.transfer.results import Drift, TargetResult
from registry_pipelines.transfer.schedule import Schedule, Task

TRANSFER_THREADS = 32
"""Blobs, mounts and manifests under way at once, over all registries; each registry's own window may be smaller.
Measured on a fleet behind 40 ms of latency: fewer leave the processors idle, more only switch."""

_SMALL, _LED, _OWN = 0, 1, 2
"""Ranks: requests that unblock others; blobs that other deliveries wait for; the rest. Within a rank largest first."""


class Keeper(Protocol):
    """Remembers which repository has which blobs, so that later runs can mount from it."""

    def hold(self, target: Place, digests: Sequence[Digest], *, instead: Collection[Digest] = ()) -> None:
        """The target was read back and has these blobs. instead: those that the repository remembered did not give."""
        ...


@dataclass
class Setting:
    """How a plan is applied."""

    means: Means = field(default_factory=Means)
    progress: Progress = field(default_factory=Silent)
    receipts: ReceiptStore | None = None
    signer: ReceiptSigner | None = None
    keeper: Keeper | None = None
    threads: int = TRANSFER_THREADS


def execute(plan: Plan, setting: Setting) -> list[TargetResult]:
    """Apply the plan; returns one result per delivery, in the plan's order.

    What fails at one target is in its result and does not stop the others. Nothing is tagged before everything it names
    is there. Applying a plan twice changes nothing the second time.
    """
    return _Execution(plan, setting).run()


@dataclass
class _State:
    delivery: Delivery
    label: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.monotonic)
    bytes_moved: int = 0
    blobs_moved: int = 0
    blobs_mounted: int = 0
    manifests_put: int = 0
    tags_moved: int = 0
    seconds: float = 0.0
    receipt: Receipt | None = None
    drift: list[Drift] = field(default_factory=list)
    error: RegistryPipelinesError | None = None

    def result(self) -> TargetResult:
        changed = self.blobs_moved + self.blobs_mounted + self.manifests_put + self.tags_moved > 0
        return TargetResult(
            place=self.delivery.target,
            root=self.delivery.job.closure.root,
            changed=changed,
            bytes_moved=self.bytes_moved,
            blobs_moved=self.blobs_moved,
            blobs_mounted=self.blobs_mounted,
            manifests_put=self.manifests_put,
            tags_moved=self.tags_moved,
            seconds=self.seconds,
            receipt=self.receipt,
            drift=tuple(self.drift),
            error=self.error,
        )


_T = TypeVar("_T")


def _refused(delivery: Delivery) -> Refused:
    return Refused(
        delivery.refused,
        where=str(delivery.target),
        do="Split the layer, or choose another target; nothing was sent",
    )


class _Execution:
    def __init__(self, plan: Plan, setting: Setting) -> None:
        self.setting = setting
        self.states = [
            _State(item, f"{item.job.closure.source}:{item.job.closure.reference} -> {item.target}")
            for item in plan.deliveries
        ]
        self.outcomes: dict[BlobKey, Outcome] = {}
        self.schedule = Schedule()
        self.bringing: dict[BlobKey, Task] = {}
        self.commits: dict[int, Task] = {}
        self.written = {key for item in plan.deliveries for key in item.written()}
        self.turns: dict[BlobKey, Task] = {}
        self.put: set[BlobKey] = set()
        self.mounted: set[BlobKey] = set()
        self.sizes_read = SizesRead()
        self.sources_now: dict[tuple[str, str, str], Digest | None] = {}
        self.questions: ThreadPoolExecutor

    def run(self) -> list[TargetResult]:
        for state in self.states:
            delivery = state.delivery
            self.setting.progress.begin(
                state.label, total_bytes=delivery.upload_bytes, group=str(delivery.target.registry.name)
            )
        for state in self.states:
            if state.delivery.refused:
                state.error = state.delivery.unseen or _refused(state.delivery)
                self.setting.progress.end(state.label, note="failed")
        self._schedule_uploads()
        for at, state in enumerate(self.states):
            self._schedule_delivery(at, state)
        try:
            with ThreadPoolExecutor(self.setting.threads, thread_name_prefix="read-back") as self.questions:
                self.schedule.run(self.setting.threads)
        finally:  # tasks know this object and it knows them: a circle that would keep the memory of parts for long
            self.schedule, self.bringing, self.commits, self.turns = Schedule(), {}, {}, {}
        return [state.result() for state in self.states]

    def _schedule_uploads(self) -> None:
        led = {
            step.descriptor.digest for state in self.states for step in state.delivery.blobs if step.leader is not None
        }
        uploads: dict[Digest, list[tuple[_State, BlobStep]]] = {}
        for state in self.states:
            for step in state.delivery.blobs:
                if step.action == "upload":
                    uploads.setdefault(step.descriptor.digest, []).append((state, step))
        for digest, users in uploads.items():
            rank = (_LED if digest in led else _OWN, -users[0][1].descriptor.size)
            task = self.schedule.add(self._upload(users), rank=rank)
            for state, _ in users:
                self.bringing[state.delivery.key(digest)] = task

    def _schedule_delivery(self, at: int, state: _State) -> None:
        delivery = state.delivery
        for step in delivery.blobs:
            if step.action == "mount":
                after = [self.commits[step.leader]] if step.leader is not None else []
                key = delivery.key(step.descriptor.digest)
                self.bringing[key] = self.schedule.add(self._mount(state, step), rank=(_SMALL, at), after=after)
        keys = [delivery.key(step.descriptor.digest) for step in delivery.blobs if step.action != "present"]
        # docker-registry empties a manifest's link for a moment when it is put again, also under another tag; whoever
        # asks for it then, or for an index that names it, is told of a bad digest. So those that share one take turns.
        touched = [] if delivery.unchanged else [delivery.key(step.manifest.digest) for step in delivery.manifests]
        tasks = [self.bringing[key] for key in keys] + [self.turns[key] for key in touched if key in self.turns]
        before = list({id(task): task for task in tasks}.values())
        put = self.schedule.add(self._guard(state, self._commit), rank=(_SMALL, at), after=before)
        # Only now the leader's blobs can be mounted on ECR: a tag may have brought the manifest that names them.
        self.commits[at] = self.schedule.add(self._guard(state, self._set_tags), rank=(_SMALL, at), after=[put])
        finish = self.schedule.add(self._guard(state, self._finish), rank=(_SMALL, at), after=[self.commits[at]])
        self.turns |= dict.fromkeys((key for key in touched if key in self.written), finish)

    def _upload(self, users: Sequence[tuple[_State, BlobStep]]) -> Callable[[], None]:
        def run() -> None:
            self._move(users)

        return run

    def _move(self, users: Sequence[tuple[_State, BlobStep]]) -> None:
        """One read for all users. The outcome is theirs alone: a blob that reached one target did reach it."""
        source, descriptor = users[0][0].delivery.job.closure.source, users[0][1].descriptor

        def moved(position: int, byte_count: int) -> None:
            state = users[position][0]
            with state.lock:
                state.bytes_moved += byte_count
            self.setting.progress.advance(state.label, byte_count)

        targets = [state.delivery.target for state, _ in users]
        outcomes = move_blob(source, descriptor, targets, self.setting.means, moved)
        for (state, _), outcome in zip(users, outcomes, strict=True):
            self.outcomes[state.delivery.key(descriptor.digest)] = outcome
            with state.lock:
                state.blobs_moved += outcome is None

    def _mount(self, state: _State, step: BlobStep) -> Callable[[], None]:
        def run() -> None:
            try:
                mounted = self._try_mount(state.delivery.target, step)
            except RegistryPipelinesError as error:
                self.outcomes[state.delivery.key(step.descriptor.digest)] = error
                return
            if not mounted:
                self._move([(state, step)])
                return
            self.mounted.add(state.delivery.key(step.descriptor.digest))
            with state.lock:
                state.blobs_mounted += 1

        return run

    def _mending(self, state: _State, act: Callable[[], _T]) -> _T:
        """Persist, and once more when blobs were missing that a registry said it had mounted."""
        try:
            return self._persist(act)
        except (NotFound, Refused, ClosureIncomplete) as error:
            if isinstance(error, TagImmutable) or not self._mend_mounts(state):
                raise
            return self._persist(act)

    def _mend_mounts(self, state: _State) -> bool:
        """Upload what a registry said it had mounted and has not; whether there was any."""
        target, mended = state.delivery.target, False
        for step in state.delivery.blobs:
            blob, key = step.descriptor, state.delivery.key(step.descriptor.digest)
            if key not in self.mounted or target.registry.blob_size(target.repository, blob.digest) == blob.size:
                continue
            self._move([(state, step)])
            if (error := self.outcomes[key]) is not None:
                raise error
            self.mounted.discard(key)
            state.blobs_mounted -= step.action == "mount"
            mended = True
        return mended

    def _try_mount(self, target: Place, step: BlobStep) -> bool:
        """A mount may fail whatever was promised (facts: 202 is normal), so look, and let the caller upload."""
        registry, digest = target.registry, step.descriptor.digest
        try:
            if self._persist(lambda: registry.mount_blob(target.repository, digest, source=step.mount_from)):
                return True
        except Unavailable:
            raise
        except RegistryError:
            pass
        return self._persist(lambda: registry.blob_size(target.repository, digest)) == step.descriptor.size

    def _guard(self, state: _State, act: Callable[[_State], None]) -> Callable[[], None]:
        def run() -> None:
            if state.error is not None:
                return
            try:
                act(state)
            except RegistryPipelinesError as error:
                state.error = error
                self.setting.progress.end(state.label, note="failed")

        return run

    def _commit(self, state: _State) -> None:
        """All manifests but those that a tag will bring; only when every blob is there."""
        delivery = state.delivery
        for step in delivery.blobs:
            outcome = self.outcomes.get(delivery.key(step.descriptor.digest))
            if outcome is not None:
                raise outcome
        later = self._brought_by_tag(delivery)
        for manifest in delivery.manifests:
            digest = manifest.manifest.digest
            # A shared one is put here only when the delivery that should have brought it failed.
            if manifest.action != "present" and digest not in later and delivery.key(digest) not in self.put:
                self._put(state, digest)
                state.manifests_put += 1

    def _brought_by_tag(self, delivery: Delivery) -> frozenset[Digest]:
        """Manifests put under their tag at once, which saves a request; not when others in the closure need them."""
        closure = delivery.job.closure
        needed = set(closure.subjects.values())
        if len(closure.manifests) > 1 and needed:
            return frozenset()
        put = {step.manifest.digest for step in delivery.manifests if step.action == "put"}
        return frozenset(step.digest for step in delivery.tags if step.action == "set" and step.digest in put)

    def _put(self, state: _State, digest: Digest, *, tag: str = "") -> None:
        target = state.delivery.target
        manifest = next(item for item in state.delivery.job.closure.manifests if item.digest == digest)
        self._mending(state, lambda: target.registry.put_manifest(target.repository, manifest, tag=tag))
        self.put.add(state.delivery.key(digest))

    def _set_tags(self, state: _State) -> None:
        untagged = set(self._brought_by_tag(state.delivery))
        for step in state.delivery.tags:
            self._tag(state, step, untagged)

    def _finish(self, state: _State) -> None:
        delivery, closure = state.delivery, state.delivery.job.closure
        tags = {step.tag: step.digest for step in delivery.tags if step.tag not in {item.tag for item in state.drift}}
        self._note_source_drift(state)
        state.receipt = self._receipt(state, tags)
        if self.setting.keeper and not delivery.unchanged:
            refused = [digest for digest in delivery.mounts() if delivery.key(digest) not in self.mounted]
            self.setting.keeper.hold(delivery.target, list(closure.blobs), instead=refused)
        state.seconds = time.monotonic() - state.began
        self.setting.progress.end(state.label, note="unchanged" if delivery.unchanged else "copied")

    def _tag(self, state: _State, step: TagStep, untagged: set[Digest]) -> None:
        if step.action == "drift":
            state.drift.append(Drift("target", step.tag, step.digest, step.before))
        if step.action != "set":
            return
        try:
            self._put(state, step.digest, tag=step.tag)
        except TagImmutable:
            state.drift.append(Drift("target", step.tag, step.digest, step.before))
            if step.digest in untagged:
                self._put(state, step.digest)
            else:
                return
        else:
            state.tags_moved += 1
        if step.digest in untagged:
            untagged.discard(step.digest)
            state.manifests_put += 1

    def _note_source_drift(self, state: _State) -> None:
        closure = state.delivery.job.closure
        if state.delivery.unchanged or ":" in closure.reference or closure.rewritten:
            return
        named = (closure.source.registry.name, closure.source.repository, closure.reference)
        if named not in self.sources_now:
            self.sources_now[named] = self._digest_at_source(closure)
        found = self.sources_now[named]
        if found != closure.root.digest:
            state.drift.append(Drift("source", closure.reference, closure.root.digest, found))

    def _digest_at_source(self, closure: Closure) -> Digest | None:
        """What the copied tag names by now. A source that went down after the copy is no reason to fail it."""
        source = closure.source
        try:
            return source.registry.resolve(source.repository, closure.reference).digest
        except NotFound:
            return None
        except RegistryError:
            return closure.root.digest

    def _receipt(self, state: _State, tags: dict[str, Digest]) -> Receipt:
        delivery, store = state.delivery, self.setting.receipts
        closure, target = delivery.job.closure, delivery.target
        known = store.find(closure, target) if store and delivery.unchanged else None
        if known is not None and (known.signed or self.setting.signer is None):
            return known
        try:
            document = self._mending(state, lambda: read_back(closure, target, tags, self.questions, self.sizes_read))
        except ClosureIncomplete:
            if store:
                store.drop(target, closure.root.digest)
            raise
        receipt = make_receipt(document, self.setting.signer)
        if store:
            store.save(target, closure.root.digest, receipt)
        return receipt

    def _persist(self, act: Callable[[], _T]) -> _T:
        patience = self.setting.means.patience()
        while True:
            try:
                return act()
            except RegistryPipelinesError as error:
                if not patience.wait(error):
                    raise
