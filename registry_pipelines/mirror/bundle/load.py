"""Load bundles into the far side's registry: all is looked at first, then our engine copies, tags last.

Loading is idempotent and takes bundles in any order. After a kill the same command goes on: what is there is found,
uploads go on where they were. A tag never moves from what a later bundle set to what an earlier one says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.mirror.bundle.far import FarFolder, FarState, FarTag, in_future, newer
from registry_pipelines.mirror.bundle.format import Bundle, BundleImage
from registry_pipelines.mirror.bundle.media import Found
from registry_pipelines.mirror.bundle.needs import require_needs
from registry_pipelines.mirror.bundle.opened import OpenBundle
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import Engine


@dataclass(frozen=True)
class KeptTag:
    """A tag that a later bundle set, so that this one left it. by: number of that bundle, and its line."""

    repository: str
    tag: str
    digest: str
    """What it names."""
    by: str


@dataclass(frozen=True)
class LoadedImage:
    """What became of one image of a bundle."""

    image: BundleImage
    tags: tuple[str, ...]
    result: TargetResult | RegistryPipelinesError

    @property
    def copied(self) -> TargetResult | None:
        """What the copy did; None where it could not begin."""
        return None if isinstance(self.result, RegistryPipelinesError) else self.result

    @property
    def error(self) -> RegistryPipelinesError | None:
        """Why it is not whole at the far side."""
        return self.result if isinstance(self.result, RegistryPipelinesError) else self.result.error

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.copied is not None and self.copied.changed

    @property
    def bytes_moved(self) -> int:
        """Content that was sent to the registry."""
        return self.copied.bytes_moved if self.copied else 0


@dataclass(frozen=True)
class Load:
    """What became of one bundle. again: it was loaded whole before. notes: what a person should know, a sentence
    each."""

    bundle: Bundle
    images: tuple[LoadedImage, ...]
    kept: tuple[KeptTag, ...] = ()
    again: bool = False
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether all of it is at the far side, under its tags."""
        return all(each.copied is not None and each.copied.ok for each in self.images)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return any(each.changed for each in self.images)

    @property
    def bytes_moved(self) -> int:
        """Content that was sent to the registry."""
        return sum(each.bytes_moved for each in self.images)


def in_order(found: Sequence[Found], state: FarState) -> list[Found]:
    """Bundles in the order to load them: the numbers of a line one after another, lines as they began."""

    def first(each: Found) -> tuple[int, float]:
        made = read_time(each.bundle.made_at)
        return state.origin(each.bundle).builds_on, made.timestamp() if made else 0.0

    began: dict[str, tuple[int, float]] = {}
    for each in found:
        began[each.bundle.line] = min(began.get(each.bundle.line, first(each)), first(each))
    return sorted(found, key=lambda each: (began[each.bundle.line], each.bundle.line, each.bundle.number))


def load_bundles(
    found: Sequence[Found], to: Registry, far: FarFolder, *, engine: Engine, now: datetime, move_back: bool = False
) -> list[Load]:
    """Load verified bundles of one mirror, which are all whole.

    First all manifests are read and what was left out is looked for, so that a bundle that does not hold together, or
    whose base is missing, is refused before anything is written. move_back: tags move also to what an earlier bundle
    says. An image that fails does not hold up the others; its bundle is then not noted as loaded.

    Raises ContentError for a bundle that cannot be loaded, StateLocked, LocalError, RegistryError while looking.
    """
    with far.held() as state:
        bundles = [OpenBundle(each.bundle, each.paths, to) for each in in_order(found, state)]
        require_needs(bundles, to, state)
        return [_load(each, to, far, state, engine, now, move_back) for each in bundles]


def _load(
    opened: OpenBundle, to: Registry, far: FarFolder, state: FarState, engine: Engine, now: datetime, move_back: bool
) -> Load:
    started, bundle = time.monotonic(), opened.bundle
    again, notes = state.has_loaded(bundle), tuple(_notes(bundle, state, now))
    kept = [] if move_back else list(_kept(bundle, state, now))
    opened.hide({(each.repository, each.tag) for each in kept})
    _prepare(opened, to, engine)
    items = list(_items(opened, to))
    results = copy_items([item for _, item in items], engine=engine)
    images = tuple(LoadedImage(image, item.tags, result) for (image, item), result in zip(items, results, strict=True))
    load = Load(bundle, images, tuple(kept), again, time.monotonic() - started, notes)
    _remember(load, state, now)
    far.save(state)
    return load


def _notes(bundle: Bundle, state: FarState, now: datetime) -> Iterator[str]:
    if in_future(bundle.made_at, now):
        yield (
            f"{bundle.name} says that it was made at {bundle.made_at}, which is in the future here: one of the clocks "
            "is wrong"
        )
    if state.number_taken(bundle):
        yield (
            f"another {bundle.name} was loaded before: the near side's state came back from a backup. Take a receipt "
            "of now there (`bundle receipt`), by which it notices"
        )
    later = max(state.loaded.get(bundle.line, [0]))
    if later > bundle.number:
        yield f"{bundle.name} is older than number {later}, which was loaded before: no tag moves back"
    if bundle.receipt and bundle.receipt.far != state.far:
        yield f"{bundle.name} builds on a receipt of another far side; all that it leaves out is here all the same"


def _kept(bundle: Bundle, state: FarState, now: datetime) -> Iterator[KeptTag]:
    origin = state.origin(bundle)
    for image in bundle.images:
        known = state.repository(image.repository).tags
        for tag, digest in {**dict.fromkeys(image.tags, image.digest), **image.digest_tags}.items():
            before = known.get(tag)
            if before and before.digest != digest and not newer(origin, before.origin, now):
                by = f"number {before.origin.number}"
                by += "" if before.origin.line == bundle.line else f" of the line {before.origin.line[:8]}"
                yield KeptTag(image.repository, tag, before.digest, by)


def _items(opened: OpenBundle, to: Registry) -> Iterator[tuple[BundleImage, Item]]:
    """What is copied. An image whose tags stay where they are comes all the same, as it had come in order."""
    for image in opened.bundle.images:
        source, target = Place(opened, image.repository), Place(to, image.repository)
        shown = set(opened.tags(image.repository))
        yield (
            image,
            Item(
                source,
                image.digest,
                target,
                tags=tuple(tag for tag in image.tags if tag in shown),
                platforms=tuple(map(Platform.parse, image.platforms)),
                foreign_layers=image.foreign_layers,
            ),
        )
        for tag, digest in image.digest_tags.items():
            if tag not in shown:
                yield image, Item(source, digest, target)


def _prepare(opened: OpenBundle, to: Registry, engine: Engine) -> None:
    """Tell the engine's state what this load knows better. Receipts of earlier copies are dropped: by them an image is
    believed to be whole while its manifest is there, and who loads again wants to know. And what is left out is mounted
    from where it is, which the journal tells the planner."""
    by_repository: dict[str, list[Digest]] = {}
    for digest, repository in opened.held.items():
        by_repository.setdefault(repository, []).append(digest)
    with engine.opened() as state:
        if state.receipts:
            for image in opened.bundle.images:
                state.receipts.drop(Place(to, image.repository), image.digest)
        if by_repository and (journal := state.open_journal()):
            for repository, digests in by_repository.items():
                journal.hold(Place(to, repository), digests)


def _remember(load: Load, state: FarState, now: datetime) -> None:
    """Note what came whole."""
    origin = state.origin(load.bundle)
    for each in load.images:
        if each.copied is None or each.error:
            continue
        closure, repository = each.copied.delivery.job.closure, state.repository(each.image.repository)
        repository.manifests.update({each.digest: closure.blobs_of.get(each.digest, ()) for each in closure.manifests})
        repository.blobs.update({blob.digest: blob.size for blob in closure.blobs.values()})
        left = {drift.tag for drift in each.copied.drift}
        named = {**dict.fromkeys(each.tags, each.image.digest), **closure.digest_tags}
        for tag, digest in named.items():
            known = repository.tags.get(tag)
            later = known is not None and known.digest == digest and not newer(origin, known.origin, now)
            if tag not in left and not later:
                repository.tags[tag] = FarTag(digest, origin)
    if load.ok:
        state.note_loaded(load.bundle)
