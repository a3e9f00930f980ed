"""Manifests that any worker of a shared state has seen: each is asked of its registry once, where requests are counted
(Docker Hub's pulls, ECR's rates), and not once by each machine."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, ManifestBytes
from registry_pipelines.shared.database import Database, Tables, Transaction
from registry_pipelines.transfer.closure.manifests import KEPT_S, ManifestFolder

_TABLES = Tables(
    "manifests",
    (
        """CREATE TABLE IF NOT EXISTS manifests (
            digest VARCHAR(140) NOT NULL PRIMARY KEY, media_type TEXT NOT NULL, raw BYTEA NOT NULL,
            kept FLOAT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS manifests_by_time ON manifests (kept)",
    ),
)
_FIND = "SELECT media_type, raw FROM manifests WHERE digest = :digest AND length(raw) <= :most"
_PUT = """INSERT INTO manifests (digest, media_type, raw, kept) VALUES (:digest, :media_type, :raw, clock())
    ON CONFLICT (digest) DO NOTHING"""
_SWEEP = "DELETE FROM manifests WHERE kept < clock() - :kept"

SAVE_EVERY_S = 1.0
MOST_UNSAVED = 100
"""New ones are written together; a kill costs requests."""


class SharedManifests(ManifestFolder):
    """This machine's folder first, then what others saw. Both are caches: a database that does not answer is not waited
    for, and what it gives is held against the digest. Closed at the end of a run, which writes what is new."""

    def __init__(self, root: Path, database: Database) -> None:
        super().__init__(root)
        self._database = database
        self._unsaved: dict[str, dict[str, object]] = {}
        self._saved_at = time.monotonic()
        self._lock = threading.Lock()
        database.make(_TABLES)
        if self.is_new:
            self.is_new = not database.run(lambda each: list(each.rows("SELECT 1 FROM manifests LIMIT 1", {})))

    def manifest(self, digest: Digest) -> ManifestBytes | None:
        """See ManifestFolder."""
        if (here := super().manifest(digest)) is not None:
            return here
        values = {"digest": str(digest), "most": MAX_MANIFEST_BYTES}
        try:
            rows = self._database.run(lambda database: list(database.rows(_FIND, values)), patient=False)
        except LocalError:
            return None
        if not rows:
            return None
        raw = bytes(rows[0]["raw"])
        if Digest.of(raw, digest.algorithm) != digest:
            return None
        found = ManifestBytes(raw, str(rows[0]["media_type"]), digest)
        super().keep_manifest(found)
        return found

    def keep_manifest(self, manifest: ManifestBytes) -> None:
        """See ManifestFolder."""
        super().keep_manifest(manifest)
        row: dict[str, object] = {
            "digest": str(manifest.digest),
            "media_type": manifest.media_type,
            "raw": bytes(manifest.raw),
        }
        with self._lock:
            self._unsaved[str(manifest.digest)] = row
            due = len(self._unsaved) >= MOST_UNSAVED or time.monotonic() - self._saved_at >= SAVE_EVERY_S
        if due:
            self.close()

    def sweep(self) -> None:
        """See ManifestFolder."""
        super().sweep()
        with contextlib.suppress(LocalError):
            self._database.run(lambda database: database.change(_SWEEP, {"kept": KEPT_S}), patient=False)

    def close(self) -> None:
        """Write what is new, where the database answers."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
            self._saved_at = time.monotonic()
        rows = [unsaved[digest] for digest in sorted(unsaved)]  # all in one order: see Holders.save

        def save(database: Transaction) -> int:
            return database.change(_PUT, *rows)

        if rows:
            with contextlib.suppress(LocalError):
                self._database.run(save, patient=False)


__all__ = ["SharedManifests"]
