"""What workers that share a state tell each other of copies: receipts, and refusals that nobody knew beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from registry_pipelines.errors import LocalError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared.database import Database, Tables, Transaction
from registry_pipelines.shared.gathered import Gathered
from registry_pipelines.transfer.delivery.receipts import BELIEVED_S as RECEIPT_BELIEVED_S
from registry_pipelines.transfer.delivery.receipts import SMALL_RECEIPT_BYTES, ReceiptStore, recent_key
from registry_pipelines.transfer.delivery.refusals import BELIEVED_S, SparseRefusals

_RECEIPTS = Tables(
    "receipts",
    (
        """CREATE TABLE IF NOT EXISTS receipts (
            registry TEXT NOT NULL, repository TEXT NOT NULL, root VARCHAR(140) NOT NULL, envelope BYTEA NOT NULL,
            written FLOAT NOT NULL, PRIMARY KEY (registry, repository, root))""",
        "CREATE INDEX IF NOT EXISTS receipts_by_time ON receipts (written)",
    ),
)
_PUT = """INSERT INTO receipts (registry, repository, root, envelope, written)
    VALUES (:registry, :repository, :root, :envelope, clock())
    ON CONFLICT (registry, repository, root) DO UPDATE SET envelope = excluded.envelope, written = excluded.written"""
_WHICH = "WHERE registry = :registry AND repository = :repository AND root = :root"
_FIND = f"SELECT envelope FROM receipts {_WHICH}"  # noqa: S608 - ours
_FIND_SMALL = """SELECT r.registry, r.repository, r.root,
        CASE WHEN octet_length(r.envelope) <= :small THEN r.envelope END AS envelope
    FROM receipts r JOIN unnest(CAST(:registries AS text[]), CAST(:repositories AS text[]), CAST(:roots AS text[]))
        AS asked (registry, repository, root)
        ON r.registry = asked.registry AND r.repository = asked.repository AND r.root = asked.root"""
_DROP = f"DELETE FROM receipts {_WHICH}"  # noqa: S608 - ours
_LATE = "SELECT registry, repository, root, envelope FROM receipts WHERE written >= :since ORDER BY written LIMIT :most"

_REFUSALS = Tables(
    "refusals",
    (
        """CREATE TABLE IF NOT EXISTS refusals (
            registry TEXT NOT NULL PRIMARY KEY, learnt FLOAT NOT NULL)""",
    ),
)
_LEARN = """INSERT INTO refusals (registry, learnt) VALUES (:registry, clock())
    ON CONFLICT (registry) DO UPDATE SET learnt = excluded.learnt"""
_LEARNT = "SELECT learnt FROM refusals WHERE registry = :registry AND learnt > clock() - :believed"


class SharedReceipts(ReceiptStore):
    """Receipts that every worker of a shared state sees. Raises LocalError where the database does not answer."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._small: Gathered[tuple[str, str, str], bytes] = Gathered(self._find_small)
        database.make(_RECEIPTS)

    def _write(self, target: Place, root: Digest, envelope: bytes) -> None:
        values = {**_key(target, root), "envelope": envelope}
        self._database.run(lambda database: database.change(_PUT, values))

    def _read(self, target: Place, root: Digest) -> bytes | None:
        rows = self._database.run(lambda database: list(database.rows(_FIND, _key(target, root))))
        return bytes(rows[0]["envelope"]) if rows else None

    def _remove(self, target: Place, root: Digest) -> None:
        self._database.run(lambda database: database.change(_DROP, _key(target, root)))

    def has(self, target: Place, root: Digest) -> bool:
        """See ReceiptStore. A small one is known from then on, as by ``load``: who asks for it looks into it next."""
        if self._recent.get(recent_key(target, root)):
            return True
        envelope = self._small.ask((target.registry.name, target.repository, str(root)))
        if envelope:
            with suppress(ManifestInvalid):
                self._opened(target, root, envelope)
        return envelope is not None

    def _find_small(self, asked: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], bytes]:
        """Envelopes of those that there are; b"" for one that is large."""
        lists = {name: [each[at] for each in asked] for at, name in enumerate(("registries", "repositories", "roots"))}
        values = {**lists, "small": SMALL_RECEIPT_BYTES}
        rows = self._database.run(lambda database: list(database.rows(_FIND_SMALL, values)))
        return {(row["registry"], row["repository"], row["root"]): bytes(row["envelope"] or b"") for row in rows}

    def written_since(self, since: float, most: int) -> Iterator[tuple[str, bytes]]:
        """See ReceiptStore."""
        rows = self._database.run(lambda database: list(database.rows(_LATE, {"since": since, "most": most})))
        for row in rows:
            yield f"{row['registry']}/{row['repository']}@{row['root']}", bytes(row["envelope"])

    def sweep(self) -> None:
        """Forget what nobody believes any more; not waited for."""
        sweep = "DELETE FROM receipts WHERE written < clock() - :kept"
        try:
            self._database.run(lambda each: each.change(sweep, {"kept": 4 * RECEIPT_BELIEVED_S}), patient=False)
        except LocalError:
            return


class SharedRefusals(SparseRefusals):
    """Refusals that every worker of a shared state knows. A database that does not answer is not waited for: they are
    hints."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.make(_REFUSALS)

    def learn(self, registry: str) -> None:
        """See SparseRefusals."""
        try:
            self._database.run(lambda database: database.change(_LEARN, {"registry": registry}), patient=False)
        except LocalError:
            return

    def refused_on(self, registry: str) -> str:
        """See SparseRefusals."""

        def look(database: Transaction) -> list[float]:
            rows = database.rows(_LEARNT, {"registry": registry, "believed": BELIEVED_S})
            return [float(row["learnt"]) for row in rows]

        try:
            learnt = self._database.run(look, patient=False)
        except LocalError:
            return ""
        return datetime.fromtimestamp(learnt[0], UTC).date().isoformat() if learnt else ""


def _key(target: Place, root: Digest) -> dict[str, object]:
    return {"registry": target.registry.name, "repository": target.repository, "root": str(root)}


__all__ = ["SharedReceipts", "SharedRefusals"]
