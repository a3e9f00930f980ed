"""Short keys of releases: ``image:tag@<12 hex>``, which Dagster's pages and people can show, and the digest of each.

A key is a name, and no part of a digest that is looked for: the state folder keeps key -> full digest, and a key that
it does not know is an error. It is written before anybody sees the key. A second digest that would get the same key
gets 16 digits (then 20, ...); of two that ask together, none gets the shorter one, so that what is rebuilt does not
depend on the order. A lost folder is rebuilt from what trusted keys signed (``signed_releases``).
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from registry_pipelines.errors import DigestInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.release import Release
from registry_pipelines.versions import claim_file

T = TypeVar("T")

FILE = "release-keys.sqlite"
"""In the state folder."""
VERSION = 1
DIGITS = 12
MORE_DIGITS = 4

_WAIT_FOR_LOCK_S = 30.0
SHORT_KEY = re.compile(r"([^@:]+):([^@:]+)@([0-9a-f]{12,128})\Z")
"""Image, tag and digits of a text that has the form of a short key."""
_TABLE = f"""
CREATE TABLE IF NOT EXISTS release_keys (
  place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, image TEXT, tag TEXT, digest TEXT, UNIQUE (image, tag, digest)
);
PRAGMA user_version = {VERSION};
"""


class ReleaseKeys:
    """The keys of one state folder. Safe for threads and processes; opens its file for each call.

    All methods raise LocalError where the file cannot be used or is not ours, StateTooNew for a newer build's.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def every(self) -> dict[str, Release]:
        """All keys that are known, in the order they were given."""
        return self._read(
            lambda database: {
                row[0]: self._release(*row)
                for row in database.execute("SELECT key, image, tag, digest FROM release_keys ORDER BY place")
            },
            {},
        )

    def find(self, key: str) -> Release | None:
        """The release of a key; None where this folder does not know it."""
        query = "SELECT key, image, tag, digest FROM release_keys WHERE key = ?"
        row = self._read(lambda database: database.execute(query, (key,)).fetchone(), None)
        return self._release(*row) if row else None

    def like(self, key: str) -> list[str]:
        """Longer keys that begin as a key does: to say why it names none, never to choose one."""
        query = "SELECT key FROM release_keys WHERE substr(key, 1, ?) = ? AND key != ? ORDER BY key"
        rows: list[tuple[str]] = self._read(
            lambda database: database.execute(query, (len(key), key, key)).fetchall(), []
        )
        return [row[0] for row in rows]

    def name(self, releases: Iterable[Release]) -> dict[Release, str]:
        """The key of each release, on disk when this returns: the one it has, else a new one."""
        wanted = list(dict.fromkeys(releases))
        if not wanted:
            return {}
        with local_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.executescript(_TABLE)
            database.execute("BEGIN IMMEDIATE")
            names = {each: key for each in wanted if (key := _key_of(database, each))}
            new = [each for each in wanted if each not in names]
            for each, key in _new_keys(new, lambda key: _is_taken(database, key)):
                names[each] = key
                row = (key, each.image, each.tag, str(each.digest))
                database.execute("INSERT INTO release_keys (key, image, tag, digest) VALUES (?, ?, ?, ?)", row)
            database.execute("COMMIT")
        return {each: names[each] for each in wanted}

    def _release(self, key: str, image: object, tag: object, digest: object) -> Release:
        """A row's release, where its key is one that we could have given it: people see the key, and a promotion is of
        the digest. Raises LocalError for a row that somebody else wrote."""
        with suppress(DigestInvalid):
            release = Release(str(image), str(tag), Digest.parse(str(digest)))
            digits = len(key.rpartition("@")[2])
            if digits >= DIGITS and key == _short(release, digits):
                return release
        raise LocalError(
            f"the key {key!r} is written with another release ({image}:{tag}, {digest})",
            where=str(self._path),
            do="Somebody changed this file; delete it: signed records have the keys too",
        )

    def _read(self, ask: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What the file answers; ``otherwise`` where no key was ever given."""
        if not self._path.exists():
            return otherwise
        with self._open() as database:
            exists = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'release_keys'").fetchone()
            return ask(database) if exists else otherwise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_FOR_LOCK_S, isolation_level=None)) as database:
                claim_file(database, VERSION, what="the file of release keys", path=self._path)
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise LocalError(
                f"the keys of releases cannot be used: {error}",
                where=str(self._path),
                do="Look who uses it and whether the disk is full; else delete it: signed records have the keys too",
            ) from error


def _key_of(database: sqlite3.Connection, release: Release) -> str | None:
    query = "SELECT key FROM release_keys WHERE image = ? AND tag = ? AND digest = ?"
    row = database.execute(query, (release.image, release.tag, str(release.digest))).fetchone()
    return str(row[0]) if row else None


def _is_taken(database: sqlite3.Connection, key: str) -> bool:
    return database.execute("SELECT 1 FROM release_keys WHERE key = ?", (key,)).fetchone() is not None


def _new_keys(releases: list[Release], taken: Callable[[str], bool]) -> list[tuple[Release, str]]:
    """A key for each, with as many digits as it takes; in the order given."""
    named: dict[Release, str] = {}
    digits = DIGITS
    while rest := [each for each in releases if each not in named]:
        keys = {each: _short(each, digits) for each in rest}
        claims = Counter(keys.values())
        named |= {each: key for each, key in keys.items() if claims[key] == 1 and not taken(key)}
        digits += MORE_DIGITS
    return [(each, named[each]) for each in releases]


def _short(release: Release, digits: int) -> str:
    return f"{release.image}:{release.tag}@{release.digest.hex[:digits]}"


__all__ = ["SHORT_KEY", "ReleaseKeys"]
