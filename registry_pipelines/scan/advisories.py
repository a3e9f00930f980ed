"""The advisory store: OSV records from a folder, a tar or a zip, indexed once into SQLite and then only read.

A store is named by the digest of its source's content, so a changed source makes a new store and an unchanged one
costs a hash. Records that could not be read are kept with the reason: a report made with such a store says so.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from registry_pipelines.errors import AdvisoriesMissing, AdvisoriesTooOld, DiskFull, LayerInvalid, LocalError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import replaced
from registry_pipelines.oci.layer.tar_bytes import LayerLimits
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.progress import count_text
from registry_pipelines.scan.advisory_sets import describe, root_of
from registry_pipelines.scan.osv import MAX_RECORD_BYTES, Form, Record, RecordInvalid, read_record
from registry_pipelines.scan.report import AdvisoryFacts
from registry_pipelines.scan.versions import DERIVED, normal_name, spoken_of

STORE_FORMAT = 5
"""Part of a store's file name; raised when its tables or the reading of records change."""

MAX_RECORDS = 5_000_000
"""All of OSV has about a tenth of this."""

MAX_SOURCE_BYTES = 64 * 1024**3
"""Unpacked; all of OSV has about 5 GB."""

CLOCK_TOLERANCE = timedelta(days=1)
"""A newest record from further in the future cannot be true, and would keep the data young for ever."""

_SUFFIXES = (".json", ".yaml", ".yml")
_RUSTSEC = re.compile(r"(?:\A|/)RUSTSEC-[0-9]{4}-[0-9]{4,6}\.md\Z")
"""Other Markdown is documentation."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE record (number INTEGER PRIMARY KEY, id TEXT NOT NULL, modified TEXT NOT NULL, document BLOB NOT NULL);
CREATE TABLE affects (ecosystem TEXT, name TEXT, number INTEGER, PRIMARY KEY (ecosystem, name, number)) WITHOUT ROWID;
CREATE TABLE problem (subject TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE ecosystem (name TEXT PRIMARY KEY, records INTEGER NOT NULL, newest TEXT NOT NULL) WITHOUT ROWID;
"""


_ONLY_NEWEST = """
CREATE INDEX by_id ON record (id, modified);
DELETE FROM affects WHERE number IN (
    SELECT older.number FROM record AS older JOIN record AS newer USING (id) WHERE older.modified < newer.modified
);
DROP INDEX by_id;
"""
"""Two feeds may hold one record, and one of them an earlier edition: what its publisher corrected or withdrew since."""


@dataclass(frozen=True)
class UnreadableRecord:
    """A file of the source that is not a readable record."""

    subject: str
    """Its path in the source."""
    reason: str


@dataclass(frozen=True)
class EcosystemFacts:
    """What a source holds about one ecosystem. Withdrawn records count: they too show that somebody looks after it."""

    records: int
    newest: str
    """``modified`` of the newest record, RFC 3339, UTC."""


class AdvisoryStore:
    """Advisories by package, read-only; safe to use from many threads. Made by :meth:`load`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            meta = dict(self._connection.execute("SELECT name, value FROM meta"))
            self.facts = msgspec.json.decode(
                meta["facts"], type=ready(AdvisoryFacts), dec_hook=lambda kind, text: kind(text)
            )
            self.ecosystems: dict[str, EcosystemFacts] = {
                name: EcosystemFacts(records, newest)
                for name, records, newest in self._connection.execute("SELECT * FROM ecosystem")
            }
            self.problems = [UnreadableRecord(*row) for row in self._connection.execute("SELECT * FROM problem")]
        except (sqlite3.Error, KeyError, msgspec.MsgspecError) as error:
            raise AdvisoriesMissing(
                f"the advisory store cannot be read: {error}", where=path.name, do="Delete the file; it is made again"
            ) from error

    @classmethod
    def load(cls, source: Path, state: Path) -> AdvisoryStore:
        """The store of a source: a tar (plain, gzip, zstd) or zip with ``.json`` and ``.yaml`` files, a folder of such
        files and archives, or a set (``advisory_sets``), whose digest must be right and which is as new as its oldest
        part.

        state: the state folder; stores live in ``advisories/`` below it. Raises AdvisoriesMissing: no such source, not
        an archive, truncated, or without any record; DiskFull, LocalError: the state folder.
        """
        digest = _source_digest(source)
        described = describe(source)
        if described is not None and described.digest != digest:
            raise AdvisoriesMissing(
                f"the advisory set has the digest {digest}, it had {described.digest}",
                where=source.name,
                do="Run `registry-pipelines advisories update`, or import a set again",
            )
        store = cls._indexed(source, state, digest)
        if described is not None:
            newest = min(described.newest, store.facts.newest)
            store.facts = msgspec.structs.replace(store.facts, newest=newest, source=source.name)
        return store

    @classmethod
    def _indexed(cls, source: Path, state: Path, digest: Digest) -> AdvisoryStore:
        path = root_of(state) / f"{digest.hex}.v{STORE_FORMAT}.sqlite"
        if path.exists():
            try:
                return cls(path)
            except AdvisoriesMissing:
                path.unlink(missing_ok=True)
        with replaced(path) as temporary:
            _build(source, digest, temporary)
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def covers(self, ecosystem: str) -> bool:
        """Whether there are records about this ecosystem: for a distribution, about this very release. Derived ones do
        not count: of what nobody has mended they say nothing."""
        return any(
            name in self.ecosystems
            for name in spoken_of(ecosystem)
            if (":" in name or ":" not in ecosystem) and not name.startswith(DERIVED)
        )

    def speaks_of(self, ecosystem: str) -> bool:
        """The same, derived records included."""
        derived = (name for name in spoken_of(ecosystem) if name.startswith(DERIVED))
        return self.covers(ecosystem) or any(name in self.ecosystems for name in derived)

    def about(self, ecosystem: str, name: str) -> list[Record]:
        """Every record about a package that is not withdrawn, by id, under every name of its ecosystem. Raises
        AdvisoriesMissing when the file fails."""
        try:
            records = [msgspec.json.decode(raw, type=ready(Record)) for raw in self._rows(ecosystem, name)]
        except msgspec.MsgspecError as error:
            raise self._unusable(error) from error
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [record for record in records if not (record.withdrawn and record.withdrawn <= now)]

    def documents(self, ecosystem: str, name: str) -> list[bytes]:
        """What :meth:`about` reads, as bytes that are equal where it answers the same. Raises the same."""
        rows = self._rows(ecosystem, name)
        if any(b'"withdrawn":"' in raw for raw in rows):  # what it says depends on today
            return [msgspec.json.encode(record) for record in self.about(ecosystem, name)]
        return rows

    def _rows(self, ecosystem: str, name: str) -> list[bytes]:
        question = (
            "SELECT number, id, document FROM record JOIN affects USING (number) WHERE ecosystem = ? AND name = ?"
        )
        try:
            with self._lock:
                rows = {
                    (row[1], row[0]): row[2]
                    for spelling in spoken_of(ecosystem)
                    if spelling in self.ecosystems
                    for row in self._connection.execute(question, (spelling, normal_name(ecosystem, name)))
                }
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return [rows[key] for key in sorted(rows)]

    def _unusable(self, error: Exception) -> AdvisoriesMissing:
        return AdvisoriesMissing(f"the advisory store cannot be read: {error}", where=self._path.name)

    def require_younger(self, max_age_days: int, now: datetime) -> None:
        """Raise AdvisoriesTooOld when the newest record is older than that at ``now`` (aware), or of the future."""
        newest = datetime.fromisoformat(self.facts.newest)
        age = now - newest
        if age < -CLOCK_TOLERANCE:
            raise AdvisoriesTooOld(
                f"the newest advisory is dated {self.facts.newest}, in the future: the data's age cannot be known",
                where=self.facts.source,
                do="Correct this machine's clock, or fetch the advisories again",
            )
        if age > timedelta(days=max_age_days):
            raise AdvisoriesTooOld(
                f"the newest advisory is of {self.facts.newest}, {count_text(age.days, 'day')} old; "
                f"{max_age_days} are permitted",
                where=self.facts.source,
                do="Fetch newer advisories, or let the policy accept older ones by name",
            )


def _missing(source: Path, reason: str) -> AdvisoriesMissing:
    return AdvisoriesMissing(
        f"the advisories cannot be read: {reason}",
        where=source.name,
        do="Name a folder, a tar or a zip of OSV records in the configuration (advisories.source)",
    )


def _source_digest(source: Path) -> Digest:
    """A file's sha256; for a folder that of the sorted list of names and hashes."""
    try:
        if not source.is_dir():
            with source.open("rb") as stream:
                return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
        whole = hashlib.sha256()
        for path in _record_paths(source):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            whole.update(f"{content} {path.relative_to(source).as_posix()!r}\n".encode())
        return Digest(f"sha256:{whole.hexdigest()}")
    except OSError as error:
        raise _missing(source, error.strerror or str(error)) from error


def _record_paths(source: Path) -> list[Path]:
    """Records and archives of records; hidden folders (``.git``, ``.github``) are not looked into."""
    return sorted(
        path
        for path in source.rglob("*")
        if _is_visible(path.relative_to(source).as_posix(), (*_SUFFIXES, *_ARCHIVES)) and path.is_file()
    )


def _is_visible(name: str, suffixes: tuple[str, ...] = _SUFFIXES) -> bool:
    shown = name.endswith(suffixes) or _RUSTSEC.search(name)
    return bool(shown) and not any(part.startswith(".") for part in name.split("/"))


def _form(name: str) -> Form:
    return "json" if name.endswith(".json") else "markdown" if name.endswith(".md") else "yaml"


def _documents(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every record; content beyond the limit is cut one byte later, so that it is refused."""
    if not source.is_dir():
        yield from _archive_documents(source)
        return
    for path in _record_paths(source):
        name = path.relative_to(source).as_posix()
        if name.endswith(_ARCHIVES):
            yield from ((f"{name}/{inner}", raw) for inner, raw in _archive_documents(path))
            continue
        with path.open("rb") as stream:
            yield name, stream.read(MAX_RECORD_BYTES + 1)


def _archive_documents(source: Path) -> Iterator[tuple[str, bytes]]:
    if not zipfile.is_zipfile(source):
        yield from _tar_documents(source)
        return
    with zipfile.ZipFile(source) as archive:
        for name in sorted(filter(_is_visible, archive.namelist())):
            with archive.open(name) as member:
                yield name, member.read(MAX_RECORD_BYTES + 1)


def _tar_documents(source: Path) -> Iterator[tuple[str, bytes]]:
    with source.open("rb", buffering=0) as stream:
        walk = open_layer(stream, OCI_LAYER, where=source.name, limits=LayerLimits(max_bytes=MAX_SOURCE_BYTES))
        for entry in walk:
            if entry.kind == "file" and _is_visible(entry.name):
                yield entry.name, entry.head(MAX_RECORD_BYTES + 1)
        if not walk.finish().terminated:
            raise _missing(source, "the tar has no end: it is truncated")


def _build(source: Path, digest: Digest, target: Path) -> None:
    try:
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = FULL;" + _TABLES)
            facts = _fill(connection, source, digest)
            connection.execute(
                "INSERT INTO meta VALUES ('facts', ?)", (msgspec.json.encode(facts, enc_hook=str).decode(),)
            )
            connection.commit()
    except (
        OSError,
        LayerInvalid,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        # zipfile raises NotImplementedError for unknown compression and RuntimeError for encrypted members.
        raise _missing(source, str(error)) from error
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise DiskFull(
                "no space is left for the advisory store", where=str(target.parent), do="Free space"
            ) from error
        raise LocalError(f"the advisory store cannot be written: {error}", where=str(target.parent)) from error


def _fill(connection: sqlite3.Connection, source: Path, digest: Digest) -> AdvisoryFacts:
    newest, count, unreadable = "", 0, 0
    ecosystems: dict[str, tuple[int, str]] = {}
    for name, raw in _documents(source):
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        try:
            record = read_record(raw, form=_form(name))
        except RecordInvalid as error:
            unreadable += 1
            connection.execute("INSERT INTO problem VALUES (?, ?)", (shown, str(error)))
            continue
        count += 1
        if count > MAX_RECORDS:
            raise _missing(source, f"there are more than {MAX_RECORDS} records")
        newest = max(newest, record.modified)
        row = (count, record.id, record.modified, msgspec.json.encode(record))
        connection.execute("INSERT INTO record VALUES (?, ?, ?, ?)", row)
        packages = {(entry.package.ecosystem, entry.package.name) for entry in record.affected or () if entry.package}
        connection.executemany(
            "INSERT OR IGNORE INTO affects VALUES (?, ?, ?)",
            [(ecosystem, normal_name(ecosystem, package), count) for ecosystem, package in sorted(packages)],
        )
        for ecosystem in {ecosystem for ecosystem, _ in packages}:
            records, latest = ecosystems.get(ecosystem, (0, ""))
            ecosystems[ecosystem] = (records + 1, max(latest, record.modified))
    rows = [(name, records, latest) for name, (records, latest) in sorted(ecosystems.items())]
    connection.executemany("INSERT INTO ecosystem VALUES (?, ?, ?)", rows)
    connection.executescript(_ONLY_NEWEST)
    if not count:
        raise _missing(source, "there is no readable OSV record in it")
    return AdvisoryFacts(digest=digest, newest=newest, records=count, source=source.name, unreadable=unreadable)
