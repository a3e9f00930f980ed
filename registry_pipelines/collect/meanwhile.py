"""What comes to a repository while a plan is applied there: it is seen, and gets back what it needs.

Registries know no transactions. Whoever pushes an index skips the platforms that are there already; one of them may be
deleted a moment later as part of an old image that nobody else needed. (ECR and docker-registry refuse the index then;
others take it.) So all tags are read before anything goes, again
and again while it goes, and once more at the end: what a tag that is new or moved leads to stays, and where it is gone
by then, it is put back, byte for byte (its layers are still there: registries free them later). What is pushed after
that last look onto something that it saw before is left to the quarantine: ``heal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from contextlib import suppress

from registry_pipelines.errors import ClosureIncomplete, ContentError, NotFound
from registry_pipelines.inventory.survey import companion_of, read_tags
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, ManifestBytes
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at

TRIES = 4
"""Of reading all tags, where one vanishes meanwhile."""

MOST_KEPT = 20_000
"""Deleted manifests that are remembered, the last ones; about 2 KB each."""


class Meanwhile:
    """A repository between its plan and now. tags: by the plan. going: what the plan deletes."""

    def __init__(self, place: Place, tags: Mapping[str, Digest], going: Iterable[Digest]) -> None:
        self._place, self._before, self._going = place, dict(tags), frozenset(going)
        self._gone: dict[Digest, ManifestBytes] = {}
        self._needed: dict[Digest, str] = {}
        self._seen = set(tags)
        self._named: Mapping[str, Digest] = {}

    def look(self, pool: Executor, *, last: bool = True) -> None:
        """Read all tags. last: also those that went with what was deleted here, should the registry have one again and
        not list it. Raises RegistryError, ContentError: a tag vanished, or an image that the plan counted has none
        any more, so that another one would be among the newest."""
        now = self._named = self._read(pool, last=last)
        named = set(now.values())
        for tag, digest in sorted(self._before.items()):
            if digest not in named and digest not in self._going and not companion_of(tag):
                change = "moved" if tag in now else "is gone"
                raise ContentError(
                    f"tag {tag} {change} since the plan was made, and its image has no other",
                    where=str(self._place),
                    do="Make a new plan",
                )
        for tag, digest in sorted(now.items()):
            self._need(tag, digest)
        self._seen |= now.keys()

    def named(self, tag: str) -> Digest | None:
        """What a tag named when all were read last."""
        return self._named.get(tag)

    def look_for_new(self) -> None:
        """Read the names of all tags, and what those name that no look saw before: of a large repository that is what
        can be afforded often. Raises RegistryError."""
        with suppress(NotFound):
            for tag in sorted({*self._place.registry.tags(self._place.repository)} - self._seen):
                if (digest := digest_at(self._place, tag)) is not None:
                    self._need(tag, digest)
                    self._seen.add(tag)

    def _need(self, tag: str, digest: Digest) -> None:
        """What a tag leads to that is not the plan's stays."""
        if self._before.get(tag) == digest:
            return
        change = "moved" if tag in self._before else "is new"
        for one in self._leads_to(digest):
            if one in self._going:
                self._needed.setdefault(one, f"tag {tag} {change} since the plan was made, and needs {one}")

    def why(self, digests: Iterable[Digest]) -> str:
        """Why one of them has to stay, by the last look; empty when none has."""
        return next((self._needed[digest] for digest in digests if digest in self._needed), "")

    def delete(self, digest: Digest, known: ManifestBytes | None = None) -> bool:
        """Delete a manifest, and remember it; False when it was not there. known: it, where it was read before. Raises
        RegistryError."""
        registry, repository = self._place.registry, self._place.repository
        with suppress(NotFound):
            stored = known or registry.get_manifest(repository, digest)
            registry.delete_manifest(repository, digest)
            self._gone[digest] = stored
            if len(self._gone) > MOST_KEPT:
                del self._gone[next(iter(self._gone))]
            return True
        return False

    def give_back(self) -> dict[Digest, str]:
        """Put back what is needed by now and gone, with the evidence that went with it; each with why. Raises
        RegistryError, ContentError."""
        wanted: dict[Digest, str] = {}
        pending = {digest: why for digest, why in self._needed.items() if digest in self._gone}
        while pending:
            wanted.update(pending)
            pending = {one: why for digest, why in pending.items() for one in self._with(digest) if one not in wanted}
        for digest in sorted(wanted, key=self._rank):
            self._place.registry.put_manifest(self._place.repository, self._gone.pop(digest))
        return wanted

    def _with(self, digest: Digest) -> list[Digest]:
        """Of what is gone: the images of an index, and what refers to a manifest."""
        content = self._gone[digest].content()
        children = [one.digest for one in content.manifests] if isinstance(content, Index) else []
        return [one for one in (*children, *self._referrers(digest)) if one in self._gone]

    def _referrers(self, digest: Digest) -> list[Digest]:
        found = []
        for one, stored in self._gone.items():
            subject = stored.content().subject
            if subject is not None and subject.digest == digest:
                found.append(one)
        return found

    def _rank(self, digest: Digest) -> tuple[bool, bool]:
        """Images first, then indexes, then what refers to them: some registries take nothing that names what is not
        there."""
        content = self._gone[digest].content()
        return content.subject is not None, isinstance(content, Index)

    def _read(self, pool: Executor, *, last: bool) -> dict[str, Digest]:
        for attempt in range(1, TRIES + 1):
            try:
                tags = read_tags(self._place, pool)
                break
            except NotFound:
                tags = {}
                break
            except ClosureIncomplete:
                if attempt == TRIES:
                    raise
        for tag in self._before.keys() - tags.keys():  # not every registry lists all it has
            if not last and self._before[tag] in self._gone:
                continue
            if (named := digest_at(self._place, tag)) is not None:
                tags[tag] = named
        return tags

    def _leads_to(self, digest: Digest) -> set[Digest]:
        """A manifest with what it needs: the images of an index, and what it refers to."""
        reached: set[Digest] = set()
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one in reached:
                continue
            reached.add(one)
            stored = self._gone.get(one)
            if stored is None:
                try:
                    stored = self._place.registry.get_manifest(self._place.repository, one)
                except (NotFound, ContentError):
                    continue
            try:
                content = stored.content()
            except ContentError:
                continue
            waiting += [child.digest for child in content.manifests] if isinstance(content, Index) else []
            waiting += [content.subject.digest] if content.subject is not None else []
        return reached
