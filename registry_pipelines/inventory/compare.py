"""What changed between two inventories: images that came or went, and tags that name something else.

What could not be read in one of the two is in no difference: a repository that was silent has not lost its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from registry_pipelines.inventory.reader import EVERYTHING
from registry_pipelines.inventory.value import Inventory


class Change(NamedTuple):
    """One difference. tag: the one that moved, else the first of the image's. before: what a moved tag named.
    size_bytes: of the image, 0 where it is not known."""

    what: Literal["new", "gone", "tag moved"]
    registry: str
    repository: str
    digest: str
    tag: str = ""
    before: str = ""
    size_bytes: int = 0


class Held(NamedTuple):
    """One repository: sizes by digest, digests by tag."""

    sizes: dict[str, int]
    tags: dict[str, str]

    def tag_of(self, digest: str) -> str:
        """One of an image's tags; empty for none."""
        return next((tag for tag, named in self.tags.items() if named == digest), "")


Repository = tuple[str, str]
"""Registry and repository."""


def compare(before: Inventory, after: Inventory) -> tuple[list[Change], list[str]]:
    """The changes, by registry and repository, and what was left out of them, one name each: registries that only one
    of the two asked, and whatever one of them could not read. Both are to be of the same repositories: one that was
    not asked for looks like one that holds nothing."""
    then, now = held(before), held(after)
    left = sorted({*_unread(before), *_unread(after), *_asked_by_one(before, after)})
    changes = [
        change
        for place in sorted({*then, *now})
        if not _left_out(place, left)
        for change in _changes(place, then.get(place, Held({}, {})), now.get(place, Held({}, {})))
    ]
    return changes, ["/".join(filter(None, each)) for each in left]


def held(inventory: Inventory) -> dict[Repository, Held]:
    """An inventory by repository."""
    found: dict[Repository, Held] = {}
    table = inventory.table().select(["registry", "repository", "digest", "size_bytes", "tags"])
    for batch in table.to_batches():
        for registry, repository, digest, size, tags in zip(*(each.to_pylist() for each in batch), strict=True):
            there = found.setdefault((registry, repository), Held({}, {}))
            there.sizes[digest] = size or 0
            there.tags.update(dict.fromkeys(tags, digest))
    return found


def _changes(place: Repository, then: Held, now: Held) -> Iterator[Change]:
    for digest in sorted(now.sizes.keys() - then.sizes.keys()):
        yield Change("new", *place, digest, now.tag_of(digest), size_bytes=now.sizes[digest])
    for digest in sorted(then.sizes.keys() - now.sizes.keys()):
        yield Change("gone", *place, digest, then.tag_of(digest), size_bytes=then.sizes[digest])
    for tag in sorted(then.tags.keys() & now.tags.keys()):
        if then.tags[tag] != now.tags[tag]:
            digest = now.tags[tag]
            yield Change("tag moved", *place, digest, tag, then.tags[tag], now.sizes[digest])


def _unread(inventory: Inventory) -> Iterator[Repository]:
    """A whole registry has no repository's name."""
    for source in inventory.sources:
        for each in source.unread:
            yield source.registry, "" if each.what == EVERYTHING else each.what


def _asked_by_one(before: Inventory, after: Inventory) -> Iterator[Repository]:
    names = {each.registry for each in before.sources} ^ {each.registry for each in after.sources}
    return ((name, "") for name in names)


def _left_out(place: Repository, left: list[Repository]) -> bool:
    """Whether it, something in it, or what it lies in was not read."""
    registry, repository = place
    return any(
        registry == other and (not what or f"{repository}/".startswith(f"{what}/") or _within(what, repository))
        for other, what in left
    )


def _within(what: str, repository: str) -> bool:
    return what.startswith((f"{repository}@", f"{repository}:"))
