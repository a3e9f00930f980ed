"""What layers came out as in earlier conversions, in one SQLite file of the state folder: the next image with the same
layer finds it converted. Losing the file costs time, never correctness."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.errors import LocalError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.versions import claim_file

MAX_SEEN = 8
"""Repositories remembered per converted layer; one is enough to mount from."""

VERSION = 2
"""Of the tables; what keys mean is in them. Those of an older version are emptied: what they knew is found again."""

_WAIT_FOR_LOCK_S = 30.0
_DROP = ("DROP TABLE IF EXISTS layers", "DROP TABLE IF EXISTS seen")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS layers (key TEXT PRIMARY KEY, digest TEXT, diff_id TEXT, size INTEGER, "
    "annotations TEXT, chunks INTEGER, note TEXT, missing TEXT)",
    "CREATE TABLE IF NOT EXISTS seen "
    "(digest TEXT, registry TEXT, repository TEXT, PRIMARY KEY (digest, registry, repository))",
)


@dataclass(frozen=True)
class ConvertedLayer:
    """A layer in its new form."""

    descriptor: Descriptor
    """With the annotations that make nodes find the table of contents."""
    diff_id: Digest
    chunks: int | None
    """Pieces in which a node can fetch it; None where nobody counted them."""
    note: str = ""
    """What of the layer is not in it, for people; empty when all is."""
    missing: tuple[str, ...] = ()
    """Paths that were to be fetched first, and that this layer does not have."""


class ConvertedLayers:
    """Converted layers by what they were made of, and where they were seen.

    Safe for threads and for several processes. Raises LocalError when the file cannot be used, StateTooNew; what is no
    database is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT_FOR_LOCK_S, check_same_thread=False, isolation_level=None)
        try:
            claim_file(database, VERSION, what="the memory of converted layers", path=self._path)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("BEGIN IMMEDIATE")  # of several processes only one may find older tables
            [version] = database.execute("PRAGMA user_version").fetchone()
            for statement in (*(_DROP if version < VERSION else ()), *_TABLES, f"PRAGMA user_version = {VERSION}"):
                database.execute(statement)
            database.execute("COMMIT")
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> LocalError:
        return LocalError(
            f"what is known of converted layers cannot be read or kept: {error}",
            where=str(self._path),
            do="Look who uses it and whether the disk is full; else delete the file",
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def find(self, layer: Descriptor, diff_id: Digest, options: Mapping[str, Any]) -> ConvertedLayer | None:
        """What this layer came out as with these options. layer: as its manifest names it; diff_id: as its config."""
        with self._using() as database:
            row = database.execute(
                "SELECT digest, diff_id, size, annotations, chunks, note, missing FROM layers WHERE key = ?",
                (_key(layer, diff_id, options),),
            ).fetchone()
        if row is None:
            return None
        descriptor = Descriptor(
            media_type=media_types.OCI_LAYER_GZIP, digest=Digest(row[0]), size=row[2], annotations=json.loads(row[3])
        )
        return ConvertedLayer(descriptor, Digest(row[1]), row[4], row[5], tuple(json.loads(row[6])))

    def keep(self, layer: Descriptor, diff_id: Digest, options: Mapping[str, Any], made: ConvertedLayer) -> None:
        """Keep what a layer came out as."""
        notes = json.dumps(made.descriptor.annotations)
        row = (
            *(_key(layer, diff_id, options), str(made.descriptor.digest), str(made.diff_id), made.descriptor.size),
            *(notes, made.chunks, made.note, json.dumps(made.missing)),
        )
        with self._using() as database:
            database.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def seen(self, digest: Digest, registry: str) -> list[str]:
        """Repositories of a registry that held the converted layer."""
        query = "SELECT repository FROM seen WHERE digest = ? AND registry = ? ORDER BY repository LIMIT ?"
        with self._using() as database:
            return [row[0] for row in database.execute(query, (str(digest), registry, MAX_SEEN))]

    def keep_seen(self, digest: Digest, registry: str, repository: str) -> None:
        """Keep that a repository holds the converted layer."""
        with self._using() as database:
            database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (str(digest), registry, repository))


def _key(layer: Descriptor, diff_id: Digest, options: Mapping[str, Any]) -> str:
    """Both digests: an image could name a diffID that is not the layer's, and conversion checks them together."""
    return json.dumps([layer.digest, diff_id, dict(options)], sort_keys=True)
