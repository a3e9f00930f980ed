"""Set aside what a plan deletes, bring it back, and let it go for good: all within one registry.

The order is what makes a kill harmless. Setting aside: record, content, and only then the deletion at its place, which
is ``apply``'s. Bringing back: content, lists of referrers, tags; then the quarantine is emptied. Emptying: content,
record last. After a kill between any two steps the same command does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from registry_pipelines.collect.plan import Entry
from registry_pipelines.collect.records import KeptList, Record, named_tags, read_record, record_tag, write_record
from registry_pipelines.collect.within import Brought, bring, read_pieces
from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid, NotFound, RegistryError, Unsupported
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.inventory.survey import companion_of
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes, descriptors
from registry_pipelines.oci.referrers import read_fallback
from registry_pipelines.oci.times import write_time
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

    def check(self, place: Place) -> None:
        """Whether anything can be set aside beside a place at all. Raises Unsupported."""
        registry = place.registry
        if isinstance(registry, KeepsTagged) and registry.keeps_tagged(place.repository):
            raise Unsupported(
                "tags are immutable there: what is set aside could never be deleted again",
                where=str(place),
                do="Set `collect: {quarantine: 0}` to delete at once, or leave it",
            )

    def hold(self, place: Place, entry: Entry, tags: Mapping[str, Digest], pool: Executor) -> None:
        """Set an image aside with all that goes with it. tags: of its repository, by the plan.

        Called again it goes on where it stopped. What an earlier run deleted already stays as its record says. Raises
        ClosureIncomplete where the image is gone and no record of this plan has it; RegistryError, ContentError.
        """
        aside = quarantine_of(place)
        if digest_at(place, entry.digest) is None:
            self._expect_record(place, aside, entry)
            return
        lists = _lists_among(place, entry.delete, tags)
        listed = {Digest.parse(one.digest) for one in lists}
        pieces = read_pieces(place, [one for one in entry.delete if one not in listed])
        if not self._has_record(aside, entry):
            write_record(aside, self._record(place, entry, tags, lists, pieces.digests), self.signer)
        bring(pieces, place, aside, pool, self.brought)
        for digest in entry.delete:
            if digest in pieces.manifests and digest_at(aside, HELD_TAG + digest.hex) != digest:
                put_tag(aside, pieces.manifests[digest], HELD_TAG + digest.hex)

    def _expect_record(self, place: Place, aside: Place, entry: Entry) -> None:
        left = [digest for digest in entry.delete if digest_at(place, digest) is not None]
        if left and not self._has_record(aside, entry):
            raise ClosureIncomplete(
                f"it is gone, and not by this plan; {left[0]} of it is still there",
                where=f"{place}@{entry.digest}",
                do="Make a new plan",
            )

    def _has_record(self, aside: Place, entry: Entry) -> bool:
        try:
            read_record(aside, record_tag(self.plan, entry.digest), self.verifier)
        except NotFound:
            return False
        return True

    def _record(
        self,
        place: Place,
        entry: Entry,
        tags: Mapping[str, Digest],
        lists: tuple[KeptList, ...],
        held: Iterable[Digest],
    ) -> Record:
        of_lists = {tag for one in lists for tag in one.tags}
        plain = {tag: digest for tag, digest in tags.items() if tag not in of_lists}
        return Record(
            registry=place.registry.name,
            repository=place.repository,
            digest=str(entry.digest),
            tags=named_tags(plain, frozenset(entry.delete)),
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
    for digest in map(Digest.parse, record.deleted):
        if digest not in pieces.manifests and not _is_list(record, digest) and digest_at(place, digest) is None:
            raise ClosureIncomplete(f"{digest} is not in the quarantine any more", where=str(aside))
    bring(pieces, aside, place, pool, done.brought)
    for one in record.lists:
        _restore_list(one, place, done)
    for tag, named in sorted(record.tags.items(), key=lambda pair: (pair[1] == record.digest, pair[0])):
        _restore_tag(tag, Digest.parse(named), place, done)
    return done


def _is_list(record: Record, digest: Digest) -> bool:
    return any(one.digest == digest for one in record.lists)


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
    for tag in kept.tags:
        try:
            there = place.registry.get_manifest(place.repository, tag)
        except NotFound:
            there = None
        if there is not None and there.digest == was.digest:
            continue
        before = {entry.digest for entry in read_fallback(was, tag).entries}
        now = {entry.digest for entry in read_fallback(there, tag).entries} if there else set()
        if now - before:
            done.problems.append(f"the list {tag} names more by now, and is not written as it was")
            continue
        try:
            put_tag(place, was, tag)
        except RegistryError as error:
            done.problems.append(f"the list {tag} cannot be written as it was: {error.what}")
        else:
            if there is not None and not _has_tag(place, there.digest):
                with suppress(NotFound, Unsupported):
                    place.registry.delete_manifest(place.repository, there.digest)


def _has_tag(place: Place, digest: Digest) -> bool:
    return any(digest_at(place, tag) == digest for tag in place.registry.tags(place.repository))


def release(record: Record, aside: Place, others: Iterable[Record]) -> int:
    """Delete what a record keeps and no other one needs, blobs where the registry lets us, the record last. others: all
    other records of this quarantine. How many manifests went. Raises RegistryError; Unsupported where nothing is
    deleted at all."""
    needed = {digest for other in others for digest in (*other.held, *other.deleted)}
    going = [Digest.parse(digest) for digest in reversed(record.held) if digest not in needed]
    blobs = _blobs_of(aside, going)
    gone = 0
    for digest in going:
        gone += _delete(aside, digest)
        if (listed := digest_at(aside, digest.fallback_tag)) is not None:
            _drop_empty_list(aside, digest, listed)
    kept = _blobs_of(aside, map(Digest.parse, needed))
    for blob in blobs - kept:
        try:
            aside.registry.delete_blob(aside.repository, blob)
        except NotFound:
            continue
        except RegistryError:
            break  # most registries leave that to their own collection
    if (own := digest_at(aside, record.tag)) is not None:
        _delete(aside, own)
    return gone


def _drop_empty_list(aside: Place, subject: Digest, listed: Digest) -> None:
    """Registries without the API have a list of what referred to a manifest; once it names nothing, nobody needs it."""
    with suppress(NotFound, ManifestInvalid):
        stored = aside.registry.get_manifest(aside.repository, listed)
        if not read_fallback(stored, subject.fallback_tag).entries:
            _delete(aside, listed)


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


def _lists_among(place: Place, digests: Iterable[Digest], tags: Mapping[str, Digest]) -> tuple[KeptList, ...]:
    """Those of the manifests that are lists of referrers under a fallback tag, with their bytes."""
    names: dict[Digest, list[str]] = {}
    for tag, digest in tags.items():
        if companion_of(tag) == tag:
            names.setdefault(digest, []).append(tag)
    found = []
    for digest in digests:
        for_tags = sorted(names.get(digest, ()))
        if not for_tags:
            continue
        with suppress(NotFound):
            stored = place.registry.get_manifest(place.repository, digest)
            if not read_fallback(stored, for_tags[0]).refused:
                found.append(KeptList(str(digest), stored.media_type, tuple(for_tags), stored.raw))
    return tuple(found)
