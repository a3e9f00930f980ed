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

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import age_text
from registry_pipelines.versions import claim_file

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
_PUT = """INSERT INTO seen (registry, repository, tag, digest, first) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (registry, repository, tag) DO UPDATE SET digest = excluded.digest, first = excluded.first"""

Told = Callable[[str], Mapping[Digest, datetime]]
"""A repository to when its manifests were pushed, as the registry says it; empty for those of which it says nothing.
Raises RegistryError."""


def tells_nothing(repository: str) -> Mapping[Digest, datetime]:
    """Of a registry that tells no times."""
    return {}


class SeenTags:
    """See :class:`~registry_pipelines.collect.live.Pushes`. path: of the file, made where it is not there. registry:
    its name. within: how long something is recent. now: with time zone. told: what the registry itself says."""

    def __init__(
        self, path: Path, registry: str, *, within: timedelta, now: datetime, told: Told = tells_nothing
    ) -> None:
        self._path, self._registry, self._within, self._now, self._told = path, registry, within, now, told
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
        with self._open() as database, database:
            database.execute("BEGIN IMMEDIATE")
            rows = database.execute(
                "SELECT tag, digest, first FROM seen WHERE registry = ? AND repository = ?",
                (self._registry, repository),
            )
            known = {tag: (digest, first) for tag, digest, first in rows}
            moment = 0.0 if self._is_first(database) else self._now.timestamp()
            fresh = [tag for tag, digest in tags.items() if known.get(tag, ("", 0.0))[0] != digest]
            database.executemany(_PUT, [(self._registry, repository, tag, str(tags[tag]), moment) for tag in fresh])
            gone = [(self._registry, repository, tag) for tag in known.keys() - tags.keys()]
            database.executemany("DELETE FROM seen WHERE registry = ? AND repository = ? AND tag = ?", gone)
        came = {tag: first for tag, (_, first) in known.items()} | dict.fromkeys(fresh, moment)
        return {tag: came[tag] for tag in tags}

    def knows_nothing(self) -> bool:
        """Whether nobody looked at the registry before. Raises LocalError."""
        if not self._path.exists():
            return True
        with self._open() as database:
            query = "SELECT 1 FROM looked WHERE registry = ?"
            return database.execute(query, (self._registry,)).fetchone() is None

    def _is_first(self, database: sqlite3.Connection) -> bool:
        """Whether this is the first look at the registry, at all of its repositories."""
        if self._first is None:
            before = database.execute("SELECT began FROM looked WHERE registry = ?", (self._registry,)).fetchone()
            self._first = before is None
            if self._first:
                entry = (self._registry, self._now.timestamp())
                database.execute("INSERT INTO looked (registry, began) VALUES (?, ?)", entry)
        return self._first

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with local_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None)) as database:
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


def _ago(age: timedelta) -> str:
    if age < timedelta(0):
        return f"at a time that is {age_text(-age.total_seconds())} in the future"
    return f"{age_text(age.total_seconds())} ago"


__all__ = ["SeenTags", "tells_nothing"]
