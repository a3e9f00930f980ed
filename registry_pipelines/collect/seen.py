"""When tags came: by the registry's own word where it tells, and by our own looks at its tags, which are kept.

The distribution API tells no time of a push, and an image's ``created`` is as old as the image: what was mirrored today
may be three years old. So every plan writes down which tags it saw, and one that it sees for the first time came
lately. The first look at a registry is where that begins: what is there then was there before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import age_text
from registry_pipelines.shared.database import Database, Tables, Transaction
from registry_pipelines.shared.files import Connected
from registry_pipelines.versions import claim_file

T = TypeVar("T")

VERSION = 1
WAIT_S = 60.0
"""For another process that plans; each repository is one transaction."""
_TABLES = """
CREATE TABLE IF NOT EXISTS looked (registry TEXT NOT NULL PRIMARY KEY, began REAL NOT NULL);
CREATE TABLE IF NOT EXISTS seen (
    registry TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, first REAL NOT NULL,
    PRIMARY KEY (registry, repository, tag)
) WITHOUT ROWID;
"""
SHARED = Tables(
    "tags_seen",
    (
        "CREATE TABLE IF NOT EXISTS tags_seen_looked (registry TEXT NOT NULL PRIMARY KEY, began FLOAT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS tags_seen (registry TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, "
        "digest TEXT NOT NULL, first FLOAT NOT NULL, PRIMARY KEY (registry, repository, tag))",
    ),
)
"""The same of workers that share their state; they have one database for all rooms, so names say whose they are."""

Told = Callable[[str], Mapping[Digest, datetime]]
"""A repository to when its manifests were pushed, as the registry says it; empty for those of which it says nothing.
Raises RegistryError."""


def tells_nothing(repository: str) -> Mapping[Digest, datetime]:
    """Of a registry that tells no times."""
    return {}


class SeenTags:
    """See :class:`~registry_pipelines.collect.live.Pushes`. kept: a file, made where it is not there, or the database
    that workers share. registry: its name. within: how long something is recent. now: with time zone. told: what the
    registry itself says."""

    def __init__(
        self, kept: Path | Database, registry: str, *, within: timedelta, now: datetime, told: Told = tells_nothing
    ) -> None:
        self._kept: _Kept = _File(kept) if isinstance(kept, Path) else _Shared(kept)
        self._registry, self._within, self._now, self._told = registry, within, now, told
        self._first: bool | None = None

    def recent(self, repository: str, tags: Mapping[str, Digest]) -> Mapping[Digest, str]:
        """See Pushes; the tags are written down. A time in the future is a recent one. Raises LocalError, too."""
        told = self._told(repository) if tags else {}
        found = {
            digest: f"pushed {_ago(self._now - told[digest])}"
            for digest in tags.values()
            if digest in told and self._now - told[digest] < self._within
        }
        for tag, first in self._look(repository, tags).items():
            age = self._now - datetime.fromtimestamp(first, UTC)
            if age < self._within:
                found.setdefault(tags[tag], f"tag {tag} came {_ago(age)}, by our own looks")
        return found

    def _look(self, repository: str, tags: Mapping[str, Digest]) -> dict[str, float]:
        """When each tag was first seen with its digest; what changed is written down."""

        def look(on: Transaction) -> dict[str, float]:
            seen, here = self._kept.seen, {"registry": self._registry, "repository": repository}
            query = f"SELECT tag, digest, first FROM {seen} WHERE registry = :registry AND repository = :repository"  # noqa: S608 - ours
            known = {row["tag"]: (row["digest"], row["first"]) for row in on.rows(query, here)}
            moment = 0.0 if self._is_first(on) else self._now.timestamp()
            fresh = [tag for tag, digest in tags.items() if known.get(tag, ("", 0.0))[0] != digest]
            put = f"""INSERT INTO {seen} (registry, repository, tag, digest, first)
                VALUES (:registry, :repository, :tag, :digest, :first) ON CONFLICT (registry, repository, tag)
                DO UPDATE SET digest = excluded.digest, first = excluded.first"""  # noqa: S608 - ours
            if fresh:
                on.change(put, *({**here, "tag": tag, "digest": str(tags[tag]), "first": moment} for tag in fresh))
            drop = f"DELETE FROM {seen} WHERE registry = :registry AND repository = :repository AND tag = :tag"  # noqa: S608 - ours
            if gone := known.keys() - tags.keys():
                on.change(drop, *({**here, "tag": tag} for tag in gone))
            came = {tag: first for tag, (_, first) in known.items()} | dict.fromkeys(fresh, moment)
            return {tag: came[tag] for tag in tags}

        return self._kept.alone(look)

    def knows_nothing(self) -> bool:
        """Whether nobody looked at the registry before. Raises LocalError."""
        return not self._kept.there() or self._kept.alone(lambda on: not self._began(on))

    def _is_first(self, on: Transaction) -> bool:
        """Whether this is the first look at the registry, at all of its repositories."""
        if self._first is None:
            self._first = not self._began(on)
        if self._first:
            values = {"registry": self._registry, "began": self._now.timestamp()}
            put = f"INSERT INTO {self._kept.looked} (registry, began) VALUES (:registry, :began) ON CONFLICT DO NOTHING"  # noqa: S608 - ours
            on.change(put, values)
        return self._first

    def _began(self, on: Transaction) -> bool:
        query = f"SELECT began FROM {self._kept.looked} WHERE registry = :registry"  # noqa: S608 - ours
        return bool(on.rows(query, {"registry": self._registry}))


class _Kept(Protocol):
    """Where tags are written down. seen, looked: names of the tables."""

    seen: str
    looked: str

    def there(self) -> bool:
        """Whether there may be any."""
        ...

    def alone(self, act: Callable[[Transaction], T]) -> T:
        """Do something in one transaction, while nobody else does."""
        ...


class _Shared:
    seen, looked = "tags_seen", "tags_seen_looked"

    def __init__(self, database: Database) -> None:
        self._database = database
        database.make(SHARED)

    def there(self) -> bool:
        return True

    def alone(self, act: Callable[[Transaction], T]) -> T:
        def locked(on: Transaction) -> T:
            on.change("LOCK TABLE tags_seen_looked IN SHARE ROW EXCLUSIVE MODE", {})
            return act(on)

        return self._database.run(locked)


class _File:
    seen, looked = "seen", "looked"

    def __init__(self, path: Path) -> None:
        self._path = path

    def there(self) -> bool:
        return self._path.exists()

    def alone(self, act: Callable[[Transaction], T]) -> T:
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")
            return act(Connected(database))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with local_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                claim_file(database, VERSION, what="the file of tags that were seen", path=self._path)
                # What a power cut takes of the last looks comes anew by the next one, and so stays for longer.
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                if not database.execute("PRAGMA user_version").fetchone()[0]:
                    database.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};")
                yield database
        except sqlite3.Error as error:
            raise LocalError(
                f"the tags that were seen cannot be kept: {error}",
                where=str(self._path),
                do="Look who uses it and whether the disk is full; delete it to begin again",
            ) from error


def move_seen(path: Path, database: Database) -> None:
    """Bring what a file has into the database that workers share; what is there already stays. Raises LocalError."""
    file, shared = _File(path), _Shared(database)
    looked = file.alone(lambda on: [dict(row) for row in on.rows("SELECT registry, began FROM looked", {})])
    query = "SELECT registry, repository, tag, digest, first FROM seen"
    seen = file.alone(lambda on: [dict(row) for row in on.rows(query, {})])

    def put(on: Transaction) -> None:
        for table, rows in ((shared.looked, looked), (shared.seen, seen)):
            names = ", ".join(rows[0]) if rows else ""
            values = ", ".join(f":{name}" for name in rows[0]) if rows else ""
            if rows:
                on.change(f"INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING", *rows)  # noqa: S608 - ours

    shared.alone(put)


def count_seen(database: Database) -> int:
    """Tags that workers wrote down. Raises LocalError."""
    kept = _Shared(database)
    [row] = kept.alone(lambda on: on.rows("SELECT COUNT(*) AS count FROM tags_seen", {}))
    return int(row["count"])


def _ago(age: timedelta) -> str:
    if age < timedelta(0):
        return f"at a time that is {age_text(-age.total_seconds())} in the future"
    return f"{age_text(age.total_seconds())} ago"


__all__ = ["SeenTags", "count_seen", "move_seen", "tells_nothing"]
