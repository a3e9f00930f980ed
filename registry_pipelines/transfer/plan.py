"""What a copy will do, as a plain value: it can be printed, stored and approved; the dry run *is* this value.

The order that every execution keeps: blobs; manifests, children before parents and subjects before referrers; tags
last, by digest. A blob that several repositories of one registry need is uploaded for the first (the *leader*) and
mounted for the others once the leader's manifests are committed, because ECR mounts only blobs that a committed
manifest names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.closure import Closure
from registry_pipelines.transfer.look import NewRepositories, Seen, digest_at, try_to_look
from registry_pipelines.transfer.receipts import ReceiptStore
from registry_pipelines.transfer.rules import KNOWN, Refusal, Rule, refusal, rule_for, whole_index_advice

PLAN_THREADS = 64
"""Looks at targets at once. They are small requests, so latency counts; the limits of a registry still hold."""

BlobKey = tuple[str, str, Digest]
"""Registry name, repository, digest: a blob in one place."""


@dataclass(frozen=True)
class Job:
    """One closure and where it must be. tags: what the root is called there. move_tags: whether a tag that names
    another digest may move; when not, it is reported as drift and left alone."""

    closure: Closure
    targets: tuple[Place, ...]
    tags: tuple[str, ...] = ()
    move_tags: bool = True


@dataclass(frozen=True)
class BlobStep:
    """One blob at one target. ``upload``: from the source. ``mount``: from repository ``mount_from`` of the target's
    registry. ``shared``: another delivery of the plan brings it to the same repository. ``present``: nothing to do."""

    descriptor: Descriptor
    action: Literal["upload", "mount", "shared", "present"]
    mount_from: str = ""
    leader: int | None = None
    """The delivery (its position in the plan) whose manifests must be committed before the mount."""


@dataclass(frozen=True)
class ManifestStep:
    """One manifest at one target. ``shared``: another delivery of the plan puts it into the same repository."""

    manifest: ManifestBytes
    action: Literal["put", "shared", "present"]


@dataclass(frozen=True)
class TagStep:
    """One tag at one target. ``drift``: it names another digest and may not move. before: what it named until now."""

    tag: str
    digest: Digest
    before: Digest | None
    action: Literal["set", "present", "drift"]


@dataclass(frozen=True)
class Delivery:
    """Everything to do for one closure at one target."""

    job: Job
    target: Place
    blobs: tuple[BlobStep, ...]
    manifests: tuple[ManifestStep, ...]
    tags: tuple[TagStep, ...]
    refused: str = ""
    """Why the target will not take it, known beforehand; then there are no steps."""
    unseen: RegistryPipelinesError | None = None
    """Why the target could not be looked at; ``refused`` says the same in words."""
    do: str = ""
    """What to do about ``refused``; empty where only ``unseen`` tells."""

    @property
    def upload_bytes(self) -> int:
        """Bytes of the blobs that this delivery uploads."""
        return sum(step.descriptor.size for step in self.blobs if step.action == "upload")

    @property
    def unchanged(self) -> bool:
        """Whether the target has everything already."""
        steps: Iterable[BlobStep | ManifestStep | TagStep] = (*self.blobs, *self.manifests, *self.tags)
        return not self.refused and all(step.action in ("present", "drift") for step in steps)

    def key(self, digest: Digest) -> BlobKey:
        """The name of a blob at this target."""
        return (self.target.registry.name, self.target.repository, digest)

    def written(self) -> Iterator[BlobKey]:
        """The manifests that are written, be it again under another tag."""
        for step in self.manifests:
            if step.action != "present":
                yield self.key(step.manifest.digest)
        for tag in self.tags:
            if tag.action == "set":
                yield self.key(tag.digest)

    def mounts(self) -> list[Digest]:
        """The blobs that are to be mounted."""
        return [step.descriptor.digest for step in self.blobs if step.action == "mount"]

    def to_json(self) -> dict[str, object]:
        """Plain values for JSON; digests and names only, no secrets."""
        return {
            "source": str(self.job.closure.source),
            "reference": self.job.closure.reference,
            "root": str(self.job.closure.root.digest),
            "target": str(self.target),
            **({"refused": self.refused} if self.refused else {}),
            **({"do": self.do} if self.do else {}),
            "blobs": [
                {
                    "digest": str(step.descriptor.digest),
                    "size_bytes": step.descriptor.size,
                    "action": step.action,
                    **({"mount_from": step.mount_from} if step.mount_from else {}),
                }
                for step in self.blobs
            ],
            "manifests": [
                {"digest": str(step.manifest.digest), "media_type": step.manifest.media_type, "action": step.action}
                for step in self.manifests
            ],
            "tags": [
                {"tag": step.tag, "digest": str(step.digest), "before": str(step.before or ""), "action": step.action}
                for step in self.tags
            ],
        }


@dataclass(frozen=True)
class Plan:
    """Deliveries in the order of the jobs; earlier ones lead, later ones mount."""

    deliveries: tuple[Delivery, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether nothing is to be done."""
        return all(delivery.unchanged for delivery in self.deliveries)

    @property
    def upload_bytes(self) -> int:
        """Bytes that targets receive."""
        return sum(delivery.upload_bytes for delivery in self.deliveries)

    @property
    def fetch_bytes(self) -> int:
        """Bytes that leave the sources: every blob once, however many targets it goes to."""
        return sum({step.descriptor.digest: step.descriptor.size for step in self._steps("upload")}.values())

    def _steps(self, action: str) -> list[BlobStep]:
        return [step for delivery in self.deliveries for step in delivery.blobs if step.action == action]

    def to_json(self) -> dict[str, object]:
        """The whole plan as plain values."""
        return {
            "fetch_bytes": self.fetch_bytes,
            "upload_bytes": self.upload_bytes,
            "mounts": len(self._steps("mount")),
            "deliveries": [delivery.to_json() for delivery in self.deliveries],
        }


class Holdings(Protocol):
    """What earlier runs left where; only a hint, a mount that fails falls back to an upload."""

    def holders(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """A repository of the registry for each blob known to be there."""
        ...


def make_plan(
    jobs: Sequence[Job],
    *,
    holdings: Holdings | None = None,
    rules: Sequence[Rule] = KNOWN,
    receipts: ReceiptStore | None = None,
) -> Plan:
    """Look at every target and say what is to be done; changes nothing. See :class:`Planner`."""
    with Planner(holdings=holdings, rules=rules, receipts=receipts) as planner:
        return planner.plan([planner.look(job) for job in jobs])


@dataclass(frozen=True)
class Looked:
    """A job whose targets are being looked at; answers in the order of its targets."""

    job: Job
    answers: tuple[Future[Seen | RegistryPipelinesError], ...]


class Planner:
    """Looks at the targets of a job as soon as it is known, while others are still searched for; then says what is to
    be done. Changes nothing. A context manager.

    rules: what registries are known to refuse; such deliveries are marked and have no steps. receipts: of earlier
    copies; where there is a store, a manifest's blobs are believed to be with it only when its receipt says so.

    Requests per closure and target: one HEAD per tag and manifest when all is there; else a HEAD for each blob of each
    missing manifest, or without a receipt. Where no receipt says that the closure came there before, one tag list for
    all closures finds out whether the repository is new; a new one is asked nothing else. A target that cannot be
    looked at is marked, too: it holds no other up.
    """

    def __init__(
        self,
        *,
        holdings: Holdings | None = None,
        rules: Sequence[Rule] = KNOWN,
        receipts: ReceiptStore | None = None,
    ) -> None:
        self._assign = _Assignment(holdings, rules)
        self._receipts = receipts
        self._new = NewRepositories()
        self._pool = ThreadPoolExecutor(PLAN_THREADS, thread_name_prefix="plan")

    def look(self, job: Job) -> Looked:
        """Begin to look at the targets; from any thread."""

        def begin(target: Place) -> Future[Seen | RegistryPipelinesError]:
            return self._pool.submit(try_to_look, job.closure, job.tags, target, self._new, self._receipts)

        return Looked(job, tuple(begin(target) for target in job.targets))

    def plan(self, looked: Sequence[Looked]) -> Plan:
        """The plan, with deliveries in this order; once. Raises InputError when two closures would have one tag at one
        place."""
        _check_goals([each.job for each in looked])
        answers = [(each.job, *pair) for each in looked for pair in zip(each.job.targets, each.answers, strict=True)]
        return Plan(tuple(self._assign.deliver(job, target, answer.result()) for job, target, answer in answers))

    def __enter__(self) -> Planner:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _check_goals(jobs: Sequence[Job]) -> None:
    """Which of two closures a tag names must not depend on which came last."""
    goals: dict[tuple[str, str, str], Closure] = {}
    for job in jobs:
        for target, tag in ((target, tag) for target in job.targets for tag in job.tags):
            first = goals.setdefault((target.registry.name, target.repository, tag), job.closure)
            if first.root.digest != job.closure.root.digest:
                raise InputError(
                    f"{_origin(first)} and {_origin(job.closure)} are both to be {target}:{tag}",
                    do="Give one of them another repository or prefix, or choose their tags apart; nothing was changed",
                )


def _origin(closure: Closure) -> str:
    return f"{closure.source}{':' if closure.by_tag else '@'}{closure.reference}"


class _Assignment:
    """Decides who uploads and who mounts. Pure but for two questions: whether a registry mounts at all, and whether one
    that wants whole indexes has the children that were left out."""

    def __init__(self, holdings: Holdings | None, rules: Sequence[Rule]) -> None:
        self.holdings, self.rules = holdings, rules
        self.count = 0
        self.coming: set[BlobKey] = set()
        self.put: set[BlobKey] = set()
        self.leaders: dict[tuple[str, Digest], tuple[int, str]] = {}
        self.mounts: dict[str, bool] = {}

    def deliver(self, job: Job, target: Place, seen: Seen | RegistryPipelinesError) -> Delivery:
        """The next delivery of the plan. One that is refused or unseen leads nobody: later ones do without it."""
        try:
            return self._deliver(job, target, seen)
        finally:
            self.count += 1

    def _deliver(self, job: Job, target: Place, seen: Seen | RegistryPipelinesError) -> Delivery:
        if isinstance(seen, RegistryPipelinesError):
            return _unseen(job, target, seen)
        closure = job.closure
        missing = sorted(
            (item for item in closure.blobs.values() if item.digest not in seen.blobs), key=lambda item: -item.size
        )
        held = self._held(target, missing)
        try:
            refused = refusal(target.registry.name, missing, self.rules) or self._refuses_sparse(closure, target, seen)
            if refused:
                return Delivery(job, target, (), (), (), refused.why, do=refused.do)
            blobs = [self._blob(job, target, item, held) for item in missing]
        except RegistryPipelinesError as error:
            return _unseen(job, target, error)
        self._lead(target, missing)
        blobs += [BlobStep(item, "present") for item in closure.blobs.values() if item.digest in seen.blobs]
        names = {**closure.digest_tags, **dict.fromkeys(job.tags, closure.root.digest)}
        return Delivery(
            job=job,
            target=target,
            blobs=tuple(blobs),
            manifests=tuple(self._manifest(target, item, seen) for item in closure.manifests),
            tags=tuple(_tag(job, tag, digest, seen.tags.get(tag)) for tag, digest in names.items()),
        )

    def _refuses_sparse(self, closure: Closure, target: Place, seen: Seen) -> Refusal | None:
        """An index without some of its children, for a registry that is known to want all of them."""
        if not closure.absent or rule_for(target.registry.name, self.rules).sparse_indexes:
            return None
        new = (manifest for manifest in closure.manifests if manifest.digest not in seen.manifests)
        for manifest in new:
            left_out = closure.left_out(manifest)
            if any(digest_at(target, child.digest) != child.digest for child in left_out):
                why = f"{manifest.digest} lacks {len(left_out)} of its manifests, and {target.registry.name} wants all"
                return Refusal(why, whole_index_advice(rewritten=closure.named is not None))
        return None

    def _held(self, target: Place, missing: Sequence[Descriptor]) -> Mapping[Digest, str]:
        if not self.holdings or not missing:
            return {}
        return self.holdings.holders(target.registry.name, [item.digest for item in missing])

    def _blob(self, job: Job, target: Place, item: Descriptor, held: Mapping[Digest, str]) -> BlobStep:
        name, repository = target.registry.name, target.repository
        if (name, repository, item.digest) in self.coming:
            return BlobStep(item, "shared")
        candidates: list[tuple[str, int | None]] = []
        source = job.closure.source
        if source.registry.name == name:
            candidates.append((source.repository, None))
        if item.digest in held:
            candidates.append((held[item.digest], None))
        if (name, item.digest) in self.leaders:
            leader, led_from = self.leaders[name, item.digest]
            candidates.append((led_from, leader))
        for mount_from, after in candidates:
            if mount_from != repository and self._can_mount(target):
                return BlobStep(item, "mount", mount_from, after)
        return BlobStep(item, "upload")

    def _manifest(self, target: Place, item: ManifestBytes, seen: Seen) -> ManifestStep:
        if item.digest in seen.manifests:
            return ManifestStep(item, "present")
        key = (target.registry.name, target.repository, item.digest)
        if key in self.put:
            return ManifestStep(item, "shared")
        self.put.add(key)
        return ManifestStep(item, "put")

    def _lead(self, target: Place, missing: Sequence[Descriptor]) -> None:
        """From here on these blobs come to this target with the present delivery."""
        name, repository = target.registry.name, target.repository
        for item in missing:
            self.coming.add((name, repository, item.digest))
            self.leaders.setdefault((name, item.digest), (self.count, repository))

    def _can_mount(self, target: Place) -> bool:
        name = target.registry.name
        if name not in self.mounts:
            self.mounts[name] = target.registry.capabilities(target.repository).mount is not False
        return self.mounts[name]


def _unseen(job: Job, target: Place, error: RegistryPipelinesError) -> Delivery:
    return Delivery(job, target, (), (), (), f"cannot be looked at: {error.what}", error)


def _tag(job: Job, tag: str, digest: Digest, before: Digest | None) -> TagStep:
    if before == digest:
        return TagStep(tag, digest, before, "present")
    may_move = before is None or job.move_tags or tag not in job.tags
    return TagStep(tag, digest, before, "set" if may_move else "drift")
