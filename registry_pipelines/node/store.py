"""What is known of the snapshots of a node, in SQLite: names, parents, kinds, labels. Their files are in ``snapshots``.

Rules: containerd's ``core/snapshots`` (Snapshotter) and its ``storage`` (which call is refused, and how).
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.versions import claim_file

VERSION = 1
MOST_CHAINS = 256
"""That are remembered: a pull asks for one with each layer, and it is that of the layer before and one more."""
Kind = Literal["view", "active", "committed"]
Code = Literal["NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"]
_TABLES = """
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, parent INTEGER REFERENCES snapshots (id),
    kind TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, labels TEXT NOT NULL,
    chain_id TEXT NOT NULL, image TEXT NOT NULL, size INTEGER NOT NULL, inodes INTEGER NOT NULL
);
CREATE INDEX children ON snapshots (parent);
CREATE INDEX images ON snapshots (image) WHERE image != '';
"""
_SELECT, _SELECT_BARE = (
    f"""SELECT one.id, one.name, coalesce(above.name, ''), one.kind, one.created, one.updated, {labels},
    one.chain_id, one.image, one.size, one.inodes, one.parent FROM snapshots one
    LEFT JOIN snapshots above ON one.parent = above.id"""  # noqa: S608 - of constants
    for labels in ("one.labels", "CASE one.image WHEN '' THEN '{}' ELSE one.labels END")
)
"""The second without labels of what no image serves: a pull asks for all layers below each."""

_CHAIN = f"""WITH RECURSIVE chain (id, depth, below) AS (
    SELECT id, 0, CASE image WHEN '' THEN parent END FROM snapshots WHERE name = ? UNION ALL
    SELECT each.id, depth + 1, CASE each.image WHEN '' THEN each.parent END
    FROM snapshots each JOIN chain ON each.id = chain.below
) {_SELECT_BARE} JOIN chain ON one.id = chain.id ORDER BY depth"""  # noqa: S608 - of constants


class Refused(Exception):
    """A call that the rules forbid. code: gRPC's word for it, by which containerd knows what to do."""

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(what)
        self.code = code


class Info(NamedTuple):
    """A snapshot. id: of its folder. parent: a name, empty for none. created, updated: nanoseconds since 1970. chain_id
    and image: of a layer that is served by an image and has no files here; else empty. size, inodes: of a committed
    one's own files, in bytes. above: the parent's id."""

    id: int
    name: str
    parent: str
    kind: Kind
    created: int
    updated: int
    labels: Mapping[str, str]
    chain_id: str = ""
    image: str = ""
    size: int = 0
    inodes: int = 0
    above: int | None = None


class Store:
    """The table. One process at a time; safe for many threads. A change is on the disk when a call returns, unless told
    otherwise, for containerd's own is, too, and would else name snapshots that a power cut took.

    Raises LocalError where the file cannot be used, StateTooNew.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.RLock()
        self._lasting: bool | None = None
        self._chains: dict[str, Sequence[Info]] = {}
        """Of committed snapshots: what they are and stand on stays so until one is removed or labelled."""
        with self._errors(), local_errors(path):
            path.touch(mode=0o600)  # it names images, and others on this machine need not know them
            path.chmod(0o600)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                claim_file(self._database, VERSION, what="the node's list of snapshots", path=path)
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA foreign_keys = ON")
                if not self._database.execute("PRAGMA user_version").fetchone()[0]:
                    self._database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {VERSION};COMMIT;")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def change(self, *, lasting: bool = True) -> Iterator[None]:
        """One transaction: all calls in the block, or none where it raises. lasting: it is on the disk then; else with
        the next one that is, for what nobody misses after a power cut."""
        with self._lock, self._errors():
            if lasting != self._lasting:
                self._database.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
                self._lasting = lasting
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may have ended it
                    self._database.execute("ROLLBACK")
                raise

    def get(self, name: str) -> Info:
        """Raises Refused."""
        rows = self._rows(f"{_SELECT} WHERE one.name = ?", name)
        if not rows:
            raise Refused("NOT_FOUND", f"there is no snapshot {name}")
        return rows[0]

    @property
    def changes(self) -> int:
        """Rows that were changed since it was opened: while it is the same, so is everything."""
        return self._database.total_changes

    def everything(self, parent: str | None = None) -> list[Info]:
        """All, oldest first; or those that stand on a parent, empty for nothing."""
        if parent is None:
            return self._rows(f"{_SELECT} ORDER BY one.id")
        if not parent:
            return self._rows(f"{_SELECT} WHERE one.parent IS NULL ORDER BY +one.id")
        # With a plus SQLite sorts the few, and does not go through all in order.
        below = "(SELECT id FROM snapshots WHERE name = ?)"
        return self._rows(f"{_SELECT} WHERE one.parent = {below} ORDER BY +one.id", parent)

    def chain(self, name: str) -> Sequence[Info]:
        """One and what it stands on, topmost first, down to the first that an image serves: that has all below it, and
        alone has its labels here. Raises Refused."""
        with self._lock:
            if name in self._chains:
                return self._chains[name]
            top = self.get(name)
            below: Sequence[Info] | None = () if top.image or not top.parent else self._chains.get(top.parent)
            found = (
                self._rows(_CHAIN, name) if below is None else [top if top.image else top._replace(labels={}), *below]
            )
            if top.kind == "committed":
                if len(self._chains) >= MOST_CHAINS:
                    self._chains.clear()
                self._chains[name] = found
            return found

    def of_image(self, image: str) -> list[Info]:
        """The layers that an image serves."""
        return self._rows(f"{_SELECT} WHERE one.image = ?", image)

    def add(
        self,
        name: str,
        above: Info | None,
        kind: Kind,
        labels: Mapping[str, str],
        *,
        chain_id: str = "",
        image: str = "",
    ) -> Info:
        """Begin a snapshot. above: what it stands on, which may have gone since it was read. Raises Refused."""
        if above is not None and above.kind != "committed":
            raise Refused("INVALID_ARGUMENT", f"the parent {above.name} is not committed")
        parent, parent_id = (above.name, above.id) if above else ("", None)
        now, kept = time.time_ns(), dict(labels)
        done = self._do(
            "INSERT INTO snapshots (name, parent, kind, created, updated, labels, chain_id, image, size, inodes) "
            "SELECT ?, ?, ?, ?, ?, ?, ?, ?, 0, 0 WHERE ? IS NULL OR EXISTS (SELECT 1 FROM snapshots WHERE id = ?) "
            "ON CONFLICT (name) DO NOTHING",
            (name, parent_id, kind, now, now, json.dumps(kept), chain_id, image, parent_id, parent_id),
        )
        if not done.rowcount or done.lastrowid is None:
            if parent:
                self.get(parent)
            raise Refused("ALREADY_EXISTS", f"there is a snapshot {name}")
        return Info(done.lastrowid, name, parent, kind, now, now, kept, chain_id, image, above=parent_id)

    def commit(self, info: Info, name: str, labels: Mapping[str, str], size: int, inodes: int) -> None:
        """Make an active snapshot a committed one with another name; labels are those of this call alone. info: as it
        was read, which may not be so any more. Raises Refused."""
        now = time.time_ns()
        done = self._do(
            "UPDATE OR IGNORE snapshots SET name = ?, kind = 'committed', created = ?, updated = ?, labels = ?, "
            "size = ?, inodes = ? WHERE id = ? AND kind = 'active'",
            (name, now, now, json.dumps(dict(labels)), size, inodes, info.id),
        )
        if not done.rowcount:
            if self.get(info.name).kind != "active":
                raise Refused("FAILED_PRECONDITION", f"the snapshot {info.name} is not active")
            raise Refused("ALREADY_EXISTS", f"there is a snapshot {name}")

    def label(self, name: str, labels: Mapping[str, str]) -> Info:
        """Replace the labels. Raises Refused."""
        info = self.get(name)
        self._chains.clear()
        now = max(time.time_ns(), info.updated + 1)
        self._do("UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?", (json.dumps(dict(labels)), now, info.id))
        return self.get(name)

    def remove(self, name: str) -> Info:
        """Forget one on which nothing stands; what it was. Raises Refused."""
        info = self.get(name)
        if self._rows(f"{_SELECT} WHERE one.parent = ? LIMIT 1", info.id):
            raise Refused("FAILED_PRECONDITION", f"other snapshots stand on {name}")
        self._chains.clear()
        self._do("DELETE FROM snapshots WHERE id = ?", (info.id,))
        return info

    def _rows(self, query: str, *values: str | int) -> list[Info]:
        with self._lock, self._errors():
            rows = self._database.execute(query, values).fetchall()
        return [Info._make((*row[:6], msgspec.json.decode(row[6]), *row[7:])) for row in rows]

    def _do(self, query: str, values: Sequence[str | int | None]) -> sqlite3.Cursor:
        with self._lock, self._errors():
            return self._database.execute(query, values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LocalError(
                f"the list of snapshots cannot be kept: {error}",
                where=str(self._path),
                do="Make room on the disk, or name another folder",
            ) from error


__all__ = ["Code", "Info", "Kind", "Refused", "Store"]
