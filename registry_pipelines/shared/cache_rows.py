"""What the database knows of the shared caches: which entries there are, and the digest of each one's bytes.

The object store holds bytes under their digest and says nothing about what they are: an object that somebody else put
there is no entry, and one that was changed is not read (docs/threat-model.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from registry_pipelines.oci.digest import Digest
from registry_pipelines.shared.database import Database, Row, Tables, Transaction

TABLES = Tables(
    "caches",
    (
        """CREATE TABLE IF NOT EXISTS caches_entries (
            kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, stored BIGINT NOT NULL, size BIGINT NOT NULL,
            content BYTEA, used FLOAT NOT NULL, PRIMARY KEY (kind, name))""",
        "CREATE INDEX IF NOT EXISTS caches_by_digest ON caches_entries (digest)",
        "CREATE TABLE IF NOT EXISTS caches_swept (at FLOAT NOT NULL)",
    ),
)

FRESH_S = 6 * 3600.0
"""An entry's last use is written down at most so often."""

ASKED_AT_ONCE = 500

_FIND = """SELECT digest, stored, size, content, used < clock() - :fresh AS stale FROM caches_entries
    WHERE kind = :kind AND name = :name"""
_PUT = """INSERT INTO caches_entries (kind, name, digest, stored, size, content, used)
    VALUES (:kind, :name, :digest, :stored, :size, :content, clock())
    ON CONFLICT (kind, name) DO UPDATE SET digest = excluded.digest, stored = excluded.stored, size = excluded.size,
        content = excluded.content, used = excluded.used"""
_USE = "UPDATE caches_entries SET used = clock() WHERE kind = :kind AND name = :name"
_DROP = "DELETE FROM caches_entries WHERE kind = :kind AND name = :name"
_SMALL = "SELECT name, digest, stored, size, content FROM caches_entries WHERE kind = :kind AND content IS NOT NULL"
_OLD = """DELETE FROM caches_entries AS gone USING (
        SELECT kind, name, used, SUM(stored) OVER (ORDER BY used DESC, kind, name) AS total FROM caches_entries
    ) AS counted
    WHERE gone.kind = counted.kind AND gone.name = counted.name AND gone.used = counted.used
        AND (counted.total > :most OR counted.used < clock() - :age)
    RETURNING gone.digest, gone.stored, gone.content IS NULL AS apart"""
_KNOWN = "SELECT DISTINCT digest FROM caches_entries WHERE digest = ANY(:digests) AND content IS NULL"
_COUNTED = """SELECT kind, COUNT(*) AS entries, SUM(stored)::bigint AS stored,
        COALESCE(SUM(stored) FILTER (WHERE content IS NULL), 0)::bigint AS apart, clock() - MIN(used) AS unused_s
    FROM caches_entries GROUP BY kind ORDER BY kind"""
_DUE = """SELECT COALESCE(MAX(at), 0) < clock() - :every AS due FROM caches_swept"""


class Entry(NamedTuple):
    """One entry. digest, stored: of its bytes as they are kept; size: of what they unpack to. content: these bytes, of
    a small one; None: they are in the object store."""

    digest: Digest
    stored: int
    size: int
    content: bytes | None


class Held(NamedTuple):
    """What there is of a kind. stored: packed bytes, of which ``apart`` are in the object store. unused_s: since the
    entry that was not used for longest was used, to ``FRESH_S``."""

    kind: str
    entries: int
    stored: int
    apart: int
    unused_s: float


class Gone(NamedTuple):
    """What was taken away because it was old, or too much. digests: of those that were in the store."""

    entries: int
    stored: int
    digests: tuple[Digest, ...]


def find(database: Database, kind: str, name: str) -> Entry | None:
    """An entry, and that it was used. No call here waits for a database that is away: it raises LocalError."""

    def act(transaction: Transaction) -> Row | None:
        found = transaction.rows(_FIND, {"kind": kind, "name": name, "fresh": FRESH_S})
        if found and found[0]["stale"]:
            transaction.change(_USE, {"kind": kind, "name": name})
        return found[0] if found else None

    row = database.run(act, patient=False)
    return None if row is None else _entry(row)


def small(database: Database, kind: str) -> list[tuple[str, Entry]]:
    """All entries of a kind whose bytes are in the database, by name."""
    rows = database.run(lambda transaction: list(transaction.rows(_SMALL, {"kind": kind})), patient=False)
    return [(str(row["name"]), _entry(row)) for row in rows]


def counted(database: Database) -> list[Held]:
    """What there is, by kind. Raises LocalError."""
    rows = database.run(lambda transaction: list(transaction.rows(_COUNTED, {})))
    return [
        Held(row["kind"], int(row["entries"]), int(row["stored"]), int(row["apart"]), float(row["unused_s"]))
        for row in rows
    ]


def put(database: Database, kind: str, name: str, entry: Entry) -> bool:
    """Write an entry, in place of the one before; whether it is there now."""
    values = {"kind": kind, "name": name, **entry._asdict(), "digest": str(entry.digest)}
    return database.run(lambda transaction: transaction.change(_PUT, values), patient=False) == 1


def drop(database: Database, kind: str, name: str) -> None:
    """Take an entry away."""
    values = {"kind": kind, "name": name}
    database.run(lambda transaction: transaction.change(_DROP, values), patient=False)


def drop_old(database: Database, *, most: int, age_s: float) -> Gone:
    """Take away what was not used for ``age_s``, and what was not used for longest of what is above ``most`` bytes."""
    rows = database.run(lambda transaction: list(transaction.rows(_OLD, {"most": most, "age": age_s})), patient=False)
    digests = tuple(dict.fromkeys(Digest.parse(row["digest"]) for row in rows if row["apart"]))
    return Gone(len(rows), sum(int(row["stored"]) for row in rows), digests)


def unknown(database: Database, digests: Iterable[Digest]) -> list[Digest]:
    """Those that no entry has in the store."""
    wanted, found = list(digests), set[str]()
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        some = [str(each) for each in wanted[start : start + ASKED_AT_ONCE]]
        rows = database.run(lambda transaction, some=some: transaction.rows(_KNOWN, {"digests": some}), patient=False)  # type: ignore[misc]
        found |= {str(row["digest"]) for row in rows}
    return [digest for digest in wanted if digest not in found]


def due(database: Database, every_s: float) -> bool:
    """Whether nobody swept for so long."""
    [row] = database.run(lambda transaction: list(transaction.rows(_DUE, {"every": every_s})), patient=False)
    return bool(row["due"])


def swept(database: Database) -> None:
    """Write down that it was swept now."""

    def act(transaction: Transaction) -> None:
        transaction.change("DELETE FROM caches_swept", {})
        transaction.change("INSERT INTO caches_swept (at) VALUES (clock())", {})

    database.run(act, patient=False)


def _entry(row: Row) -> Entry:
    content = row["content"]
    digest = Digest.parse(row["digest"])
    return Entry(digest, int(row["stored"]), int(row["size"]), None if content is None else bytes(content))


__all__ = [
    "TABLES",
    "Entry",
    "Gone",
    "Held",
    "counted",
    "drop",
    "drop_old",
    "due",
    "find",
    "put",
    "small",
    "swept",
    "unknown",
]
