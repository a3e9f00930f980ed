"""What is done for the copies of a plan: blobs sent or mounted, manifests put, tags set, targets read back.

Each act is a task of the schedule that ``execute.py`` makes; which comes after which is told there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from registry_pipelines.errors import (
    ClosureIncomplete,
    LocalError,
    NotFound,
    Refused,
    RegistryError,
    RegistryFull,
    RegistryPipelinesError,
    TagImmutable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.blob.fanout import Means, Outcome, move_blob
from registry_pipelines.transfer.blob.mounting import mount
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.delivery.answers import Answers
from registry_pipelines.transfer.delivery.plan import BlobKey, BlobStep, Delivery, TagStep
from registry_pipelines.transfer.delivery.receipts import (
    Receipt,
    ReceiptSigner,
    ReceiptStore,
    SizesRead,
    make_receipt,
    read_back,
)
from registry_pipelines.transfer.delivery.refusals import MISSING_CHILD, SparseRefusals
from registry_pipelines.transfer.delivery.results import Drift, TargetResult
from registry_pipelines.transfer.delivery.vouching import Vouchers
from registry_pipelines.transfer.flow.health import Kind
from registry_pipelines.transfer.flow.schedule import Signal
from registry_pipelines.transfer.limits.rules import whole_index_advice

TRANSFER_THREADS = 32
"""Blobs, mounts and manifests under way at once, over all registries; each registry's own window may be smaller.
Measured on a fleet behind 40 ms of latency: fewer leave the processors idle, more only switch."""


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
    refusals: SparseRefusals | None = None
    threads: int = TRANSFER_THREADS


_T = TypeVar("_T")


class Acts:
    """What tasks do, on many threads. questions: runs the small requests of the read-back. vouchers: what registries
    look for themselves."""

    def __init__(self, setting: Setting, questions: Executor, vouchers: Vouchers) -> None:
        self._setting = setting
        self._questions = questions
        self._vouchers = vouchers
        self._outcomes: dict[BlobKey, Outcome] = {}
        self._sent: set[BlobKey] = set()
        self._mounted: set[BlobKey] = set()
        self._written: set[BlobKey] = set()
        self._tagged: set[tuple[str, BlobKey]] = set()
        self._sizes_read = SizesRead()
        self._full: dict[str, RegistryFull] = {}
        self._sources_now: Answers[tuple[str, str, str], Digest] = Answers()

    def announce(self, copy: TargetResult) -> None:
        """Tell progress what is to be sent of a copy, as far as is known by now."""
        delivery = copy.delivery
        total = max(0, delivery.upload_bytes - copy.bytes_resumed)
        self._setting.progress.begin(copy.label, total_bytes=total, group=str(delivery.target.registry.name))

    def attempt(self, copy: TargetResult, act: Callable[[TargetResult], None]) -> None:
        """Run an act of a copy that did not fail before; its error is the copy's."""
        if copy.error is not None:
            return
        try:
            act(copy)
        except RegistryPipelinesError as error:
            copy.error = error
            self._setting.progress.end(copy.label, note="failed")

    def upload(self, users: Sequence[tuple[TargetResult, BlobStep]], arrived: Sequence[Signal] = ()) -> None:
        """One read of a blob for all users. The outcome is theirs alone: a blob that reached one target did reach it.
        Errors are kept for :meth:`put_manifests`. arrived: for each user, settled as soon as its outcome is known."""
        source, descriptor = users[0][0].source, users[0][1].descriptor

        def settle(at: int, outcome: Outcome) -> None:
            self._keep(users[at][0], descriptor.digest, outcome)
            if arrived:
                arrived[at].settle()

        sent = []
        for at, (copy, _) in enumerate(users):
            full = self._full.get(copy.target.registry.name)
            if full is None:
                sent.append(at)
            else:
                settle(at, full)
        if not sent:
            return

        def moved(position: int, byte_count: int) -> None:
            copy = users[sent[position]][0]
            with copy.lock:
                copy.bytes_moved += byte_count
            self._setting.progress.advance(copy.label, byte_count)

        def resumed(position: int, byte_count: int) -> None:
            copy = users[sent[position]][0]
            with copy.lock:
                copy.bytes_resumed += byte_count
            self.announce(copy)

        move_blob(
            source,
            descriptor,
            [users[at][0].target for at in sent],
            self._setting.means,
            moved,
            settled=lambda position, outcome: settle(sent[position], outcome),
            resumed=resumed,
        )

    def _keep(self, copy: TargetResult, digest: Digest, outcome: Outcome) -> None:
        """Remember what became of a blob. A registry that is found full is sent nothing more: docker-registry keeps
        what torn uploads brought, and would be made fuller."""
        key = copy.delivery.key(digest)
        self._outcomes[key] = outcome
        if outcome is None:
            self._sent.add(key)
        if isinstance(outcome, RegistryFull):
            self._full[copy.target.registry.name] = outcome
        with copy.lock:
            copy.blobs_moved += outcome is None

    def mount(self, copy: TargetResult, step: BlobStep) -> None:
        """Mount a blob, or upload it where that fails; the error is kept for :meth:`put_manifests`."""
        key = copy.delivery.key(step.descriptor.digest)
        try:
            health, blob = self._setting.means.health, step.descriptor
            mounted = mount(copy.target, blob.digest, step.mount_from, health, size=blob.size)
        except RegistryPipelinesError as error:
            self._outcomes[key] = error
            return
        if not mounted:
            self.upload([(copy, step)])
            return
        self._mounted.add(key)
        with copy.lock:
            copy.blobs_mounted += 1

    def _mending(self, copy: TargetResult, kind: Kind, act: Callable[[], _T]) -> _T:
        """Persist, and once more when blobs were missing that a registry said it had mounted."""
        health, target = self._setting.means.health, copy.target
        try:
            return health.persist(target, kind, act)
        except (NotFound, Refused, ClosureIncomplete) as error:
            if isinstance(error, TagImmutable) or not self._mend_mounts(copy):
                raise
            return health.persist(target, kind, act)

    def _mend_mounts(self, copy: TargetResult) -> bool:
        """Upload what a registry said it had mounted and has not; whether there was any."""
        target, mended = copy.target, False
        for step in copy.delivery.blobs:
            blob, key = step.descriptor, copy.delivery.key(step.descriptor.digest)
            if key not in self._mounted or target.registry.blob_size(target.repository, blob.digest) == blob.size:
                continue
            self.upload([(copy, step)])
            if (error := self._outcomes[key]) is not None:
                raise error
            self._mounted.discard(key)
            copy.blobs_mounted -= step.action == "mount"
            mended = True
        return mended

    def put_manifests(self, copy: TargetResult) -> None:
        """All manifests but those that a tag will bring; only when every blob is there, else the first one's error."""
        delivery = copy.delivery
        for step in delivery.blobs:
            outcome = self._outcomes.get(delivery.key(step.descriptor.digest))
            if outcome is not None:
                raise outcome
        later = _brought_by_tag(delivery)
        for manifest in delivery.manifests:
            digest = manifest.manifest.digest
            # A shared one is put here only when the delivery that should have brought it failed.
            if manifest.action != "present" and digest not in later and delivery.key(digest) not in self._written:
                self._put(copy, digest)
                copy.manifests_put += 1

    def _put(self, copy: TargetResult, digest: Digest, *, tag: str = "") -> None:
        target, closure = copy.target, copy.delivery.job.closure
        manifest = next(item for item in closure.manifests if item.digest == digest)
        try:
            put = partial(target.registry.put_manifest, target.repository, manifest, tag=tag)
            self._mending(copy, "manifest", put)
        except (NotFound, Refused) as error:
            left_out = closure.left_out(manifest)
            if not left_out or type(error) not in (NotFound, Refused) or error.code == "NAME_UNKNOWN":
                raise
            if self._setting.refusals and error.code in MISSING_CHILD:
                self._setting.refusals.learn(target.registry.name)
            raise Refused(
                f"an index without {len(left_out)} of its manifests is not taken ({error.what})",
                where=error.where,
                do=whole_index_advice(rewritten=closure.named is not None),
                status=error.status,
                code=error.code,
            ) from error
        self._written.add(copy.delivery.key(digest))
        sent = {blob for blob in closure.blobs_of[digest] if copy.delivery.key(blob) in self._sent}
        for blob in self._vouchers.vouched(target, manifest, sent):
            self._sizes_read.vouch(target, blob)

    def set_tags(self, copy: TargetResult) -> None:
        """Tags, by digest; those that may not move are drift."""
        untagged = set(_brought_by_tag(copy.delivery))
        for step in copy.delivery.tags:
            self._tag(copy, step, untagged)

    def _tag(self, copy: TargetResult, step: TagStep, untagged: set[Digest]) -> None:
        if step.action == "drift":
            copy.drift += (Drift("target", step.tag, step.digest, step.before),)
        name = (step.tag, copy.delivery.key(step.digest))
        # A shared one is set here only when the delivery that should have set it failed.
        if step.action not in ("set", "shared") or name in self._tagged:
            return
        try:
            self._put(copy, step.digest, tag=step.tag)
            self._tagged.add(name)
        except TagImmutable:
            copy.drift += (Drift("target", step.tag, step.digest, step.before),)
            if step.digest in untagged:
                self._put(copy, step.digest)
            else:
                return
        else:
            copy.tags_moved += 1
        if step.digest in untagged:
            untagged.discard(step.digest)
            copy.manifests_put += 1

    def finish(self, copy: TargetResult) -> None:
        """Read the target back, keep the receipt, and remember which blobs are there."""
        delivery, closure = copy.delivery, copy.delivery.job.closure
        tags = {step.tag: step.digest for step in delivery.tags if step.tag not in {item.tag for item in copy.drift}}
        self._note_source_drift(copy)
        copy.receipt = self._receipt(copy, tags)
        if self._setting.keeper and not delivery.unchanged:
            refused = [digest for digest in delivery.mounts() if delivery.key(digest) not in self._mounted]
            with contextlib.suppress(LocalError):  # hints for later runs; this copy is whole without them
                self._setting.keeper.hold(delivery.target, list(closure.blobs), instead=refused)
        copy.seconds = time.monotonic() - copy.began
        self._setting.progress.end(copy.label, note="unchanged" if delivery.unchanged else "copied")

    def _note_source_drift(self, copy: TargetResult) -> None:
        closure = copy.delivery.job.closure
        if copy.delivery.unchanged or not closure.by_tag:
            return
        key = (closure.source.registry.name, closure.source.repository, closure.reference)
        named_now = self._sources_now.get(key, lambda: self._digest_at_source(copy.source, closure))
        planned = closure.named or closure.root.digest
        if named_now != planned:
            copy.drift += (Drift("source", closure.reference, planned, named_now),)

    def _digest_at_source(self, source: Place, closure: Closure) -> Digest | None:
        """What the copied tag names by now. A source that went down after the copy is no reason to fail it."""
        planned = closure.named or closure.root.digest
        if not self._setting.means.health.ready(source, "read"):
            return planned
        try:
            return digest_at(source, closure.reference)
        except RegistryError:
            return planned

    def _receipt(self, copy: TargetResult, tags: dict[str, Digest]) -> Receipt:
        delivery, store = copy.delivery, self._setting.receipts
        closure, target = delivery.job.closure, delivery.target
        known = store.find(closure, target) if store and delivery.unchanged else None
        if known is not None and (known.signed or self._setting.signer is None):
            return known
        try:
            read = partial(read_back, closure, copy.target, tags, self._questions, self._sizes_read)
            document = self._mending(copy, "read-back", read)
        except ClosureIncomplete:
            if store:
                store.drop(target, closure.root.digest)
            raise
        receipt = make_receipt(document, self._setting.signer)
        if store:
            store.save(target, closure.root.digest, receipt)
        return receipt


def _brought_by_tag(delivery: Delivery) -> frozenset[Digest]:
    """Manifests put under their tag at once, which saves a request; not when others in the closure need them."""
    closure = delivery.job.closure
    if len(closure.manifests) > 1 and closure.subjects:
        return frozenset()
    put = {step.manifest.digest for step in delivery.manifests if step.action == "put"}
    return frozenset(step.digest for step in delivery.tags if step.action == "set" and step.digest in put)
