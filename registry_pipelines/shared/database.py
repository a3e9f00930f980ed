"""A database by its tables: SQLite in a state folder, by Python's own module, or Postgres for many workers.

Statements are plain SQL with named parameters (``:name``), in words that both understand. ``clock()`` in one is the
database's own time, in seconds since 1970: clocks of workers differ.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from registry_pipelines.errors import LocalError, ToolMissing
from registry_pipelines.versions import claim_file

BUSY_TIMEOUT_S = 60.0
"""How long a SQLite file that another process has locked is waited for."""
BUSY_PAUSE_S = 0.01
"""Between two tries to open a database that another process is just making; that takes some milliseconds."""

ALIVE = """NOT ended AND GREATEST(seen, EXTRACT(EPOCH FROM pg_postmaster_start_time())::float8) + silence_s > clock()"""
"""Whether a row of ``members`` (see ``membership``) is a living worker's; Postgres alone. While the server itself was
down nobody could say that he lives."""

Row = Mapping[str, Any]
T = TypeVar("T")


class Tables(NamedTuple):
    """The tables of one room. room: its name, ``[a-z_]+``, which their names begin with. statements: they make what is
    missing (``CREATE ... IF NOT EXISTS``). version: of a SQLite file; that of all tables of a server is
    :data:`~registry_pipelines.shared.membership.LAYOUT`."""

    room: str
    statements: Sequence[str]
    version: int = 1


class Transaction(Protocol):
    """What is done in it is kept wholly or not at all."""

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        """What a SELECT finds, or another statement's RETURNING."""
        ...

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        """Run a statement once for each of the values; how many rows it changed."""
        ...


class Database(Protocol):
    """SQLite or a server. Safe to use from many threads. Raises LocalError for any error of the database; its text has
    no parameters: upload addresses can be secrets."""

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True, probe: bool = False) -> T:
        """The answer of ``act``, done in one transaction; on a server perhaps twice, where nobody knows whether the
        first was kept. patient: False waits for no server. probe: it is asked though an outage was just given up."""
        ...

    def make(self, tables: Tables) -> None:
        """Create what is missing of a room's tables; once for each room and process."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def open_file(path: Path, tables: Tables, *, what: str = "the transfer journal") -> Database:
    """A SQLite file with the tables of one room. what: as people are told. A file without a version has those, or none.
    Raises LocalError, StateTooNew (then nothing was changed)."""
    return _File(path, tables, what)


def open_server(url: str, *, patient: bool = True) -> Database:
    """A database of Postgres, which is asked before this returns. url: as ``shared.database``. patient: one that does
    not answer is waited for. See :class:`~registry_pipelines.shared.server.Server` for what it raises; ToolMissing
    without the driver."""
    try:
        from registry_pipelines.shared.server import Server
    except ImportError as error:
        raise ToolMissing(
            f"the database driver {error.name or error} cannot be loaded",
            where="shared.database",
            do="Install registry-pipelines with the extra `postgres`",
        ) from error
    return Server(url, patient=patient)


class _File:
    """One connection: SQLite writes one transaction after the other anyway, and threads wait better for a lock than for
    a busy file, which is asked again and again."""

    def __init__(self, path: Path, tables: Tables, what: str) -> None:
        self._lock = threading.Lock()
        self._what = what
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.create_function("clock", 0, time.time)
            claim_file(self._connection, tables.version, what=what, path=path)
            _prepare(self._connection)
            with self._connection:
                for statement in tables.statements:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {tables.version}")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True, probe: bool = False) -> T:
        try:
            with self._lock, self._connection:
                return act(self)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def make(self, tables: Tables) -> None:
        self.run(lambda database: [database.change(each, {}) for each in tables.statements])

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        return self._connection.executemany(statement, values).rowcount

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _unusable(self, error: sqlite3.Error) -> LocalError:
        return LocalError(
            f"{self._what} cannot be used: {error}",
            where="state folder",
            do="Check that the folder is writable and has space; deleting transfers.sqlite* loses only resume points",
        )


def _prepare(connection: sqlite3.Connection) -> None:
    """Set the mode. SQLite's own time-out does not hold while another process goes over to the write-ahead log: then
    this fails at once, and of several copies that start together one would fail."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_PAUSE_S)
    connection.execute("PRAGMA synchronous=FULL").close()
