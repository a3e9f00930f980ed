"""What is done for the copies of a plan: blobs sent or mounted, manifests put, tags set, targets read back.

Each act is a task of the schedule that ``execute.py`` makes; which comes after which is told there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

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
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.mounting import mount
from registry_pipelines.transfer.blob.tools import BlobTools
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


@dataclass
class DeliveryTools:
    """What a plan is applied with. blob: what its blobs are moved with."""

    blob: BlobTools = field(default_factory=BlobTools)
    progress: Progress = field(default_factory=Silent)
    receipts: ReceiptStore | None = None
    signer: ReceiptSigner | None = None
    refusals: SparseRefusals | None = None
    threads: int = TRANSFER_THREADS


_T = TypeVar("_T")


class Acts:
    """The steps of a plan; each is run by a task of the schedule, on any thread. questions: runs the small requests of
    the read-back. vouchers: what registries look for themselves."""

    def __init__(self, tools: DeliveryTools, questions: Executor, vouchers: Vouchers) -> None:
        self._tools = tools
        self._questions = questions
        self._vouchers = vouchers
        self._outcomes: dict[BlobKey, RegistryPipelinesError | None] = {}
        self._sent: set[BlobKey] = set()
        self._mounted: set[BlobKey] = set()
        self._written: set[BlobKey] = set()
        self._tagged: set[tuple[str, BlobKey]] = set()
        self._sizes_read = SizesRead()
        self._full: dict[str, RegistryFull] = {}
        self._sources_now: Answers[tuple[str, str, str], Digest] = Answers()

    def announce(self, result: TargetResult) -> None:
        """Tell progress what is to be sent of a copy, as far as is known by now."""
        delivery = result.delivery
        total = max(0, delivery.upload_bytes - result.bytes_resumed)
        self._tools.progress.begin(result.label, total_bytes=total, group=str(delivery.target.registry.name))

    def attempt(self, result: TargetResult, act: Callable[[TargetResult], None]) -> None:
        """Run an act of a copy that did not fail before; its error is the copy's."""
        if result.error is not None:
            return
        try:
            act(result)
        except RegistryPipelinesError as error:
            result.error = error
            self._tools.progress.end(result.label, note="failed")

    def upload(self, users: Sequence[tuple[TargetResult, BlobStep]], arrived: Sequence[Signal] = ()) -> None:
        """One read of a blob for all users. The outcome is theirs alone: a blob that reached one target did reach it.
        Errors are kept for :meth:`put_manifests`. arrived: for each user, settled as soon as its outcome is known."""
        source, descriptor = users[0][0].source, users[0][1].descriptor

        def settle(at: int, outcome: RegistryPipelinesError | None) -> None:
            self._keep(users[at][0], descriptor.digest, outcome)
            if arrived:
                arrived[at].settle()

        sent = []
        for at, (result, _) in enumerate(users):
            full = self._full.get(result.target.registry.name)
            if full is None:
                sent.append(at)
            else:
                settle(at, full)
        if not sent:
            return

        def moved(position: int, byte_count: int) -> None:
            result = users[sent[position]][0]
            with result.lock:
                result.bytes_moved += byte_count
            self._tools.progress.advance(result.label, byte_count)

        def resumed(position: int, byte_count: int) -> None:
            result = users[sent[position]][0]
            with result.lock:
                result.bytes_resumed += byte_count
            self.announce(result)

        move_blob(
            source,
            descriptor,
            [users[at][0].target for at in sent],
            self._tools.blob,
            moved,
            settled=lambda position, outcome: settle(sent[position], outcome),
            resumed=resumed,
        )

    def _keep(self, result: TargetResult, digest: Digest, outcome: RegistryPipelinesError | None) -> None:
        """Remember what became of a blob. A registry that is found full is sent nothing more: docker-registry keeps
        what torn uploads brought, and would be made fuller."""
        key = result.delivery.key(digest)
        self._outcomes[key] = outcome
        if outcome is None:
            self._sent.add(key)
        if isinstance(outcome, RegistryFull):
            self._full[result.target.registry.name] = outcome
        with result.lock:
            result.blobs_moved += outcome is None

    def mount(self, result: TargetResult, step: BlobStep) -> None:
        """Mount a blob, or upload it where that fails; the error is kept for :meth:`put_manifests`."""
        key = result.delivery.key(step.descriptor.digest)
        try:
            blob = step.descriptor
            mounted = mount(result.target, blob.digest, blob.size, step.mount_from, self._tools.blob.health)
        except RegistryPipelinesError as error:
            self._outcomes[key] = error
            return
        if not mounted:
            self.upload([(result, step)])
            return
        self._mounted.add(key)
        with result.lock:
            result.blobs_mounted += 1

    def _mending(self, result: TargetResult, kind: Kind, act: Callable[[], _T]) -> _T:
        """Persist, and once more when blobs were missing that a registry said it had mounted."""
        health, target = self._tools.blob.health, result.target
        try:
            return health.persist(target, kind, act)
        except (NotFound, Refused, ClosureIncomplete) as error:
            if isinstance(error, TagImmutable) or not self._mend_mounts(result):
                raise
            return health.persist(target, kind, act)

    def _mend_mounts(self, result: TargetResult) -> bool:
        """Upload what a registry said it had mounted and has not; whether there was any."""
        target, mended = result.target, False
        for step in result.delivery.blobs:
            blob, key = step.descriptor, result.delivery.key(step.descriptor.digest)
            if key not in self._mounted or target.registry.blob_size(target.repository, blob.digest) == blob.size:
                continue
            self.upload([(result, step)])
            if (error := self._outcomes[key]) is not None:
                raise error
            self._mounted.discard(key)
            result.blobs_mounted -= step.action == "mount"
            mended = True
        return mended

    def put_manifests(self, result: TargetResult) -> None:
        """All manifests but those that a tag will bring; only when every blob is there, else the first one's error."""
        delivery = result.delivery
        for step in delivery.blobs:
            outcome = self._outcomes.get(delivery.key(step.descriptor.digest))
            if outcome is not None:
                raise outcome
        later = _brought_by_tag(delivery)
        for manifest in delivery.manifests:
            digest = manifest.manifest.digest
            # A shared one is put here only when the delivery that should have brought it failed.
            if manifest.action != "present" and digest not in later and delivery.key(digest) not in self._written:
                self._put(result, digest)
                result.manifests_put += 1

    def _put(self, result: TargetResult, digest: Digest, *, tag: str = "") -> None:
        target, closure = result.target, result.delivery.job.closure
        manifest = next(item for item in closure.manifests if item.digest == digest)
        try:
            put = partial(target.registry.put_manifest, target.repository, manifest, tag=tag)
            self._mending(result, "manifest", put)
        except (NotFound, Refused) as error:
            left_out = closure.left_out(manifest)
            if not left_out or type(error) not in (NotFound, Refused) or error.code == "NAME_UNKNOWN":
                raise
            if self._tools.refusals and error.code in MISSING_CHILD:
                self._tools.refusals.learn(target.registry.name)
            raise Refused(
                f"an index without {len(left_out)} of its manifests is not taken ({error.what})",
                where=error.where,
                do=whole_index_advice(rewritten=closure.named is not None),
                status=error.status,
                code=error.code,
            ) from error
        self._written.add(result.delivery.key(digest))
        sent = {blob for blob in closure.blobs_of[digest] if result.delivery.key(blob) in self._sent}
        for blob in self._vouchers.vouched(target, manifest, sent):
            self._sizes_read.vouch(target, blob)

    def set_tags(self, result: TargetResult) -> None:
        """Tags, by digest; those that may not move are drift."""
        untagged = set(_brought_by_tag(result.delivery))
        for step in result.delivery.tags:
            self._tag(result, step, untagged)

    def _tag(self, result: TargetResult, step: TagStep, untagged: set[Digest]) -> None:
        if step.action == "drift":
            result.drift += (Drift("target", step.tag, step.digest, step.before),)
        name = (step.tag, result.delivery.key(step.digest))
        # A shared one is set here only when the delivery that should have set it failed.
        if step.action not in ("set", "shared") or name in self._tagged:
            return
        try:
            self._put(result, step.digest, tag=step.tag)
            self._tagged.add(name)
        except TagImmutable:
            result.drift += (Drift("target", step.tag, step.digest, step.before),)
            if step.digest in untagged:
                self._put(result, step.digest)
            else:
                return
        else:
            result.tags_moved += 1
        if step.digest in untagged:
            untagged.discard(step.digest)
            result.manifests_put += 1

    def finish_unchanged(self, result: TargetResult) -> None:
        """Of a copy that has nothing to write: tags that may not move are drift, and it is finished."""
        self.set_tags(result)
        self.finish(result)

    def finish(self, result: TargetResult) -> None:
        """Read the target back, keep the receipt, and remember which blobs are there."""
        delivery, closure = result.delivery, result.delivery.job.closure
        tags = {step.tag: step.digest for step in delivery.tags if step.tag not in {item.tag for item in result.drift}}
        self._note_source_drift(result)
        result.receipt = self._receipt(result, tags)
        if self._tools.blob.journal and not delivery.unchanged:
            refused = [digest for digest in delivery.mounts() if delivery.key(digest) not in self._mounted]
            with contextlib.suppress(LocalError):  # hints for later runs; this copy is whole without them
                self._tools.blob.journal.hold(delivery.target, list(closure.blobs), instead=refused)
        result.seconds = time.monotonic() - result.began
        self._tools.progress.end(result.label, note="unchanged" if delivery.unchanged else "copied")

    def _note_source_drift(self, result: TargetResult) -> None:
        closure = result.delivery.job.closure
        if result.delivery.unchanged or not closure.by_tag:
            return
        key = (closure.source.registry.name, closure.source.repository, closure.reference)
        named_now = self._sources_now.get(key, lambda: self._digest_at_source(result.source, closure))
        planned = closure.named or closure.root.digest
        if named_now != planned:
            result.drift += (Drift("source", closure.reference, planned, named_now),)

    def _digest_at_source(self, source: Place, closure: Closure) -> Digest | None:
        """What the copied tag names by now. A source that went down after the copy is no reason to fail it."""
        planned = closure.named or closure.root.digest
        if not self._tools.blob.health.ready(source, "read"):
            return planned
        try:
            return digest_at(source, closure.reference)
        except RegistryError:
            return planned

    def _receipt(self, result: TargetResult, tags: dict[str, Digest]) -> Receipt:
        delivery, store = result.delivery, self._tools.receipts
        closure, target = delivery.job.closure, delivery.target
        known = store.find(closure, target) if store and delivery.unchanged else None
        if known is not None and (known.signed or self._tools.signer is None):
            return known
        try:
            read = partial(read_back, closure, result.target, tags, self._questions, self._sizes_read)
            document = self._mending(result, "read-back", read)
        except ClosureIncomplete:
            if store:
                store.drop(target, closure.root.digest)
            raise
        receipt = make_receipt(document, self._tools.signer)
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
