"""What has still to go on from a registry: tags that a sync or a mirror takes from there and that are not yet where it
brings them; for ``collect``, which keeps them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import matches
from registry_pipelines.config import Mirror
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.selector import Selector

ASKED_AT_ONCE = 8


@dataclass(frozen=True)
class Way:
    """One way on for the tags of a repository. there: what a tag names at its end, None for nothing. chosen: which of
    all tags are taken. alike: whether an image keeps its digest on it. why: for people."""

    there: Callable[[str], str | None]
    chosen: Selector
    why: str
    alike: bool = True


class WaysOn:
    """See :class:`~registry_pipelines.collect.live.Crossings`, for a registry of the configuration."""

    def __init__(self, session: Session, registry: str) -> None:
        self._session, self._registry = session, registry

    def awaited(self, repository: str, tags: Mapping[str, Digest], going: Container[Digest]) -> Mapping[Digest, str]:
        """See Crossings. One request for each tag that would go and each way that it has."""
        found: dict[Digest, str] = {}
        names = [tag for tag in tags if not is_named_after_digest(tag)]
        for way in self._ways(repository):
            asked = [tag for tag in way.chosen.select(names) if tags[tag] in going and tags[tag] not in found]
            with Pool(ASKED_AT_ONCE, "crossings") as pool:
                for tag, there in zip(asked, pool.map(way.there, asked), strict=True):
                    if there is None or (way.alike and there != tags[tag]):
                        found.setdefault(tags[tag], f"tag {tag} is still to be brought on: {way.why}")
        return found

    def _ways(self, repository: str) -> Iterator[Way]:
        for mirror in self._session.config.mirrors.values():
            if mirror.via == self._registry:
                yield from self._of_mirror(mirror, repository)
        yield from self._of_syncs(repository)

    def _of_mirror(self, mirror: Mirror, repository: str) -> Iterator[Way]:
        config = self._session.config
        taken = [each for each in mirror.upstreams if config.mirrored_repository(mirror, each) == repository]
        if not taken:
            return
        why = f"mirror {mirror.name} to {mirror.to}"
        there = self._confirmed(mirror, repository) if mirror.across == "bundle" else self._at(mirror.to, repository)
        if mirror.lock is not None:
            from registry_pipelines.chain.mirror_sources import read_lock

            lock = read_lock(mirror)  # without one the mirror takes nothing
            locked = tuple(each.tag for each in (lock.tags if lock else ()) if each.repository == repository)
            if locked:
                yield Way(there, Selector(glob=locked), why)
            return
        for upstream in taken:
            alike = not upstream.platforms or upstream.selection == "sparse"
            yield Way(there, upstream.selector, why, alike)

    def _confirmed(self, mirror: Mirror, repository: str) -> Callable[[str], str | None]:
        """By the receipts that came back: of several far sides the one that lacks it counts."""
        from registry_pipelines.chain.bundle_create import near_state

        held = [
            receipt.receipt.repositories.get(repository)
            for receipt in near_state(self._session, mirror.name).receipts()
        ]

        def there(tag: str) -> str | None:
            named = {each.tags.get(tag) if each else None for each in held}
            return named.pop() if len(named) == 1 else None

        return there

    def _of_syncs(self, repository: str) -> Iterator[Way]:
        for sync in self._session.config.syncs.values():
            if sync.source != self._registry:
                continue
            from registry_pipelines.chain.sync import source_of

            source = source_of(self._session, sync)
            wanted = source.repositories or source.choose_repositories.select([repository])
            if repository not in wanted or matches(repository, source.never):
                continue
            alike = not sync.platforms or sync.selection == "sparse"
            for name, target in zip(sync.targets, source.targets, strict=True):
                there = partial(digest_at, target.place(repository))
                yield Way(there, source.choose_tags, f"sync {sync.name} to {name}", alike)

    def _at(self, registry: str, repository: str) -> Callable[[str], str | None]:
        return partial(digest_at, Place(self._session.places.registry(registry), repository))


__all__ = ["WaysOn"]
