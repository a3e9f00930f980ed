"""Making a plan: what each target has is looked at, then each piece that is missing gets a way to come there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol

from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.lists import find_keeper
from registry_pipelines.transfer.delivery.look import NewRepositories, Seen, try_to_look
from registry_pipelines.transfer.delivery.plan import (
    BlobKey,
    BlobStep,
    Delivery,
    Job,
    ManifestStep,
    Plan,
    TagStep,
    key_of,
)
from registry_pipelines.transfer.delivery.receipts import ReceiptStore
from registry_pipelines.transfer.delivery.refusals import SparseRefusals
from registry_pipelines.transfer.limits.rules import KNOWN, Refusal, RegistryRule, refusal, rule_for, whole_index_advice

PLAN_THREADS = 64
"""Looks at targets at once. They are small requests, so latency counts; the limits of a registry still hold."""


class Holdings(Protocol):
    """What earlier runs left where; only a hint, a mount that fails falls back to an upload."""

    def holders(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """A repository of the registry for each blob known to be there."""
        ...

    def begun(self, target: Place) -> bool:
        """Whether an earlier run sent blobs there, be it that it was killed before the first manifest."""
        ...


_Look = Future[Seen | RegistryPipelinesError]


class Planner:
    """Looks at the targets of a job as soon as it is known, while others are still searched for; then says what is to
    be done. Changes nothing. A context manager.

    rules: what registries are known to refuse; such deliveries are marked and have no steps. receipts: of earlier
    copies; where there is a store, a manifest's blobs are believed to be with it only when its receipt says so.
    refusals: registries that refused an index without some of its children, as those of which rules say it.

    Requests per closure and target: one HEAD per tag and manifest when all is there; else a HEAD for each blob of each
    missing manifest, or without a receipt. Where no receipt says that the closure came there before, one tag list for
    all closures finds out whether the repository is new; a new one is asked nothing else. A target that cannot be
    looked at is marked, too: it holds no other up. Where a target keeps lists of referrers under tags, one GET for each
    manifest that has any: what its list lost is put on it again.
    """

    def __init__(
        self,
        *,
        holdings: Holdings | None = None,
        rules: Sequence[RegistryRule] = KNOWN,
        receipts: ReceiptStore | None = None,
        refusals: SparseRefusals | None = None,
    ) -> None:
        self._holdings, self._rules, self._receipts, self._refusals = holdings, rules, receipts, refusals
        self._new = NewRepositories(holdings.begun if holdings else None)
        self._pool = Pool(PLAN_THREADS, "plan")
        self._looks: dict[int, tuple[Job, list[_Look]]] = {}

    def look(self, job: Job) -> None:
        """Begin to look at the targets of a job that is still to be planned, while others are searched for; from any
        thread."""

        def begin(target: Place) -> _Look:
            return self._pool.submit(try_to_look, job.closure, job.tags, target, self._new, self._receipts)

        self._looks[id(job)] = job, [begin(target) for target in job.targets]

    def plan(self, jobs: Sequence[Job]) -> Plan:
        """The plan, with deliveries in this order. Targets that nobody began to look at are looked at now. Raises
        InputError when two closures would have one tag at one place."""
        goals = Goals()
        for job in jobs:
            goals.take(job)
            if id(job) not in self._looks:
                self.look(job)
        looks = [(job, *pair) for job in jobs for pair in zip(job.targets, self._looks[id(job)][1], strict=True)]
        seen = [(job, target, look.result()) for job, target, look in looks]
        assign = _Assignment(self._held(seen), _there(seen), self._rules, self._refusals)
        return Plan(tuple(assign.deliver(*each) for each in seen))

    def _held(
        self, seen: Sequence[tuple[Job, Place, Seen | RegistryPipelinesError]]
    ) -> dict[str, Mapping[Digest, str]]:
        """By registry, where the blobs that some delivery misses are known to be: one question for all of them."""
        missing: dict[str, dict[Digest, None]] = {}
        for job, target, answer in seen:
            if isinstance(answer, Seen):
                lacks = [digest for digest in job.closure.blobs if digest not in answer.blobs]
                missing.setdefault(target.registry.name, {}).update(dict.fromkeys(lacks))
        if self._holdings is None:
            return {}
        return {name: self._holdings.holders(name, list(digests)) for name, digests in missing.items() if digests}

    def __enter__(self) -> Planner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, traceback)


class Goals:
    """Which closure each tag of each place is to name: that must not depend on which came last."""

    def __init__(self) -> None:
        self._closures: dict[tuple[str, str, str], Closure] = {}

    def take(self, job: Job) -> None:
        """A job's tags. Raises InputError when one of them is another closure's."""
        if (clash := self.clash(job)) is not None:
            raise clash
        for target, tag in ((target, tag) for target in job.targets for tag in job.tags):
            self._closures[target.registry.name, target.repository, tag] = job.closure

    def clash(self, job: Job) -> InputError | None:
        """Why a job's tags cannot be its own."""
        for target, tag in ((target, tag) for target in job.targets for tag in job.tags):
            first = self._closures.get((target.registry.name, target.repository, tag), job.closure)
            if first.root.digest != job.closure.root.digest:
                return InputError(
                    f"{_origin(first)} and {_origin(job.closure)} are both to be {target}:{tag}",
                    do="Give one of them another repository or prefix, or choose their tags apart; nothing was changed",
                )
        return None


def _origin(closure: Closure) -> str:
    return f"{closure.source}{':' if closure.by_tag else '@'}{closure.reference}"


def _there(seen: Sequence[tuple[Job, Place, Seen | RegistryPipelinesError]]) -> dict[tuple[str, Digest], str]:
    """By registry name and blob, a repository in which a manifest of this plan has it already. The journal writes such
    down once a second, and knows nothing of what others brought."""
    repositories: dict[tuple[str, Digest], str] = {}
    for job, target, answer in seen:
        if isinstance(answer, Seen):
            for manifest in answer.manifests:
                for blob in answer.blobs.intersection(job.closure.blobs_of.get(manifest, ())):
                    repositories.setdefault((target.registry.name, blob), target.repository)
    return repositories


class _Assignment:
    """Decides who uploads and who mounts. Pure but for one question: whether a registry that wants whole indexes has
    the children that were left out."""

    def __init__(
        self,
        held: Mapping[str, Mapping[Digest, str]],
        there: Mapping[tuple[str, Digest], str],
        rules: Sequence[RegistryRule],
        refusals: SparseRefusals | None,
    ) -> None:
        self.held, self.there, self.rules, self.refusals = held, there, rules, refusals
        self.count = 0
        self.coming: set[BlobKey] = set()
        self.put: set[BlobKey] = set()
        self.tagged: set[tuple[str, BlobKey]] = set()
        self.leaders: dict[tuple[str, Digest], tuple[int, str]] = {}

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
            (blob for blob in closure.blobs.values() if blob.digest not in seen.blobs), key=lambda blob: -blob.size
        )
        held = self.held.get(target.registry.name, {})
        try:
            refused = refusal(target.registry.name, missing, self.rules) or self._refuses_sparse(closure, target, seen)
            if refused:
                return Delivery(job, target, (), (), (), refused.why, do=refused.do)
            steps = [self._blob(job, target, blob, held) for blob in missing]
        except RegistryPipelinesError as error:
            return _unseen(job, target, error)
        self._lead(target, missing)
        steps += [BlobStep(blob, "present") for blob in closure.blobs.values() if blob.digest in seen.blobs]
        names = {**closure.digest_tags, **dict.fromkeys(job.tags, closure.root.digest)}
        return Delivery(
            job=job,
            target=target,
            blobs=tuple(steps),
            manifests=tuple(self._manifest(target, manifest, seen) for manifest in closure.manifests),
            tags=tuple(self._tag(job, target, tag, digest, seen.tags.get(tag)) for tag, digest in names.items()),
        )

    def _refuses_sparse(self, closure: Closure, target: Place, seen: Seen) -> Refusal | None:
        """An index without some of its children, for a registry that is known to want all of them."""
        if not closure.absent:
            return None
        known, wants = not rule_for(target.registry.name, self.rules).sparse_indexes, "wants all"
        if not known and self.refusals and (day := self.refusals.refused_on(target.registry.name)):
            known, wants = True, f"refused such an index on {day}"
        if not known:
            return None
        new = (manifest for manifest in closure.manifests if manifest.digest not in seen.manifests)
        for manifest in new:
            left_out = closure.left_out(manifest)
            if any(digest_at(target, child.digest) != child.digest for child in left_out):
                why = f"{manifest.digest} lacks {len(left_out)} of its manifests, and {target.registry.name} {wants}"
                return Refusal(why, whole_index_advice(rewritten=closure.named is not None))
        return None

    def _blob(self, job: Job, target: Place, blob: Descriptor, held: Mapping[Digest, str]) -> BlobStep:
        name, repository = target.registry.name, target.repository
        if key_of(target, blob.digest) in self.coming:
            return BlobStep(blob, "shared")
        candidates: list[tuple[str, int | None]] = []
        source = job.closure.source
        if source.registry.name == name:
            candidates.append((source.repository, None))
        if blob.digest in held:
            candidates.append((held[blob.digest], None))
        if (name, blob.digest) in self.there:
            candidates.append((self.there[name, blob.digest], None))
        if (name, blob.digest) in self.leaders:
            leader, led_from = self.leaders[name, blob.digest]
            candidates.append((led_from, leader))
        for mount_from, after in candidates:
            if mount_from != repository and target.registry.capabilities(repository).mount is not False:
                return BlobStep(blob, "mount", mount_from, after)
        return BlobStep(blob, "upload")

    def _manifest(self, target: Place, manifest: ManifestBytes, seen: Seen) -> ManifestStep:
        there = manifest.digest in seen.manifests
        if there and manifest.digest not in seen.unlisted:
            return ManifestStep(manifest, "present")
        key = key_of(target, manifest.digest)
        if key in self.put:
            return ManifestStep(manifest, "shared")
        self.put.add(key)
        return ManifestStep(manifest, "list" if there else "put")

    def _tag(self, job: Job, target: Place, tag: str, digest: Digest, before: Digest | None) -> TagStep:
        if before == digest:
            return TagStep(tag, digest, before, "present")
        name = (tag, key_of(target, digest))
        if name in self.tagged:
            return TagStep(tag, digest, before, "shared")
        if before is not None and not job.move_tags and tag in job.tags:
            return TagStep(tag, digest, before, "drift")
        if tag == digest.fallback_tag and (before is not None or _lists_there(job.closure, target, digest)):
            return TagStep(tag, digest, before, "drift")  # a list of referrers is more than a second name
        self.tagged.add(name)
        return TagStep(tag, digest, before, "set")

    def _lead(self, target: Place, missing: Sequence[Descriptor]) -> None:
        """From here on these blobs come to this target with the present delivery."""
        for blob in missing:
            self.coming.add(key_of(target, blob.digest))
            self.leaders.setdefault((target.registry.name, blob.digest), (self.count, target.repository))


def _lists_there(closure: Closure, target: Place, subject: Digest) -> bool:
    """Whether the list of a manifest's referrers is to be under its tag, or may be: where that cannot be found out, the
    tag is left alone, since signatures weigh more than a second name."""
    return subject in closure.subjects.values() and find_keeper(target, subject) != "registry"


def _unseen(job: Job, target: Place, error: RegistryPipelinesError) -> Delivery:
    return Delivery(job, target, (), (), (), f"cannot be looked at: {error.what}", error)
