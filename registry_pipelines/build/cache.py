"""What earlier builds found out, in one SQLite file of the state directory. Losing it costs time, never correctness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.caches import LayerCache
from registry_pipelines.oci.digest import Digest

VERSION = 1
"""Of the tables; what keys and notes mean is in them."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS layers "
    "(key TEXT PRIMARY KEY, digest TEXT, diff_id TEXT, size INTEGER, tar_size INTEGER)",
    "CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT)",
)


class BuildCache(LayerCache):
    """Keys of layers to their digests, where blobs were seen, and notes (resolutions, inventories of wheels)."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, what="the build cache", version=VERSION, tables=_TABLES)

    def layer(self, key: str) -> LayerDigests | None:
        """What a layer with this key came out as."""
        with self.using() as database:
            row = database.execute(
                "SELECT digest, diff_id, size, tar_size FROM layers WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            row = self.from_others("layers", key, tuple[str, str, int, int])
            if row is not None:
                self._put_layer(key, row)
        return LayerDigests(Digest(row[0]), Digest(row[1]), row[2], row[3]) if row else None

    def remember_layer(self, key: str, digests: LayerDigests) -> None:
        """Keep what a layer came out as."""
        row = (str(digests.digest), str(digests.diff_id), digests.size, digests.tar_size)
        self._put_layer(key, row)
        self.for_others("layers", key, row)

    def _put_layer(self, key: str, row: tuple[str, str, int, int]) -> None:
        with self.using() as database:
            database.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?)", (key, *row))

    def note(self, key: str) -> Any:
        """A JSON value kept under a key, None when there is none; of this machine alone, as what its files hash to."""
        with self.using() as database:
            row = database.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def remember_note(self, key: str, value: Any) -> None:
        """Keep a JSON value."""
        with self.using() as database:
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))

    def fact(self, key: str) -> Any:
        """The same of what is true on every machine: its key says by digests what it is about."""
        known = self.note(key)
        if known is None and (known := self.from_others("facts", key, Any)) is not None:
            self.remember_note(key, known)
        return known

    def remember_fact(self, key: str, value: Any) -> None:
        """Keep one."""
        self.remember_note(key, value)
        self.for_others("facts", key, value)
