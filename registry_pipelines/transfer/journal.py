"""What survives a kill: open uploads with their confirmed offsets, and who holds which blob.

SQLite beside the state (write-ahead log, synchronous FULL: a confirmed offset survives power loss), or Postgres by
URL for many workers; through SQLAlchemy Core. An upload belongs to the journal object that records it; another takes
it over only when that owner is dead (see ``owners``).
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sql

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.interface import Place, UploadSession
from registry_pipelines.transfer.courier import COURIERS, read_note, wait_for_courier
from registry_pipelines.transfer.database import Database
from registry_pipelines.transfer.owners import HEARTBEAT_S, NOBODY, OWNERS, Owner, new_name
from registry_pipelines.transfer.sinks import ABANDONED_S, JOURNAL_FILE, UPLOAD_LIFE_S

MAX_HINTS = 500
"""Digests asked about in one statement; SQLite takes 999 parameters in old builds."""

HEART_ENDS_S = 1.0
"""How long the end of a journal waits for a sign of life that is under way."""


SAVE_EVERY_S = 1.0
"""Between two times that holdings are written down: one transaction for each copy of a small image would take a tenth
of its processor time. A kill loses the last second's, and a later run sends again what it could have mounted."""


class AbandonedUpload(NamedTuple):
    """An open upload at a registry that nobody will finish."""

    registry: str
    session: UploadSession


_tables = sql.MetaData()
_uploads = sql.Table(
    "uploads",
    _tables,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("registry", sql.Text, nullable=False),
    sql.Column("repository", sql.Text, nullable=False),
    sql.Column("digest", sql.String(140), nullable=False),
    sql.Column("location", sql.Text, nullable=False),
    sql.Column("offset_bytes", sql.BigInteger, nullable=False),
    sql.Column("min_chunk_bytes", sql.BigInteger, nullable=False),
    sql.Column("owner", sql.Text, nullable=False),
    sql.Column("updated_at", sql.Float, nullable=False),
    sql.Index("uploads_by_blob", "registry", "repository", "digest"),
)
_holdings = sql.Table(
    "holdings",
    _tables,
    sql.Column("registry", sql.Text, primary_key=True),
    sql.Column("digest", sql.String(140), primary_key=True),
    sql.Column("repository", sql.Text, nullable=False),
)


class Journal:
    """Safe to use from many threads and processes. url: SQLAlchemy's. folder: the state folder, where couriers leave
    notes, None for no couriers. name: of the owner of its uploads and of their courier. Raises what
    :class:`~registry_pipelines.transfer.database.Database` raises, and LocalError when the folder cannot be written."""

    def __init__(self, url: str, folder: Path | None = None, *, name: str = "") -> None:
        self._database = Database(url, _tables)
        self._owner = Owner(name or new_name(), folder / OWNERS if folder else None)
        self._folder = folder
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None
        self._ids: dict[tuple[str, str, str], str] = {}
        self._held: dict[tuple[str, str], str] = {}
        self._unsaved: dict[tuple[str, str], str] = {}
        self._saved_at = time.monotonic()
        self._lock = threading.Lock()

    @classmethod
    def at(cls, folder: Path, *, name: str = "") -> Journal:
        """The journal of a state folder."""
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{folder / JOURNAL_FILE}", folder, name=name)

    def close(self) -> None:
        """Close the database; uploads that are still recorded can be taken over, by whoever comes first."""
        with contextlib.suppress(RegistryPipelinesError):  # hints; without them a later run sends what it could mount
            self._save_holdings()
        self._closed.set()
        if self._heart is not None:
            self._heart.join(HEART_ENDS_S)
        self._owner.close(named=not self._release())
        self._database.close()

    def _release(self) -> bool:
        """Leave to others what is recorded; whether nothing names this owner any more."""
        if self._heart is not None:
            left = _uploads.update().where(_uploads.c.owner == self._owner.name).values(owner=NOBODY)
            try:
                self._database.run(lambda database: database.execute(left), patient=False)
            except RegistryPipelinesError:  # others take it when they see that this owner is dead
                return False
        return True

    def _beat(self) -> None:
        """Renew what others judge by whether this owner lives: a part, or a commit, may take longer than the lease."""
        while not self._closed.wait(HEARTBEAT_S):
            with contextlib.suppress(RegistryPipelinesError):
                self._database.run(self._renew, patient=False)

    def _renew(self, database: sql.Connection) -> None:
        mine = _uploads.c.owner == self._owner.name
        database.execute(_uploads.update().where(mine).values(updated_at=time.time()))

    def _know(self, key: tuple[str, str, str], upload_id: str) -> str:
        """Remember the row of an upload of ours, which needs signs of life from now on; the row known before counts."""
        with self._lock:
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="journal-lease", daemon=True)
                self._heart.start()
            return self._ids.setdefault(key, upload_id)

    # Uploads (see sinks.UploadJournal)

    def resume(self, target: Place, descriptor: Descriptor) -> UploadSession | None:
        """Take over the furthest upload of the blob to the target that no living process owns.

        Waits for the courier of a killed owner, whose part may still be on its way, and goes on behind it.
        """
        key = (target.registry.name, target.repository, str(descriptor.digest))
        wanted = _uploads.select().where(_of(key)).order_by(_uploads.c.offset_bytes.desc())
        for row in self._database.run(lambda database: database.execute(wanted).all()):
            if row.owner == self._owner.name or not self._owner.sees_alive(row.owner, row.updated_at):
                session = self._take_over(key, row)
                if session is not None:
                    return session
        return None

    def _take_over(self, key: tuple[str, str, str], row: sql.Row[Any]) -> UploadSession | None:
        free = sql.and_(_uploads.c.id == row.id, _uploads.c.owner.in_([row.owner, self._owner.name]))
        if row.updated_at < time.time() - UPLOAD_LIFE_S:
            self._database.run(lambda database: database.execute(_uploads.delete().where(free)))
            self._drop_note(row.id)
            return None
        claim = _uploads.update().where(free).values(owner=self._owner.name, updated_at=time.time())
        if self._database.run(lambda database: database.execute(claim).rowcount) != 1:
            return None
        with self._lock:
            self._ids.pop(key, None)
        self._know(key, row.id)
        session = UploadSession(key[1], row.location, row.offset_bytes, row.min_chunk_bytes)
        self._read_note(row, session)
        return session

    def _read_note(self, row: sql.Row[Any], session: UploadSession) -> None:
        if self._folder is None:
            return
        if row.owner not in (self._owner.name, NOBODY):
            wait_for_courier(self._folder / COURIERS, row.owner)
        note = read_note(self._note_path(self._folder, row.id))
        if note and note[1] > session.offset:
            session.location, session.offset = note

    def note(self, target: Place, digest: Digest) -> Path | None:
        """Where a courier writes down what the registry answered to a part of this upload; None without a folder."""
        with self._lock:
            upload_id = self._ids.get((target.registry.name, target.repository, str(digest)))
        return self._note_path(self._folder, upload_id) if self._folder and upload_id else None

    def _note_path(self, folder: Path, upload_id: str) -> Path:
        return folder / COURIERS / f"{upload_id}.json"

    def _drop_note(self, upload_id: str) -> None:
        if self._folder:
            with contextlib.suppress(OSError):  # swept away some day; the upload itself is done with
                self._note_path(self._folder, upload_id).unlink()

    def record(self, target: Place, descriptor: Descriptor, session: UploadSession) -> None:
        """Keep session and offset; durable when this returns."""
        key = (target.registry.name, target.repository, str(descriptor.digest))
        upload_id = self._know(key, uuid.uuid4().hex)
        row = {
            "id": upload_id,
            "registry": key[0],
            "repository": key[1],
            "digest": key[2],
            "location": session.location,
            "offset_bytes": session.offset,
            "min_chunk_bytes": session.min_chunk_bytes,
            "owner": self._owner.name,
            "updated_at": time.time(),
        }
        self._put(_uploads, [row])

    def forget(self, target: Place, digest: Digest) -> None:
        """The upload of this process is committed, cancelled or gone."""
        with self._lock:
            upload_id = self._ids.pop((target.registry.name, target.repository, str(digest)), None)
        if upload_id:
            gone = _uploads.delete().where(_uploads.c.id == upload_id)
            self._database.run(lambda database: database.execute(gone))
            self._drop_note(upload_id)

    def abandoned(self, registries: Sequence[str], *, older_than_s: float = ABANDONED_S) -> list[AbandonedUpload]:
        """Take over, and forget, uploads to these registries that no living process owns and nobody came back for."""
        oldest = time.time() - older_than_s
        taken = self._database.run(lambda database: self._take_abandoned(database, registries, oldest))
        for row in taken:
            self._drop_note(row.id)
        return [
            AbandonedUpload(
                row.registry, UploadSession(row.repository, row.location, row.offset_bytes, row.min_chunk_bytes)
            )
            for row in taken
        ]

    def _take_abandoned(self, database: sql.Connection, registries: Sequence[str], oldest: float) -> list[sql.Row[Any]]:
        rows = database.execute(_uploads.select().where(_uploads.c.registry.in_(list(registries)))).all()
        taken = []
        for row in rows:
            if row.updated_at > oldest or self._owner.sees_alive(row.owner, row.updated_at):
                continue
            mine = sql.and_(_uploads.c.id == row.id, _uploads.c.owner == row.owner)
            if database.execute(_uploads.delete().where(mine)).rowcount == 1:
                taken.append(row)
        return taken

    # Holdings (see planner.Holdings and acts.Keeper)

    def holders(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """A repository of the registry for each blob that a finished copy left there."""

        with self._lock:
            unknown = [str(item) for item in digests if (registry, item) not in self._held]

        def look(database: sql.Connection) -> dict[tuple[str, str], str]:
            found = {(registry, item): "" for item in unknown}
            for start in range(0, len(unknown), MAX_HINTS):
                some = unknown[start : start + MAX_HINTS]
                rows = _holdings.select().where(_holdings.c.registry == registry, _holdings.c.digest.in_(some))
                found.update({(registry, row.digest): row.repository for row in database.execute(rows)})
            return found

        looked = self._database.run(look) if unknown else {}
        with self._lock:
            for key, repository in looked.items():
                self._held.setdefault(key, repository)
            held = {item: self._held[registry, item] for item in digests}
        return {item: repository for item, repository in held.items() if repository}

    def hold(self, target: Place, digests: Sequence[Digest], *, instead: Collection[Digest] = ()) -> None:
        """The target was read back and has these blobs. instead: those whose holder known so far is to be replaced; it
        may be deleted, and each later copy would ask it in vain."""
        known = self.holders(target.registry.name, digests)
        new = [(target.registry.name, str(item)) for item in digests if item not in known or item in instead]
        with self._lock:
            for key in new:
                self._held[key] = self._unsaved[key] = target.repository
            due = time.monotonic() - self._saved_at >= SAVE_EVERY_S
        if due:
            self._save_holdings()

    def _save_holdings(self) -> None:
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
            self._saved_at = time.monotonic()
        if unsaved:
            rows = [{"registry": name, "digest": item, "repository": where} for (name, item), where in unsaved.items()]
            self._put(_holdings, rows)

    def _put(self, table: sql.Table, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert or replace, also while another process does the same. All in one order: of two transactions that wait
        for each other's rows Postgres ends one."""
        insert = self._database.insert(table)
        keys = [column.name for column in table.primary_key]
        values = {column.name: insert.excluded[column.name] for column in table.columns}
        put = insert.on_conflict_do_update(index_elements=keys, set_=values)
        ordered = sorted(rows, key=lambda row: [str(row[key]) for key in keys])
        self._database.run(lambda database: database.execute(put, ordered))


def _of(key: tuple[str, str, str]) -> sql.ColumnElement[bool]:
    return sql.and_(_uploads.c.registry == key[0], _uploads.c.repository == key[1], _uploads.c.digest == key[2])
