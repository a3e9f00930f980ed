"""Memories in one SQLite file of the state folder, of layers that were made and where they were seen.

Losing such a file costs time, never correctness: what is no database is replaced, and tables of an older version are
emptied. Used by the stages that make layers. Of a state that several machines share, what one of them keeps here the
others find, too (``oci.behind``).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.behind import behind
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.versions import claim_file

MAX_SEEN = 8
"""Repositories remembered per blob; one is enough to mount from."""

_WAIT_FOR_LOCK_S = 30.0
_SEEN = (
    "CREATE TABLE IF NOT EXISTS seen "
    "(digest TEXT, registry TEXT, repository TEXT, PRIMARY KEY (digest, registry, repository))"
)


class LayerCache:
    """An open file, with where blobs were seen; what a stage keeps besides is its own class's.

    what: its name in errors. version: of the tables; what keys mean is in them. tables: statements that create those
    besides ``seen``. Safe for threads and for several processes. Raises LocalError when the file cannot be used,
    StateTooNew.
    """

    def __init__(self, path: Path, *, what: str, version: int, tables: Sequence[str]) -> None:
        self._path, self._what, self._version, self._tables = path, what, version, (*tables, _SEEN)
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error  # locked for long, or a full disk: another process may be using it
        except sqlite3.DatabaseError:
            # A cache that is none is worth nothing; the next run fills a new one.
            path.unlink(missing_ok=True)
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT_FOR_LOCK_S, check_same_thread=False, isolation_level=None)
        try:
            claim_file(database, self._version, what=self._what, path=self._path)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("BEGIN IMMEDIATE")  # of several processes only one may find older tables
            [version] = database.execute("PRAGMA user_version").fetchone()
            if max(version, 1) < self._version:  # files without one are of the first
                for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                    database.execute(f'DROP TABLE "{name}"')
            for statement in (*self._tables, f"PRAGMA user_version = {self._version}"):
                database.execute(statement)
            database.execute("COMMIT")
            database.execute("SELECT count(*) FROM seen")
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. Raises LocalError for what sqlite3 raises."""
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> LocalError:
        do = "Look who uses it and whether the disk is full; else delete the file"
        return LocalError(f"{self._what} cannot be used: {error}", where=str(self._path), do=do)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def seen(self, digest: Digest, registry: str) -> list[str]:
        """Repositories of a registry that held the blob."""
        query = "SELECT repository FROM seen WHERE digest = ? AND registry = ? ORDER BY repository LIMIT ?"
        with self.using() as database:
            found = [row[0] for row in database.execute(query, (str(digest), registry, MAX_SEEN))]
        if found:
            return found
        there = self.from_others("seen", f"{digest} {registry}", str)
        return [there] if there else []

    def remember_seen(self, digest: Digest, registry: str, repository: str) -> None:
        """Keep that a repository holds the blob."""
        with self.using() as database:
            row = (str(digest), registry, repository)
            new = database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row).rowcount > 0
        if new:
            self.for_others("seen", f"{digest} {registry}", repository)

    def from_others(self, table: str, key: str, shape: Any) -> Any:
        """What another machine keeps under a key, which is to be as good here as there; None when none does."""
        found = behind(self._path).value(self._kind(table), _name(key))
        try:
            return None if found is None else msgspec.json.decode(found, type=ready(shape))
        except (msgspec.MsgspecError, RecursionError):
            return None

    def for_others(self, table: str, key: str, value: object) -> None:
        """Keep it for the other machines, in the background."""
        behind(self._path).keep_value(self._kind(table), _name(key), msgspec.json.encode(value))

    def _kind(self, table: str) -> str:
        return f"{self._path.parent.name}/{self._path.stem}/v{self._version}/{table}"


def _name(key: str) -> str:
    """Keys may be longer than what a database finds quickly."""
    return Digest.of(key.encode())
