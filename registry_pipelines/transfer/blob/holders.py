"""Which repository of a registry has a blob, as finished copies left them: a later copy mounts it from there.

Only hints: who misses one sends again what it could have mounted. So what no copy has met for half a year goes, or the
table of a busy team would grow for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared.database import Database, Row, Transaction

MAX_HINTS = 500
"""Digests asked about in one statement; SQLite takes 999 values in old builds."""

SAVE_EVERY_S = 1.0
"""Between two times that hints are written down: one transaction for each copy of a small image would take a tenth of
its processor time. A kill loses the last second's."""

KEPT_S = 180 * 86400.0
"""After the last copy that met a blob its hint is kept for so long."""
RENEWED_S = 30 * 86400.0
"""A hint that is older is written anew by a copy that meets its blob."""
MAX_SWEPT = 1000
"""Hints that one copy takes away."""

STATEMENTS = (
    # Builds before there was a time write and read `holdings`, perhaps at this moment, so the table stays.
    """CREATE TABLE IF NOT EXISTS holdings (
        registry TEXT NOT NULL, digest VARCHAR(140) NOT NULL, repository TEXT NOT NULL,
        PRIMARY KEY (registry, digest))""",
    """CREATE TABLE IF NOT EXISTS holders (
        registry TEXT NOT NULL, digest VARCHAR(140) NOT NULL, repository TEXT NOT NULL, noted_at FLOAT NOT NULL,
        PRIMARY KEY (registry, digest))""",
    "CREATE INDEX IF NOT EXISTS holders_by_time ON holders (noted_at)",
    """INSERT INTO holders (registry, digest, repository, noted_at)
        SELECT registry, digest, repository, clock() FROM holdings WHERE TRUE
        ON CONFLICT (registry, digest) DO NOTHING""",
    "DELETE FROM holdings",
)
"""Make the table, and move into it what builds without it left."""

_FIND = """SELECT digest, repository, noted_at < clock() - :fresh AS old FROM holders
    WHERE registry = :registry AND digest IN ({names})"""
_PUT = """INSERT INTO holders (registry, digest, repository, noted_at)
    VALUES (:registry, :digest, :repository, clock())
    ON CONFLICT (registry, digest) DO UPDATE SET repository = excluded.repository, noted_at = excluded.noted_at"""
_OLDEST = """SELECT registry, digest, noted_at FROM holders WHERE noted_at < clock() - :kept
    ORDER BY noted_at LIMIT :most"""
_DROP = "DELETE FROM holders WHERE registry = :registry AND digest = :digest AND noted_at = :noted_at"


class Holders:
    """The hints of one database. Safe to use from many threads. Raises LocalError."""

    def __init__(self, database: Database) -> None:
        """database: with the tables of :data:`STATEMENTS`."""
        self._database = database
        self._held: dict[tuple[str, str], str] = {}
        self._old: set[tuple[str, str]] = set()
        self._unsaved: dict[tuple[str, str], str] = {}
        self._saved_at = time.monotonic()
        self._lock = threading.Lock()

    def find(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """A repository of the registry for each blob that a finished copy left there."""
        with self._lock:
            unknown = [str(digest) for digest in digests if (registry, digest) not in self._held]
        found = self._database.run(lambda database: _look(database, registry, unknown)) if unknown else {}
        with self._lock:
            for digest in unknown:
                row = found.get(digest)
                self._held.setdefault((registry, digest), row["repository"] if row else "")
                if row and row["old"]:
                    self._old.add((registry, digest))
            held = {digest: self._held[registry, digest] for digest in digests}
        return {digest: repository for digest, repository in held.items() if repository}

    def hold(self, target: Place, digests: Sequence[Digest], *, instead: Collection[Digest] = ()) -> None:
        """The target was read back and has these blobs. instead: those whose holder known so far is to be replaced; it
        may be deleted, and each later copy would ask it in vain."""
        registry = target.registry.name
        known = self.find(registry, digests)
        with self._lock:
            for digest in digests:
                key = (registry, str(digest))
                if digest not in known or digest in instead or key in self._old:
                    self._held[key] = self._unsaved[key] = target.repository
                    self._old.discard(key)
            due = time.monotonic() - self._saved_at >= SAVE_EVERY_S
        if due:
            self.save()

    def save(self) -> None:
        """Write down what is new."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
            self._saved_at = time.monotonic()
        if unsaved:
            # All in one order: of two transactions that wait for each other's rows Postgres ends one.
            rows = [
                {"registry": name, "digest": item, "repository": where}
                for (name, item), where in sorted(unsaved.items())
            ]
            self._database.run(lambda database: database.change(_PUT, *rows))

    def sweep(self) -> None:
        """Take away some of what no copy met for :data:`KEPT_S`."""
        self._database.run(_sweep, patient=False)


def _look(database: Transaction, registry: str, digests: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for start in range(0, len(digests), MAX_HINTS):
        some = {f"digest{at}": digest for at, digest in enumerate(digests[start : start + MAX_HINTS])}
        wanted = _FIND.format(names=", ".join(f":{name}" for name in some))
        rows = database.rows(wanted, {"registry": registry, "fresh": RENEWED_S, **some})
        found.update((row["digest"], row) for row in rows)
    return found


def _sweep(database: Transaction) -> None:
    rows = database.rows(_OLDEST, {"kept": KEPT_S, "most": MAX_SWEPT})
    if rows:
        oldest = sorted((dict(row) for row in rows), key=lambda row: (row["registry"], row["digest"]))
        database.change(_DROP, *oldest)  # in the order of save; one that was met again meanwhile has another time


__all__ = ["STATEMENTS", "Holders"]
