"""Set aside what a plan deletes, bring it back, and let it go for good: all within one registry.

The order is what makes a kill harmless. Setting aside: record, content, and only then the deletion at its place, which
is ``apply``'s. Bringing back: content, lists of referrers, tags; then the quarantine is emptied. Emptying: content,
record last. After a kill between any two steps the same command does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from registry_pipelines.collect.names import Names
from registry_pipelines.collect.plan import Entry
from registry_pipelines.collect.records import RECORD_TAG, KeptList, Record, read_record, record_tag, write_record
from registry_pipelines.collect.within import Brought, bring, read_pieces, referring
from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid, NotFound, RegistryError, Unsupported
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import QUARANTINE_TYPE
from registry_pipelines.inventory.survey import companion_of
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY, ManifestBytes, artifact_manifest, descriptors
from registry_pipelines.oci.referrers import read_fallback
from registry_pipelines.oci.times import write_time
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import KeepsTagged, Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.registry.tags import digest_at, put_tag

HELD_TAG = "rp-held-"
"""Of each manifest that is kept: registries collect what has no tag, and docker-registry the children of indexes too
(``garbage-collect --delete-untagged``)."""


@dataclass(frozen=True)
class Quarantine:
    """Where a plan sets aside, until when, and who signs that. plan: its digest."""

    plan: Digest
    days: int
    signer: Signer
    verifier: Verifier
    now: datetime
    brought: Brought = field(default_factory=Brought)
    _asked: set[str] = field(default_factory=set)
    _held: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    _read: dict[Digest, Mapping[Digest, ManifestBytes]] = field(default_factory=dict)

    def check(self, place: Place) -> None:
        """Whether anything can be set aside beside a place, and deleted. Raises Unsupported, before content is copied
        that would stay for ever (docker-registry deletes nothing unless it is configured to); RegistryError."""
        registry = place.registry
        if isinstance(registry, KeepsTagged) and registry.keeps_tagged(place.repository):
            raise Unsupported(
                "tags are immutable there: what is set aside could never be deleted again",
                where=str(place),
                do="Set `collect: {quarantine: 0}` to delete at once, or leave it",
            )

        if registry.name not in self._asked:
            if registry.capabilities(place.repository).delete is not True:
                _try_to_delete(quarantine_of(place))
            self._asked.add(registry.name)

    def hold(
        self,
        place: Place,
        entry: Entry,
        names: Names,
        pool: Executor,
        *,
        seen: Callable[[Digest, Sequence[Digest]], object] = lambda digest, referrers: None,
    ) -> None:
        """Set an image aside with all that belongs to it. names: the tags of its repository, by the plan. seen: is told
        of each manifest and what refers to it, before anything is written; it may raise.

        Called again it goes on where it stopped. What an earlier run deleted already stays as its record says. Raises
        ClosureIncomplete where the image is gone and no record of this plan has it; RegistryError, ContentError.
        """
        aside = quarantine_of(place)
        try:
            image = place.registry.get_manifest(place.repository, entry.digest)
        except NotFound:
            self._expect_record(place, aside, entry)
            return

        def attached(digest: Digest) -> list[Digest]:
            referrers = referring(place, digest)
            seen(digest, referrers)
            return [*referrers, *names.about(digest)]

        lists = {one.digest for tag, digest in names.lists(entry.delete) if (one := _list_under(place, tag, digest))}
        pieces = read_pieces(
            place,
            [one for one in entry.delete if one not in lists],
            attached,
            {entry.digest: image},
        )
        tags = {digest: HELD_TAG + digest.hex[:64] for digest in pieces.manifests}
        held = tuple(digest for digest in entry.delete if digest in tags)
        try:
            if not self._has_record(aside, entry):
                self._put_empty(aside)
                record = self._record(place, entry, names, pieces.digests)
                write_record(aside, record, self.signer, has_empty=True)
            bring(pieces, place, aside, pool, self.brought, tags, unread=held)
        except RegistryError:
            self.brought.blobs.clear()  # who cleans up there may have taken what we know of
            raise
        self._held[entry.digest], self._read[entry.digest] = held, pieces.manifests

    def read(self, entry: Entry) -> Mapping[Digest, ManifestBytes]:
        """The manifests that :meth:`hold` read of an image, once."""
        return self._read.pop(entry.digest, {})

    def _put_empty(self, aside: Place) -> None:
        known = (aside.repository, EMPTY.digest, EMPTY.size)
        with self.brought.blob_locks.of(EMPTY.digest):  # all records have it, and some are being written
            if known not in self.brought.blobs:
                push_blob(aside, b"{}", media_type=media_types.OCI_EMPTY)
                self.brought.blobs.add(known)

    def check_held(self, place: Place, entry: Entry) -> None:
        """Whether what :meth:`hold` set aside of an image is there still, just before it is deleted: another machine
        may have ended an older record of the same content meanwhile. Raises ClosureIncomplete, RegistryError."""
        aside = quarantine_of(place)
        for digest in self._held.get(entry.digest, ()):
            if digest_at(aside, HELD_TAG + digest.hex[:64]) != digest:
                raise ClosureIncomplete(f"{digest} is not set aside any more", where=str(aside), do="Apply it again")

    def _expect_record(self, place: Place, aside: Place, entry: Entry) -> None:
        left = [digest for digest in entry.delete if digest_at(place, digest) is not None]
        if not left:
            return
        try:
            record = read_record(aside, record_tag(self.plan, entry.digest), self.verifier)
        except NotFound as error:
            raise ClosureIncomplete(
                f"it is gone, and not by this plan; {left[0]} of it is still there",
                where=f"{place}@{entry.digest}",
                do="Make a new plan",
            ) from error
        # A record is written before what it names is copied, and somebody else may have deleted the image in between.
        self._held[entry.digest] = tuple(digest for digest in left if digest in record.held)

    def _has_record(self, aside: Place, entry: Entry) -> bool:
        try:
            read_record(aside, record_tag(self.plan, entry.digest), self.verifier)
        except NotFound:
            return False
        return True

    def _record(self, place: Place, entry: Entry, names: Names, held: tuple[Digest, ...]) -> Record:
        found = (_list_under(place, tag, digest) for tag, digest in names.lists_about(held))
        lists = tuple(one for one in found if one)
        own = names.of(entry.delete) | {tag for digest in held for tag in names.beside(digest)}
        own -= {one.tag for one in lists}
        return Record(
            registry=place.registry.name,
            repository=place.repository,
            digest=str(entry.digest),
            tags={tag: str(names.tags[tag]) for tag in sorted(own)},
            deleted=tuple(map(str, entry.delete)),
            held=tuple(map(str, held)),
            lists=lists,
            at=write_time(self.now),
            until=write_time(self.now + timedelta(days=self.days)),
            plan=str(self.plan),
            freed_bytes=entry.freed_bytes,
            why=entry.why or entry.rule,
        )


@dataclass
class Restored:
    """What bringing an image back did. problems: what could not be as it was; each is left as it is now."""

    brought: Brought = field(default_factory=Brought)
    tags: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def restore(record: Record, aside: Place, pool: Executor) -> Restored:
    """Bring an image back to its place, byte for byte: manifests, lists of referrers, tags last.

    What came to the place meanwhile is never overwritten: a tag that names something else by now stays, and is said.
    Raises ClosureIncomplete where something of it is neither here nor there; RegistryError.
    """
    place, done = Place(aside.registry, record.repository), Restored()
    pieces = read_pieces(aside, map(Digest.parse, record.held))
    for digest in map(Digest.parse, record.held):
        if digest not in pieces.manifests and digest_at(place, digest) is None:
            raise ClosureIncomplete(f"{digest} is not in the quarantine any more", where=str(aside))
    bring(pieces, aside, place, pool, done.brought)
    for one in record.lists:
        _restore_list(one, place, done)
    for tag, named in sorted(record.tags.items(), key=lambda pair: (pair[1] == record.digest, pair[0])):
        _restore_tag(tag, Digest.parse(named), place, done)
    return done


def _restore_tag(tag: str, digest: Digest, place: Place, done: Restored) -> None:
    named = digest_at(place, tag)
    if named == digest:
        return
    if named is not None:
        done.problems.append(f"tag {tag} names {named.short} by now and stays so; it named {digest.short}")
        return
    put_tag(place, place.registry.get_manifest(place.repository, digest), tag)
    done.tags.append(tag)


def _restore_list(kept: KeptList, place: Place, done: Restored) -> None:
    """The very bytes, where the list that is there by now names nothing else. Else that one stays: it names what came
    back, since it was put."""
    was = ManifestBytes(kept.raw, kept.media_type, Digest.parse(kept.digest))
    try:
        there = place.registry.get_manifest(place.repository, kept.tag)
    except NotFound:
        there = None
    if there is not None and there.digest == was.digest:
        return
    before = {entry.digest for entry in read_fallback(was, kept.tag).entries}
    now = {entry.digest for entry in read_fallback(there, kept.tag).entries} if there else set()
    if now - before:
        done.problems.append(f"the list {kept.tag} names more by now, and is not written as it was")
        return
    try:
        put_tag(place, was, kept.tag)
    except RegistryError as error:
        done.problems.append(f"the list {kept.tag} cannot be written as it was: {error.what}")
        return
    if there is not None and not _has_tag(place, there.digest):
        with suppress(NotFound, Unsupported):
            place.registry.delete_manifest(place.repository, there.digest)


def _has_tag(place: Place, digest: Digest) -> bool:
    return any(digest_at(place, tag) == digest for tag in place.registry.tags(place.repository))


class Shelf:
    """The quarantine of one repository, with what each of its records keeps. records: all that are believed.

    Another machine may set more aside meanwhile, and people may push there what they like: what a tag names that no
    record put there stays, with its blobs.
    """

    def __init__(self, aside: Place, records: Iterable[Record]) -> None:
        self.aside = aside
        self._records = {record.tag: record for record in records}
        self._known = frozenset(self._records)
        self._needed = Counter(digest for record in self._records.values() for digest in record.held)

    def release(self, record: Record) -> set[Digest]:
        """Delete what a record keeps and no other one needs, the record last; the blobs that what went named. Raises
        RegistryError; Unsupported where nothing is deleted at all; ContentError where a record came meanwhile."""
        foreign = self._foreign()
        going = [
            Digest.parse(digest)
            for digest in reversed(record.held)
            if self._needed[digest] <= 1 and digest not in foreign
        ]
        blobs = _blobs_of(self.aside, going)
        for digest in going:
            _delete_list(self.aside, digest, frozenset(going))
        for digest in going:
            _delete(self.aside, digest)
        if (own := digest_at(self.aside, record.tag)) is not None:
            _delete(self.aside, own)
        if self._records.pop(record.tag, None):
            self._needed.subtract(record.held)
        return blobs

    def free(self, blobs: Collection[Digest]) -> None:
        """Delete those of the blobs that nothing here names any more, where the registry lets us; most leave that to
        their own collection."""
        kept = _blobs_below(self.aside, self._tags())
        for blob in set(blobs) - kept:
            try:
                self.aside.registry.delete_blob(self.aside.repository, blob)
            except NotFound:
                continue
            except RegistryError:
                return

    def _foreign(self) -> set[Digest]:
        """What tags name that are no record's, with all below it."""
        tags = self._tags()
        if fresh := [tag for tag in tags if tag.startswith(RECORD_TAG) and tag not in self._known]:
            raise ClosureIncomplete(
                f"the record {fresh[0]} came meanwhile, and what it keeps is not known yet",
                where=str(self.aside),
                do="Do it again",
            )
        others = [tag for tag in tags if not tag.startswith((RECORD_TAG, HELD_TAG)) and not companion_of(tag)]
        named = (digest_at(self.aside, tag) for tag in others)
        return {*read_pieces(self.aside, (digest for digest in named if digest)).digests} if others else set()

    def _tags(self) -> list[str]:
        try:
            return list(self.aside.registry.tags(self.aside.repository))
        except NotFound:
            return []


def _delete_list(aside: Place, subject: Digest, going: frozenset[Digest]) -> bool:
    """The list of what refers to a manifest, where there is one under a tag and all that it names goes, too: before
    these, so that it is not written anew for each (Artifact Registry deletes nothing that an index names)."""
    try:
        stored = aside.registry.get_manifest(aside.repository, subject.fallback_tag)
    except NotFound:
        return False
    listed = read_fallback(stored, subject.fallback_tag)
    if listed.refused or not {entry.digest for entry in listed.entries} <= going:
        return False
    return _delete(aside, stored.digest)


def tried() -> ManifestBytes:
    """The empty artifact with which it is tried whether a registry deletes anything; always the same."""
    return artifact_manifest(artifact_type=QUARANTINE_TYPE, layers=[EMPTY], subject=None)


def _try_to_delete(aside: Place) -> None:
    """Store an empty artifact and delete it. Raises Unsupported where nothing is deleted; that artifact then stays."""
    push_blob(aside, b"{}", media_type=media_types.OCI_EMPTY)
    empty = tried()
    aside.registry.put_manifest(aside.repository, empty)
    aside.registry.delete_manifest(aside.repository, empty.digest)


def _delete(aside: Place, digest: Digest) -> bool:
    try:
        aside.registry.delete_manifest(aside.repository, digest)
    except NotFound:
        return False
    return True


def _blobs_of(aside: Place, digests: Iterable[Digest]) -> set[Digest]:
    blobs: set[Digest] = set()
    for digest in digests:
        with suppress(NotFound, ManifestInvalid):
            content = aside.registry.get_manifest(aside.repository, digest).content()
            blobs |= {one.digest for one in descriptors(content)}
    return blobs


def _blobs_below(aside: Place, tags: Iterable[str]) -> set[Digest]:
    """The blobs of all that tags name, also below indexes, and of what refers to it under a tag."""
    named = (digest_at(aside, tag) for tag in tags)
    return _blobs_of(aside, read_pieces(aside, (digest for digest in named if digest)).digests)


def _list_under(place: Place, tag: str, digest: Digest) -> KeptList | None:
    """The list of referrers that a fallback tag names; None where it is something else, or gone."""
    try:
        stored = place.registry.get_manifest(place.repository, digest)
    except NotFound:
        return None
    return None if read_fallback(stored, tag).refused else KeptList(str(digest), stored.media_type, tag, stored.raw)
