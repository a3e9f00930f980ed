"""Content of an object store that no manifest needs any more: found in one run, deleted in a later one.

A store tells nobody who is about to use what. So a run first writes down what nothing needs (``garbage.json``, the
*mark*). Whoever stores an image afterwards takes nothing that is marked for granted and sends it again, which makes the
object younger than the mark. A later run, by then every upload that had begun before the mark has ended, deletes what
is marked, still needed by nobody and older than the mark; then it writes the next mark. All times are the store's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import msgspec

from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    ManifestBytes,
    decode_json,
    descriptors,
    encode_json,
)
from registry_pipelines.stores.store import ObjectStore, Stored
from registry_pipelines.threads import Pool

MARK = "garbage.json"
CLOCK = "garbage.clock"
"""Written to learn what time the store has."""
UNUSED_S = 24 * 3600.0
"""An upload must end within."""
MARK_S = 600.0
"""So long who stores something counts a mark as read."""
LEAST_UNUSED_S = 6 * MARK_S
"""Less would delete what an upload counts on that began before it read the mark."""
MOST_MARKED = 200_000
"""Of one mark; the rest waits for the next one."""
MAX_MARK_BYTES = 64 << 20
WORKERS = 16


class _Document(msgspec.Struct, frozen=True):
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True)
class Mark:
    """What nothing needed at a time of the store's clock; None: nothing is marked."""

    digests: frozenset[Digest] = frozenset()
    time: datetime | None = None


@dataclass
class Freed:
    """What a run did. waiting: marked now, to be deleted by a later run. uploads: that were killed, into a folder.
    bytes: of all that was deleted."""

    blobs: int = 0
    uploads: int = 0
    bytes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    next_s: float = 0.0
    """Seconds until a run may delete what is marked."""


@dataclass
class _Content:
    needed: set[Digest] = field(default_factory=set)
    unneeded: list[Stored] = field(default_factory=list)


def read_mark(store: ObjectStore) -> Mark:
    """The mark of the last run. Raises ContentError for one that is damaged: what is marked is then not known."""
    try:
        raw = store.read(MARK, limit=MAX_MARK_BYTES)
    except NotFound:
        return Mark()
    found = decode_json(raw, ready(_Document), where=f"{store.name}/{MARK}", what="list of unneeded content")
    described = store.describe(MARK)
    return Mark(frozenset(found.digests), described.changed if described else None)


def free_content(store: ObjectStore, *, unused_s: float = UNUSED_S, dry_run: bool = False) -> Freed:
    """One run; see the module. unused_s: so old a mark must be before what it names is deleted; 0: nobody stores
    anything meanwhile, and what nothing needs goes at once. Raises InputError (less than ``LEAST_UNUSED_S`` and not
    0), the RegistryError family, ContentError: a manifest that cannot be read, so that what it needs is not known, and
    then nothing goes."""
    if 0 < unused_s < LEAST_UNUSED_S:
        raise InputError(
            f"an object store's content must be unused for at least {LEAST_UNUSED_S / 3600:g} h, not {unused_s:g} s",
            where=store.name,
            do="Write 0s where nobody stores anything meanwhile",
        )
    mark, now = read_mark(store), _now(store)
    if mark.time is not None and mark.time > now:
        mark = Mark()  # a folder whose clock was wrong, then or now: how old it is nobody knows
    content = _content(store)
    age_s = unused_s if mark.time is None else (now - mark.time).total_seconds()
    done = Freed()
    ripe = {each.key for each in content.unneeded if _is_ripe(each, mark)} if age_s >= unused_s else set()
    if unused_s == 0:
        ripe = {each.key for each in content.unneeded}
    going = [each for each in content.unneeded if each.key in ripe]
    if not dry_run:
        with Pool(WORKERS, "garbage") as pool:
            gone = list(pool.map(partial(_delete, store, mark if unused_s else Mark()), going))
        going = [each for each, is_gone in zip(going, gone, strict=True) if is_gone]
    torn = store.drop_torn(now - timedelta(seconds=unused_s), dry_run=dry_run)
    done.blobs, done.uploads = len(going), len(torn)
    done.bytes = sum(each.size for each in going) + sum(torn)
    keys = {each.key for each in going}
    left = [each for each in content.unneeded if each.key not in keys][:MOST_MARKED]
    done.waiting, done.waiting_bytes = len(left), sum(each.size for each in left)
    is_new = bool(going) or age_s >= unused_s or mark.time is None
    done.next_s = unused_s if is_new else unused_s - age_s
    if is_new and not dry_run:
        _write(store, left)
    return done


def digest_of(key: str) -> Digest:
    """Of ``blobs/<algorithm>/<hex>``."""
    _, algorithm, value = key.split("/")
    return Digest.parse(f"{algorithm}:{value}")


def _is_ripe(each: Stored, mark: Mark) -> bool:
    return mark.time is not None and digest_of(each.key) in mark.digests and each.changed < mark.time


def _delete(store: ObjectStore, mark: Mark, each: Stored) -> bool:
    """Unless somebody sent it again since it was listed."""
    found = store.describe(each.key)
    if found is None or (mark.time is not None and found.changed >= mark.time) or found.changed > each.changed:
        return False
    store.delete(each.key)
    return True


def _write(store: ObjectStore, left: list[Stored]) -> None:
    if left:
        store.write(MARK, encode_json(_Document(tuple(digest_of(each.key) for each in left))))
    else:
        store.delete(MARK)


def _now(store: ObjectStore) -> datetime:
    store.write(CLOCK, b"{}")
    found = store.describe(CLOCK)
    store.delete(CLOCK)
    if found is None:
        raise NotFound("the store lost what was just written", where=f"{store.name}/{CLOCK}")
    return found.changed


def _content(store: ObjectStore) -> _Content:
    """Content is listed before manifests: what comes in between is needed, or not listed."""
    blobs = list(store.below("blobs"))
    found = _Content()
    with Pool(WORKERS, "garbage") as pool:
        for needs in pool.map(partial(_needs, store), _manifests(store).values()):
            found.needed.update(needs)
    found.unneeded = [each for each in blobs if digest_of(each.key) not in found.needed]
    return found


def _manifests(store: ObjectStore) -> dict[str, str]:
    """By the name of each manifest an object that describes it; whichever repository has it."""
    found: dict[str, str] = {}
    for each in store.below("repositories"):
        folder, _, name = each.key.rpartition("/")
        if folder.endswith("/_manifests"):
            found[name] = each.key
    return found


def _needs(store: ObjectStore, key: str) -> list[Digest]:
    raw = store.read(key, limit=MAX_MANIFEST_BYTES)
    described = decode_json(raw, ready(Descriptor), where=f"{store.name}/{key}", what="descriptor")
    digest = described.digest
    content = store.read(f"blobs/{digest.algorithm}/{digest.hex}", limit=MAX_MANIFEST_BYTES)
    digest.check(content, where=f"{store.name}/{key}")
    return [
        digest,
        *(each.digest for each in descriptors(ManifestBytes(content, described.media_type, digest).content())),
    ]


__all__ = ["LEAST_UNUSED_S", "MARK", "MARK_S", "UNUSED_S", "Freed", "Mark", "digest_of", "free_content", "read_mark"]
