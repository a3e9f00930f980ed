"""Taking away what is old, or too much, of the shared caches: one worker does it from time to time, the others do not.

An entry goes first, then its bytes: who reads it in between finds none, and makes it anew. Bytes that no entry names,
as of a worker that was killed between the two, go a day after they were written; what does not look like ours stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from registry_pipelines.oci.digest import Digest
from registry_pipelines.shared import cache_rows as rows
from registry_pipelines.shared.database import Database
from registry_pipelines.stores.store import ObjectStore, Stored

FOLDER = "caches/v1"
"""Of the store: ``caches/v1/<2 hex>/<sha256 hex>``."""
UNNAMED_FOR = timedelta(days=1)
"""Bytes come before their entry, so some are named by none for a moment."""
AT_ONCE = 500
"""Keys of one request."""

_KEY = re.compile(re.escape(FOLDER) + r"/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class Swept(NamedTuple):
    """What was taken away. entries, stored: with their packed bytes. unnamed: objects that no entry named."""

    entries: int = 0
    stored: int = 0
    unnamed: int = 0


def key_of(digest: Digest) -> str:
    """Where the store has an entry's bytes."""
    return f"{FOLDER}/{digest.hex[:2]}/{digest.hex}"


def sweep(database: Database, store: ObjectStore | None, *, most_bytes: int, age_s: float, now: datetime) -> Swept:
    """Take away what was not used for ``age_s``, and the longest unused of what is above ``most_bytes``. now: by this
    machine, to be held against the store's clock. Raises LocalError, RegistryError; what went until then is gone."""
    gone = rows.drop_old(database, most=most_bytes, age_s=age_s)
    if store is None:
        return Swept(gone.entries, gone.stored)
    for some in _parts(gone.digests):
        store.delete_all([key_of(digest) for digest in rows.unknown(database, some)])
    unnamed = 0
    for old in _parts(_old(store, now - UNNAMED_FOR)):
        left = rows.unknown(database, old)
        store.delete_all([key_of(digest) for digest in left])
        unnamed += len(left)
    return Swept(gone.entries, gone.stored, unnamed)


def _old(store: ObjectStore, before: datetime) -> Iterator[Digest]:
    for each in store.below(FOLDER):
        if (digest := _digest(each)) is not None and each.changed < before:
            yield digest


def _digest(stored: Stored) -> Digest | None:
    found = _KEY.fullmatch(stored.key)
    return Digest(f"sha256:{found[2]}") if found else None


def _parts(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    left = iter(digests)
    while some := list(islice(left, AT_ONCE)):
        yield some


__all__ = ["FOLDER", "Swept", "key_of", "sweep"]
