"""What survives a kill: open uploads with their confirmed offsets, and who holds which blob.

SQLite beside the state (write-ahead log, synchronous FULL: a confirmed offset survives power loss), or the Postgres
that workers share (``shared``). An upload belongs to the journal object that records it; another takes
it over only when that owner is dead (see ``owners``).
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from registry_pipelines.errors import RegistryPipelinesError, StateLocked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place, UploadSession
from registry_pipelines.shared.database import ALIVE, Database, Row, Tables, Transaction, open_file
from registry_pipelines.transfer.blob.courier import COURIERS, read_note, wait_for_courier
from registry_pipelines.transfer.blob.holders import STATEMENTS as HOLDERS
from registry_pipelines.transfer.blob.holders import Holders
from registry_pipelines.transfer.blob.owners import HEARTBEAT_S, NOBODY, OWNERS, Owner, new_name
from registry_pipelines.transfer.blob.sinks import ABANDONED_S, JOURNAL_FILE, UPLOAD_LIFE_S

if TYPE_CHECKING:  # the journal of a folder needs none
    from registry_pipelines.shared.state import SharedState

HEART_ENDS_S = 1.0
"""How long the end of a journal waits for a sign of life that is under way."""


class AbandonedUpload(NamedTuple):
    """An open upload at a registry that nobody will finish."""

    registry: str
    session: UploadSession


JOURNAL_VERSION = 1
"""Of the tables in a folder's file; of a shared database see :data:`~registry_pipelines.shared.membership.LAYOUT`. What
is added must not disturb who does not know it, or the number is raised."""

TABLES = Tables(
    "journal",
    (
        """CREATE TABLE IF NOT EXISTS uploads (
            id VARCHAR(32) NOT NULL PRIMARY KEY, registry TEXT NOT NULL, repository TEXT NOT NULL,
            digest VARCHAR(140) NOT NULL, location TEXT NOT NULL, offset_bytes BIGINT NOT NULL,
            min_chunk_bytes BIGINT NOT NULL, owner TEXT NOT NULL, updated_at FLOAT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS uploads_by_blob ON uploads (registry, repository, digest)",
        *HOLDERS,
        """CREATE TABLE IF NOT EXISTS begun (
            registry TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (registry, repository))""",
    ),
    JOURNAL_VERSION,
)
SHARED_TABLES = Tables(
    "journal",
    (
        *TABLES.statements,
        """CREATE TABLE IF NOT EXISTS journal_owners (
            owner VARCHAR(32) NOT NULL PRIMARY KEY, member VARCHAR(32) NOT NULL)""",
    ),
)
"""With who is whose: uploads belong to journals, of which a member of a shared state may have several."""

_PUT_UPLOAD = """INSERT INTO uploads
    (id, registry, repository, digest, location, offset_bytes, min_chunk_bytes, owner, updated_at)
    VALUES (:id, :registry, :repository, :digest, :location, :offset_bytes, :min_chunk_bytes, :owner, clock())
    ON CONFLICT (id) DO UPDATE SET registry = excluded.registry, repository = excluded.repository,
        digest = excluded.digest, location = excluded.location, offset_bytes = excluded.offset_bytes,
        min_chunk_bytes = excluded.min_chunk_bytes, updated_at = excluded.updated_at
    WHERE uploads.owner = excluded.owner"""
_FIND_UPLOADS = """SELECT *, NULL AS member_alive FROM uploads
    WHERE registry = :registry AND repository = :repository AND digest = :digest ORDER BY offset_bytes DESC"""
_ALL_UPLOADS = "SELECT *, NULL AS member_alive FROM uploads WHERE updated_at <= :oldest"
_OF_MEMBERS = f"""(SELECT EXISTS (SELECT 1 FROM members WHERE members.name = journal_owners.member AND {ALIVE})
    FROM journal_owners WHERE journal_owners.owner = uploads.owner) AS member_alive"""  # noqa: S608 - ours
_DROP_FREE = "DELETE FROM uploads WHERE id = :id AND owner IN (:before, :owner)"
_CLAIM_FREE = "UPDATE uploads SET owner = :owner, updated_at = clock() WHERE id = :id AND owner IN (:before, :owner)"
_QUERIES = (_FIND_UPLOADS, _ALL_UPLOADS)
_PUT_OWNER = """INSERT INTO journal_owners (owner, member) VALUES (:owner, :member)
    ON CONFLICT (owner) DO UPDATE SET member = excluded.member"""
_SWEEP_OWNERS = """DELETE FROM journal_owners WHERE NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.owner =
    journal_owners.owner) AND NOT EXISTS (SELECT 1 FROM members WHERE members.name = journal_owners.member)"""
_PUT_BEGUN = """INSERT INTO begun (registry, repository) VALUES (:registry, :repository)
    ON CONFLICT (registry, repository) DO NOTHING"""
_DROP_BEGUN = "DELETE FROM begun WHERE registry = :registry AND repository = :repository"
_FIND_BEGUN = "SELECT repository FROM begun WHERE registry = :registry AND repository = :repository"


class Journal:
    """What a killed copy leaves for the next: open uploads with their offsets, and who has which blobs.

    Safe to use from many threads and processes. folder: the state folder, where couriers leave notes, None for no
    couriers. name: of the owner of its uploads and of their courier. Made by :meth:`at` or :meth:`on`; raises
    StateTooNew, and LocalError when the database cannot be used, or the folder written."""

    def __init__(self, database: Database, member: str, folder: Path | None, name: str) -> None:
        """member: who works on the shared database; empty for one of a folder's own, which is closed with this."""
        self._database, self._member = database, member
        self._query = {each: each.replace("NULL AS member_alive", _OF_MEMBERS) if member else each for each in _QUERIES}
        self._owner = Owner(name or new_name(), folder / OWNERS if folder else None)
        self._folder = folder
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None
        self._owned = False
        self._starting = threading.Lock()
        self._ids: dict[tuple[str, str, str], str] = {}
        self._holders = Holders(database)
        self._lock = threading.Lock()

    @classmethod
    def at(cls, folder: Path, *, name: str = "") -> Journal:
        """The journal of a state folder."""
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(open_file(folder / JOURNAL_FILE, TABLES), "", folder, name)

    @classmethod
    def on(cls, shared: SharedState, folder: Path | None = None, *, name: str = "") -> Journal:
        """The journal that workers share."""
        shared.database.make(SHARED_TABLES)
        return cls(shared.database, shared.membership.name, folder, name)

    def close(self) -> None:
        """Close the database; uploads that are still recorded can be taken over, by whoever comes first."""
        with contextlib.suppress(RegistryPipelinesError):  # hints; without them a later run sends what it could mount
            self._holders.save()
        self._closed.set()
        if self._heart:
            self._heart.join(HEART_ENDS_S)
        self._owner.close(named=not self._release())
        if not self._member:
            self._database.close()

    def _release(self) -> bool:
        """Leave to others what is recorded; whether nothing names this owner any more."""
        if self._owned:
            leave = "UPDATE uploads SET owner = :nobody WHERE owner = :owner"
            values = {"nobody": NOBODY, "owner": self._owner.name}
            try:
                self._database.run(lambda database: database.change(leave, values), patient=False)
            except RegistryPipelinesError:  # others take it when they see that this owner is dead
                return False
        return True

    def _beat(self) -> None:
        """Renew what others judge by whether this owner lives: a part, or a commit, may take longer than the lease."""
        while not self._closed.wait(HEARTBEAT_S):
            with contextlib.suppress(RegistryPipelinesError):
                self._database.run(self._renew, patient=False)

    def _renew(self, database: Transaction) -> None:
        renew = "UPDATE uploads SET updated_at = clock() WHERE owner = :owner"
        database.change(renew, {"owner": self._owner.name})

    def _live(self) -> None:
        """From its first upload on the owner has to show that it lives: as its member does, or by itself."""
        with self._starting:
            if self._owned:
                return
            if self._member:
                values = {"owner": self._owner.name, "member": self._member}
                self._database.run(lambda database: database.change(_PUT_OWNER, values))
            else:
                self._heart = threading.Thread(target=self._beat, name="journal-lease", daemon=True)
                self._heart.start()
            self._owned = True

    def _know(self, key: tuple[str, str, str], upload_id: str) -> str:
        """Remember the row of an upload of ours; the row known before counts."""
        with self._lock:
            return self._ids.setdefault(key, upload_id)

    # Uploads (see sinks.UploadJournal)

    def resume(self, target: Place, descriptor: Descriptor) -> UploadSession | None:
        """Take over the furthest upload of the blob to the target that no living process owns.

        Waits for the courier of a killed owner, whose part may still be on its way, and goes on behind it.
        """
        key = (target.registry.name, target.repository, str(descriptor.digest))
        wanted = dict(zip(("registry", "repository", "digest"), key, strict=True))
        find = self._query[_FIND_UPLOADS]
        for row in self._database.run(lambda database: database.rows(find, wanted)):
            if row["owner"] == self._owner.name or not self._sees_alive(row):
                session = self._take_over(key, row)
                if session is not None:
                    return session
        return None

    def _sees_alive(self, row: Row) -> bool:
        return self._owner.sees_alive(row["owner"], row["updated_at"], row["member_alive"])

    def _take_over(self, key: tuple[str, str, str], row: Row) -> UploadSession | None:
        values = {"id": row["id"], "before": row["owner"], "owner": self._owner.name}
        if row["updated_at"] < time.time() - UPLOAD_LIFE_S:
            self._database.run(lambda database: database.change(_DROP_FREE, values))
            self._drop_note(row["id"])
            return None
        self._live()
        if self._database.run(lambda database: database.change(_CLAIM_FREE, values)) != 1:
            return None
        with self._lock:
            self._ids.pop(key, None)
        self._know(key, row["id"])
        session = UploadSession(key[1], row["location"], row["offset_bytes"], row["min_chunk_bytes"])
        self._read_note(row, session)
        return session

    def _read_note(self, row: Row, session: UploadSession) -> None:
        if self._folder is None:
            return
        if row["owner"] not in (self._owner.name, NOBODY):
            wait_for_courier(self._folder / COURIERS, row["owner"])
        note = read_note(self._note_path(self._folder, row["id"]))
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
        """Keep session and offset; durable when this returns. Raises StateLocked where another took the upload over."""
        self._live()
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
        }
        if self._database.run(lambda database: database.change(_PUT_UPLOAD, row)) != 1:
            raise StateLocked(
                f"another worker took over the upload of {descriptor.digest}: this one gave no sign of life",
                where=str(target),
                do="Look at what the other does; this one stopped there",
            )

    def forget(self, target: Place, digest: Digest) -> None:
        """The upload of this process is committed, cancelled or gone."""
        with self._lock:
            upload_id = self._ids.pop((target.registry.name, target.repository, str(digest)), None)
        if upload_id:
            gone = "DELETE FROM uploads WHERE id = :id AND owner = :owner"
            values = {"id": upload_id, "owner": self._owner.name}
            self._database.run(lambda database: database.change(gone, values))
            self._drop_note(upload_id)

    def abandoned(self, registries: Sequence[str], *, older_than_s: float = ABANDONED_S) -> list[AbandonedUpload]:
        """Take over, and forget, uploads to these registries that no living process owns and nobody came back for."""
        oldest = time.time() - older_than_s
        taken = self._database.run(lambda database: self._take_abandoned(database, registries, oldest))
        if self._member:
            self._database.run(lambda database: database.change(_SWEEP_OWNERS, {}))
        with contextlib.suppress(RegistryPipelinesError):  # as in close; the uploads are taken, and must be cancelled
            self._holders.sweep()
        for row in taken:
            self._drop_note(row["id"])
        return [
            AbandonedUpload(
                row["registry"],
                UploadSession(row["repository"], row["location"], row["offset_bytes"], row["min_chunk_bytes"]),
            )
            for row in taken
        ]

    def _take_abandoned(self, database: Transaction, registries: Sequence[str], oldest: float) -> list[Row]:
        taken = []
        for row in database.rows(self._query[_ALL_UPLOADS], {"oldest": oldest}):
            if row["registry"] not in registries or self._sees_alive(row):
                continue
            mine = {"id": row["id"], "owner": row["owner"]}
            if database.change("DELETE FROM uploads WHERE id = :id AND owner = :owner", mine) == 1:
                taken.append(row)
        return taken

    def open_uploads(self, registry: str) -> Mapping[str, float]:
        """Repositories of a registry to which uploads are open, each with the last sign of life (seconds of the epoch).
        Nothing is taken over."""
        query = "SELECT repository, MAX(updated_at) AS last FROM uploads WHERE registry = :registry GROUP BY repository"
        rows = self._database.run(lambda database: list(database.rows(query, {"registry": registry})))
        return {str(row["repository"]): float(row["last"]) for row in rows}

    # Holdings (see planner.Holdings and acts.Keeper)

    def begin(self, targets: Collection[Place]) -> None:
        """Blobs are about to be sent there; durable when this returns. Until its first tag comes a registry says that
        the repository does not exist, whatever blobs a killed run has left in it."""
        self._change_begun(_PUT_BEGUN, targets)

    def end(self, targets: Collection[Place]) -> None:
        """Tags are there now, so the registry itself tells that these are not new."""
        self._change_begun(_DROP_BEGUN, targets)

    def _change_begun(self, statement: str, targets: Collection[Place]) -> None:
        rows = [dict(zip(("registry", "repository"), each, strict=True)) for each in sorted(map(_name, targets))]
        if rows:
            self._database.run(lambda database: database.change(statement, *rows))

    def begun(self, target: Place) -> bool:
        """Whether some run began to send blobs there and did not come to the tags."""
        wanted = dict(zip(("registry", "repository"), _name(target), strict=True))
        return bool(self._database.run(lambda database: database.rows(_FIND_BEGUN, wanted)))

    def holders(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """See :meth:`Holders.find`."""
        return self._holders.find(registry, digests)

    def hold(self, target: Place, digests: Sequence[Digest], *, instead: Collection[Digest] = ()) -> None:
        """See :meth:`Holders.hold`."""
        self._holders.hold(target, digests, instead=instead)


def _name(place: Place) -> tuple[str, str]:
    return place.registry.name, place.repository
