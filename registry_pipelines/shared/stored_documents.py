"""Documents in the database that many machines share; see :mod:`~registry_pipelines.shared.documents`.

A document is a row and its bytes in parts of a megabyte. Each content has a version of its own, made where it was
written, so that a change whose commit was not answered is known again when it is tried a second time. Large ones are
sent part by part before their row names them; parts that nobody came to name go a day later.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.shared.database import Database, Row, Tables, Transaction
from registry_pipelines.shared.documents import (
    MOST_BYTES,
    ONCE,
    Document,
    Entry,
    checked_name,
    scratch_folder,
    too_large,
)

TABLES = Tables(
    "documents",
    (
        "CREATE TABLE IF NOT EXISTS documents (folder TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, "
        "size BIGINT NOT NULL, digest TEXT NOT NULL, written DOUBLE PRECISION NOT NULL, PRIMARY KEY (folder, name))",
        "CREATE TABLE IF NOT EXISTS documents_parts (version TEXT NOT NULL, number INTEGER NOT NULL, "
        "written DOUBLE PRECISION NOT NULL, content BYTEA NOT NULL, PRIMARY KEY (version, number))",
    ),
)

PART_BYTES = 1 << 20
SENT_AT_ONCE = 8
"""Parts in one transaction: what is smaller than these is written by one alone."""
ORPHANS_S = 24 * 3600
"""Seconds after which parts that no document names are deleted: a write of a gigabyte takes minutes."""
COPIES_S = 3600
"""Seconds for which the copy of an older version stays: who was given its path may be about to open it."""
READ_AT_ONCE = 64
"""Documents of one question: those of a fleet's buckets have some hundred KB each."""
READS = 20
"""Tries to copy a large document that changes all the time."""

_PUT_PART = "INSERT INTO documents_parts (version, number, written, content) VALUES (:version, :number, clock(), :content) ON CONFLICT (version, number) DO NOTHING"  # noqa: E501
_INSERT = "INSERT INTO documents (folder, name, version, size, digest, written) VALUES (:folder, :name, :version, :size, :digest, clock())"  # noqa: E501
_UPDATE = "UPDATE documents SET version = :version, size = :size, digest = :digest, written = clock() WHERE folder = :folder AND name = :name"  # noqa: E501
_READ = (
    "SELECT d.version, d.size, d.digest, p.content FROM documents d LEFT JOIN documents_parts p "
    "ON p.version = d.version AND d.size <= :most WHERE d.folder = :folder AND d.name = :name ORDER BY p.number"
)
_READ_ALL = (
    "SELECT d.folder, d.name, d.version, d.size, d.digest, p.content FROM documents d LEFT JOIN documents_parts p "
    "ON p.version = d.version AND d.size <= :most WHERE (d.folder, d.name) IN "
    "(SELECT * FROM unnest(CAST(:folder AS text[]), CAST(:name AS text[]))) ORDER BY d.folder, d.name, p.number"
)

Held = Callable[[str, str, str], AbstractContextManager[object]]
"""A lease's name, what another one does that holds it, what to do then."""


class StoredDocuments:
    """See Documents. held: takes leases. guard: called in each transaction that writes; it raises StateLocked where the
    thread has lost a lease that it holds. copies: a folder of this machine for what is read by path. prefix: the folder
    of the state that names are below."""

    def __init__(
        self, database: Database, held: Held, guard: Callable[[Transaction], None], copies: Path, prefix: str = ""
    ) -> None:
        self._database, self._held, self._guard, self._copies, self._prefix = database, held, guard, copies, prefix
        self.where = f"shared.database, {prefix}".removesuffix(", ")

    def under(self, folder: str) -> StoredDocuments:
        """See Documents."""
        prefix = self._full(checked_name(folder))
        return StoredDocuments(self._database, self._held, self._guard, self._copies, prefix)

    def read(self, name: str, *, most: int = MOST_BYTES) -> Document | None:
        """See Documents."""
        rows = self._database.run(lambda on: on.rows(_READ, {**self._key(name), "most": most}))
        return self._whole(name, rows, most) if rows else None

    def _whole(self, name: str, rows: Sequence[Row], most: int) -> Document:
        """A document of its parts in their order."""
        if rows[0]["size"] > most:
            raise too_large(name, most, self.where)
        content = b"".join(bytes(row["content"]) for row in rows if row["content"] is not None)
        self._check(name, hashlib.sha256(content).hexdigest(), str(rows[0]["digest"]))
        return Document(content, rows[0]["version"])

    def read_all(self, names: Iterable[str], *, most: int = MOST_BYTES) -> dict[str, Document]:
        """See Documents; with one question for each ``READ_AT_ONCE``."""
        found: dict[str, Document] = {}
        keys = {name: self._key(name) for name in dict.fromkeys(names)}
        wanted = list(keys)
        for start in range(0, len(wanted), READ_AT_ONCE):
            some = wanted[start : start + READ_AT_ONCE]
            values = {"most": most, **{part: [keys[name][part] for name in some] for part in ("folder", "name")}}
            rows = self._database.run(partial(_rows, values=values))
            parts: dict[tuple[str, str], list[Row]] = {}
            for row in rows:
                parts.setdefault((row["folder"], row["name"]), []).append(row)
            for name in some:
                if of_name := parts.get((str(keys[name]["folder"]), str(keys[name]["name"]))):
                    found[name] = self._whole(name, of_name, most)
        return found

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """See Documents."""
        self._put(name, _pieces(content), len(content), hashlib.sha256(content).hexdigest(), None)

    def replace(self, name: str, content: bytes | None, version: str) -> bool:
        """See Documents."""
        if content is not None:
            return self._put(name, _pieces(content), len(content), hashlib.sha256(content).hexdigest(), version)
        return self._database.run(lambda on: self._remove(on, name, version))

    def delete(self, name: str) -> None:
        """See Documents."""
        self._database.run(lambda on: self._remove(on, name, None))

    def entries(self, folder: str = "") -> list[Entry]:
        """See Documents."""
        full = self._full(checked_name(folder)) if folder else self._prefix
        rows = self._database.run(
            lambda on: on.rows(
                "SELECT name, size, written FROM documents WHERE folder = :folder ORDER BY name", {"folder": full}
            )
        )
        return sorted(Entry(row["name"], row["size"], row["written"]) for row in rows)

    def every(self) -> list[Entry]:
        """All documents of the state with their folders, by name."""
        rows = self._database.run(lambda on: on.rows("SELECT folder, name, size, written FROM documents", {}))
        return sorted(Entry(f"{r['folder']}/{r['name']}".lstrip("/"), r["size"], r["written"]) for r in rows)

    def local(self, name: str, *beside: str) -> Path | None:
        """See Documents."""
        own = self._copies / hashlib.sha256(self._full(name).encode()).hexdigest()[:24]
        for _ in range(READS):
            told = {each: found for each in (name, *beside) if (found := self._told(each))}
            if name not in told:
                return None
            versions = "".join(str(each["version"]) for each in told.values())
            folder = own / (hashlib.sha256(versions.encode()).hexdigest()[:24] if len(told) > 1 else versions)
            if folder.exists() or self._copy(told, folder):
                with suppress(OSError):
                    os.utime(folder)  # it stays for an hour from now
                return folder / name.rpartition("/")[2]
        raise LocalError(f"{name} changes all the time", where=self.where, do="Try again")

    def take(self, name: str, file: Path) -> None:
        """See Documents."""
        with local_errors(file), file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size = opened.tell()
            opened.seek(0)
            self._put(name, iter(lambda: opened.read(PART_BYTES), b""), size, digest, None)
        file.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Documents."""
        folder = self._copies / f".scratch-{uuid.uuid4().hex}"
        with scratch_folder(folder):
            yield folder

    def held(self, name: str, what: str, *, do: str = ONCE) -> AbstractContextManager[object]:
        """See Documents."""
        return self._held(self._full(checked_name(name)), what, do)

    def _full(self, name: str) -> str:
        return f"{self._prefix}/{name}".lstrip("/")

    def _key(self, name: str) -> dict[str, object]:
        folder, _, base = self._full(checked_name(name)).rpartition("/")
        return {"folder": folder, "name": base}

    def _check(self, name: str, found: str, wanted: str) -> None:
        if found != wanted:
            do = "Somebody changed the tables of the state; bring the database back from a backup, or delete the row"
            raise LocalError(f"the document {name} is damaged", where=self.where, do=do)

    def _told(self, name: str) -> Row | None:
        query = "SELECT version, size, digest FROM documents WHERE folder = :folder AND name = :name"
        rows = self._database.run(lambda on: on.rows(query, self._key(name)))
        return rows[0] if rows else None

    def _put(self, name: str, parts: Iterable[bytes], size: int, digest: str, expected: str | None) -> bool:
        """Write what has a size and digest; expected: see ``replace``, None where any version may be there."""
        if size > MOST_BYTES:
            raise too_large(name, MOST_BYTES, self.where)
        version = uuid.uuid4().hex
        values = {**self._key(name), "version": version, "size": size, "digest": digest}
        waiting: list[dict[str, object]] = []
        for number, content in enumerate(parts):
            waiting.append({"version": version, "number": number, "content": content})
            if len(waiting) == SENT_AT_ONCE and size > SENT_AT_ONCE * PART_BYTES:
                self._database.run(partial(_put_parts, parts=tuple(waiting)))
                waiting.clear()
        done = self._database.run(lambda on: self._name(on, waiting, values, expected))
        if size > SENT_AT_ONCE * PART_BYTES:
            self._database.run(_drop_orphans)
        return done

    def _name(
        self, on: Transaction, waiting: list[dict[str, object]], values: dict[str, object], expected: str | None
    ) -> bool:
        """The last parts, and the row that names them all; the parts of the content before go."""
        self._guard(on)
        before = _version_of(on, values)
        if before == values["version"]:
            return True  # an earlier try was kept, and only its answer was lost
        if expected is not None and before != expected:
            on.change("DELETE FROM documents_parts WHERE version = :version", values)
            return False
        if waiting:
            _put_parts(on, waiting)
        if before:
            on.change(_UPDATE, values)
            on.change("DELETE FROM documents_parts WHERE version = :version", {"version": before})
            return True
        if on.change(f"{_INSERT} ON CONFLICT (folder, name) DO NOTHING", values):
            return True
        if expected is not None:  # another one was first with it
            on.change("DELETE FROM documents_parts WHERE version = :version", values)
            return False
        before = _version_of(on, values)
        on.change(_UPDATE, values)
        on.change("DELETE FROM documents_parts WHERE version = :version", {"version": before})
        return True

    def _remove(self, on: Transaction, name: str, expected: str | None) -> bool:
        self._guard(on)
        key = self._key(name)
        before = _version_of(on, key)
        if not before:
            return True
        if expected is not None and before != expected:
            return False
        on.change("DELETE FROM documents WHERE folder = :folder AND name = :name", key)
        on.change("DELETE FROM documents_parts WHERE version = :version", {"version": before})
        return True

    def _copy(self, told: Mapping[str, Row], folder: Path) -> bool:
        """Bring one version of each here; False where one is no more."""
        made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        with scratch_folder(made):
            for name, row in told.items():
                if not self._fetch(name, row, made / name.rpartition("/")[2]):
                    return False
            with suppress(OSError):  # another thread was first
                made.rename(folder)
        _drop_copies(folder)
        return folder.exists()

    def _fetch(self, name: str, row: Row, path: Path) -> bool:
        digest, count = hashlib.sha256(), -(-row["size"] // PART_BYTES)
        with local_errors(path), path.open("wb") as file:
            for first in range(0, count, SENT_AT_ONCE):
                parts = self._database.run(partial(_some_parts, version=row["version"], first=first))
                if len(parts) != min(SENT_AT_ONCE, count - first):
                    return False
                for content in parts:
                    digest.update(content)
                    file.write(content)
        self._check(name, digest.hexdigest(), row["digest"])
        return True


def _put_parts(on: Transaction, parts: Sequence[Mapping[str, object]]) -> None:
    on.change(_PUT_PART, *parts)


def _some_parts(on: Transaction, *, version: str, first: int) -> list[bytes]:
    rows = on.rows(
        "SELECT content FROM documents_parts WHERE version = :version AND number >= :first AND number < :end "
        "ORDER BY number",
        {"version": version, "first": first, "end": first + SENT_AT_ONCE},
    )
    return [bytes(row["content"]) for row in rows]


def _rows(on: Transaction, *, values: Mapping[str, object]) -> Sequence[Row]:
    return on.rows(_READ_ALL, values)


def _pieces(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    return (bytes(view[start : start + PART_BYTES]) for start in range(0, len(content), PART_BYTES))


def _version_of(on: Transaction, key: Mapping[str, object]) -> str:
    query = "SELECT version FROM documents WHERE folder = :folder AND name = :name FOR UPDATE"
    rows = on.rows(query, key)
    return str(rows[0]["version"]) if rows else ""


def _drop_orphans(on: Transaction) -> int:
    return on.change(
        "DELETE FROM documents_parts p WHERE p.written < clock() - :age AND NOT EXISTS "
        "(SELECT 1 FROM documents d WHERE d.version = p.version)",
        {"age": ORPHANS_S},
    )


def _drop_copies(newest: Path) -> None:
    """Remove copies of older versions that nobody is about to open any more."""
    with suppress(OSError):
        for each in newest.parent.iterdir():
            if each != newest and each.stat().st_mtime < time.time() - COPIES_S:
                shutil.rmtree(each, ignore_errors=True)


__all__ = ["TABLES", "StoredDocuments"]
