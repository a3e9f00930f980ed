"""Short keys of releases: ``image:tag@<12 hex>``, which Dagster's pages and people can show, and the digest of each.

A key is a name, and no part of a digest that is looked for: the state keeps key -> full digest, and a key that
it does not know is an error. It is written before anybody sees the key. A second digest that would get the same key
gets 16 digits (then 20, ...); of two that ask together, none gets the shorter one, so that what is rebuilt does not
depend on the order. A lost folder is rebuilt from what trusted keys signed (``signed_releases``).
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from registry_pipelines.config import Config
from registry_pipelines.errors import DigestInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.release import Release
from registry_pipelines.shared.database import Database, Row, Tables, Transaction
from registry_pipelines.shared.files import Connected
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

TABLES = Tables(
    "release_keys",
    (
        "CREATE TABLE IF NOT EXISTS release_keys (place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "key TEXT NOT NULL UNIQUE, image TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, "
        "UNIQUE (image, tag, digest))",
    ),
)
"""Of workers that share their state."""


class _Kept(Protocol):
    """Where keys are."""

    where: str

    def rows(self, query: str, values: Mapping[str, object]) -> Sequence[Row]:
        """What is found; nothing where no key was ever given."""
        ...

    def write(self, act: Callable[[Transaction], T]) -> T:
        """The same as the only one who writes; kept when this returns."""
        ...


class ReleaseKeys:
    """The keys of one state: of a folder, or of the database that workers share. Safe for threads and processes.

    All methods raise LocalError where they cannot be used or are not ours, StateTooNew for a newer build's.
    """

    def __init__(self, state: Path, shared: Database | None = None) -> None:
        self._kept: _Kept = _File(state / FILE) if shared is None else _Shared(shared)

    @classmethod
    def of(cls, config: Config) -> ReleaseKeys:
        """Those of a configuration's state."""
        if not config.shared.database:
            return cls(config.state)
        from registry_pipelines.chain.shared import shared_of

        shared = shared_of(config)
        return cls(config.state, shared.database if shared else None)

    def every(self) -> dict[str, Release]:
        """All keys that are known, in the order they were given."""
        query = "SELECT key, image, tag, digest FROM release_keys ORDER BY place"
        rows = self._kept.rows(query, {})
        return {row["key"]: self._release(row) for row in rows}

    def find(self, key: str) -> Release | None:
        """The release of a key; None where this state does not know it."""
        query = "SELECT key, image, tag, digest FROM release_keys WHERE key = :key"
        rows = self._kept.rows(query, {"key": key})
        return self._release(rows[0]) if rows else None

    def like(self, key: str) -> list[str]:
        """Longer keys that begin as a key does: to say why it names none, never to choose one."""
        query = "SELECT key FROM release_keys WHERE substr(key, 1, :length) = :key AND key <> :key"
        rows = self._kept.rows(query, {"length": len(key), "key": key})
        return sorted(row["key"] for row in rows)

    def name(self, releases: Iterable[Release]) -> dict[Release, str]:
        """The key of each release, on disk when this returns: the one it has, else a new one."""
        wanted = list(dict.fromkeys(releases))
        return self._kept.write(lambda on: _named(on, wanted)) if wanted else {}

    def _release(self, row: Row) -> Release:
        """A row's release, where its key is one that we could have given it: people see the key, and a promotion is of
        the digest. Raises LocalError for a row that somebody else wrote."""
        key, image, tag, digest = (row[name] for name in ("key", "image", "tag", "digest"))
        with suppress(DigestInvalid):
            release = Release(str(image), str(tag), Digest.parse(str(digest)))
            digits = len(key.rpartition("@")[2])
            if digits >= DIGITS and key == _short(release, digits):
                return release
        raise LocalError(
            f"the key {key!r} is written with another release ({image}:{tag}, {digest})",
            where=self._kept.where,
            do="Somebody changed it; delete it: signed records have the keys too",
        )


class _File:
    """In a state folder; the file is opened for each call."""

    def __init__(self, path: Path) -> None:
        self._path, self.where = path, str(path)

    def rows(self, query: str, values: Mapping[str, object]) -> Sequence[Row]:
        if not self._path.exists():
            return ()
        with self._open() as database:
            exists = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'release_keys'").fetchone()
            return Connected(database).rows(query, values) if exists else ()

    def write(self, act: Callable[[Transaction], T]) -> T:
        with local_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.executescript(_TABLE)
            database.execute("BEGIN IMMEDIATE")
            answer = act(Connected(database))
            database.execute("COMMIT")
        return answer

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_FOR_LOCK_S, isolation_level=None)) as database:
                database.row_factory = sqlite3.Row
                claim_file(database, VERSION, what="the file of release keys", path=self._path)
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise LocalError(
                f"the keys of releases cannot be used: {error}",
                where=str(self._path),
                do="Look who uses it and whether the disk is full; else delete it: signed records have the keys too",
            ) from error


class _Shared:
    """In the database that workers share."""

    def __init__(self, database: Database) -> None:
        self._database, self.where = database, "shared.database, release_keys"
        database.make(TABLES)

    def rows(self, query: str, values: Mapping[str, object]) -> Sequence[Row]:
        return self._database.run(lambda on: on.rows(query, values))

    def write(self, act: Callable[[Transaction], T]) -> T:
        def alone(on: Transaction) -> T:
            on.change("LOCK TABLE release_keys IN SHARE ROW EXCLUSIVE MODE", {})
            return act(on)

        return self._database.run(alone)


def _named(on: Transaction, wanted: list[Release]) -> dict[Release, str]:
    names = {each: key for each in wanted if (key := _key_of(on, each))}
    new = [each for each in wanted if each not in names]
    for each, key in _new_keys(new, lambda key: _is_taken(on, key)):
        names[each] = key
        on.change(
            "INSERT INTO release_keys (key, image, tag, digest) VALUES (:key, :image, :tag, :digest)",
            {"key": key, **_values(each)},
        )
    return {each: names[each] for each in wanted}


def _values(release: Release) -> dict[str, object]:
    return {"image": release.image, "tag": release.tag, "digest": str(release.digest)}


def _key_of(on: Transaction, release: Release) -> str | None:
    query = "SELECT key FROM release_keys WHERE image = :image AND tag = :tag AND digest = :digest"
    rows = on.rows(query, _values(release))
    return str(rows[0]["key"]) if rows else None


def _is_taken(on: Transaction, key: str) -> bool:
    return bool(on.rows("SELECT 1 FROM release_keys WHERE key = :key", {"key": key}))


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
