"""What a target has of a closure already; asked with as few requests as tell it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from registry_pipelines.errors import Forbidden, NotFound, RegistryPipelinesError, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import BlobSizes, ManifestBatches, Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.lists import unlisted_at
from registry_pipelines.transfer.delivery.answers import Answers
from registry_pipelines.transfer.delivery.receipts import ReceiptStore


class Seen(msgspec.Struct):
    """What a target has of a closure."""

    tags: dict[str, Digest] = {}
    manifests: set[Digest] = set()
    blobs: set[Digest] = set()
    unlisted: set[Digest] = set()
    """Referrers that are there, and that the target's list does not name."""


def try_to_look(
    closure: Closure, tags: Sequence[str], target: Place, new: NewRepositories, receipts: ReceiptStore | None
) -> Seen | RegistryPipelinesError:
    """What the target has, or why it cannot be looked at. tags: what the closure's root is to be called there.
    receipts: of earlier copies; only blobs that one names are believed in because their manifest is there. Without a
    store all are."""
    try:
        return _look(closure, tags, target, new, receipts)
    except RegistryPipelinesError as error:
        return error


def _look(
    closure: Closure, tags: Sequence[str], target: Place, new: NewRepositories, receipts: ReceiptStore | None
) -> Seen:
    seen, root = Seen(), closure.root.digest
    came_before = receipts is not None and receipts.has(target, root)
    if not came_before and new.contains(target):
        return seen
    for tag in {**dict.fromkeys(tags, root), **closure.digest_tags}:
        digest = digest_at(target, tag)
        if digest:
            seen.tags[tag] = digest
            seen.manifests.add(digest)
    if root not in seen.manifests and digest_at(target, root):
        seen.manifests.add(root)
    if came_before and not seen.manifests and new.contains(target):
        return seen  # the repository was deleted since
    others = [each.digest for each in closure.manifests if each.digest != root and each.digest not in seen.manifests]
    seen.manifests.update(there_of(target, others))
    if closure.subjects:
        known = receipts.list_keeper(target, root) if receipts else None
        seen.unlisted = unlisted_at(target, closure, seen.manifests, known)
    _look_for_blobs(closure, target, seen, closure.blobs if receipts is None else receipts.blobs(target, root))
    return seen


def there_of(target: Place, digests: Sequence[Digest]) -> set[Digest]:
    """Those of the manifests that the target has."""
    if len(digests) > 1 and isinstance(target.registry, ManifestBatches):
        return target.registry.manifests_there(target.repository, digests)
    return {digest for digest in digests if digest_at(target, digest)}


def _look_for_blobs(closure: Closure, target: Place, seen: Seen, vouched: Collection[str]) -> None:
    for digest, blobs in closure.blobs_of.items():
        if digest in seen.manifests:
            seen.blobs.update(blob for blob in blobs if blob in vouched)
    unsure = [digest for digest in closure.blobs if digest not in seen.blobs]
    sizes = _sizes(target, unsure)
    seen.blobs.update(digest for digest in unsure if sizes.get(digest) == closure.blobs[digest].size)


def _sizes(target: Place, digests: Sequence[Digest]) -> Mapping[Digest, int | None]:
    if digests and isinstance(target.registry, BlobSizes):
        return {**target.registry.blob_sizes(target.repository, digests)}
    return {digest: target.registry.blob_size(target.repository, digest) for digest in digests}


class NewRepositories:
    """Repositories that were never written to: in them nothing needs to be looked for. One question per repository.

    A registry says the same of one that has blobs and no manifest yet, as a killed run leaves it. begun: whether some
    run began to send blobs to a place, None where nobody remembers; to such a place all questions are asked.
    """

    def __init__(self, begun: Callable[[Place], bool] | None = None) -> None:
        self._begun = begun
        self._answers: Answers[tuple[str, str], bool] = Answers()

    def contains(self, target: Place) -> bool:
        """Whether the target is one of them."""
        key = (target.registry.name, target.repository)
        return bool(self._answers.get(key, lambda: self._ask(target)))

    def _ask(self, target: Place) -> bool:
        try:
            next(iter(target.registry.tags(target.repository)), None)
        except NotFound:
            return self._begun is None or not self._begun(target)
        except (Unsupported, Forbidden):
            return False
        return False
