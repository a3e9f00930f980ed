"""What earlier builds found out, in one SQLite file of the state directory. Losing it costs time, never correctness."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.versions import claim_file

MAX_SEEN = 8
"""Repositories remembered per blob; one is enough to mount from."""

VERSION = 1
"""Of the tables; what keys and notes mean is in them."""

_WAIT_FOR_LOCK_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS layers (key TEXT PRIMARY KEY, digest TEXT, diff_id TEXT, size INTEGER, tar_size INTEGER);
CREATE TABLE IF NOT EXISTS seen (
  digest TEXT, registry TEXT, repository TEXT, PRIMARY KEY (digest, registry, repository)
);
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT);
"""


class BuildCache:
    """Keys of layers to their digests, where blobs were seen, and notes (resolutions, inventories of wheels).

    Safe for threads and for several processes. Raises LocalError when the file cannot be used; what is no database is
    replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error  # locked for long, or a full disk: another build may be using it
        except sqlite3.DatabaseError:
            # A cache that is none is worth nothing; the next build fills a new one.
            path.unlink(missing_ok=True)
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT_FOR_LOCK_S, check_same_thread=False, isolation_level=None)
        try:
            claim_file(database, VERSION, what="the build cache", path=self._path)
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};")
            database.execute("SELECT count(*) FROM layers")
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
        do = "Look who uses it and whether the disk is full; else delete the file"
        return LocalError(f"the build cache cannot be used: {error}", where=str(self._path), do=do)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def layer(self, key: str) -> LayerDigests | None:
        """What a layer with this key came out as."""
        with self._using() as database:
            row = database.execute(
                "SELECT digest, diff_id, size, tar_size FROM layers WHERE key = ?", (key,)
            ).fetchone()
        return LayerDigests(Digest(row[0]), Digest(row[1]), row[2], row[3]) if row else None

    def remember_layer(self, key: str, digests: LayerDigests) -> None:
        """Keep what a layer came out as."""
        row = (key, str(digests.digest), str(digests.diff_id), digests.size, digests.tar_size)
        with self._using() as database:
            database.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?)", row)

    def seen(self, digest: Digest, registry: str) -> list[str]:
        """Repositories of a registry that held the blob."""
        query = "SELECT repository FROM seen WHERE digest = ? AND registry = ? ORDER BY repository LIMIT ?"
        with self._using() as database:
            return [row[0] for row in database.execute(query, (str(digest), registry, MAX_SEEN))]

    def remember_seen(self, digest: Digest, registry: str, repository: str) -> None:
        """Keep that a repository holds the blob."""
        with self._using() as database:
            database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (str(digest), registry, repository))

    def note(self, key: str) -> Any:
        """A JSON value kept under a key, None when there is none."""
        with self._using() as database:
            row = database.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def remember_note(self, key: str, value: Any) -> None:
        """Keep a JSON value."""
        with self._using() as database:
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))
