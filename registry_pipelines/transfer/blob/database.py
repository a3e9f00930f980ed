"""The database behind a journal: SQLite in the state folder, by Python's own module, or a server for many machines.

Statements are plain SQL with named parameters (``:name``), in words that both understand.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from registry_pipelines.errors import LocalError, ToolMissing
from registry_pipelines.versions import claim_file

BUSY_TIMEOUT_S = 60.0
"""How long a SQLite file that another process has locked is waited for."""
BUSY_PAUSE_S = 0.01
"""Between two tries to open a database that another process is just making; that takes some milliseconds."""

FILE_URL = "sqlite:///"

Row = Mapping[str, Any]
T = TypeVar("T")


class Transaction(Protocol):
    """What is done in it is kept wholly or not at all."""

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        """What a SELECT finds."""
        ...

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        """Run a statement once for each of the values; how many rows it changed."""
        ...


class Database(Protocol):
    """Where a journal keeps its tables: SQLite or a server's. Safe to use from many threads. Raises LocalError for any
    error of the database; its text has no parameters: upload addresses can be secrets."""

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True) -> T:
        """The answer of ``act``, done in one transaction. patient: False waits for no server."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def open_database(url: str, tables: Sequence[str], version: int) -> Database:
    """Connect, and run the statements that create what is missing. url: ``sqlite:///PATH``, or a server's; see
    :class:`~registry_pipelines.transfer.blob.server.Server` for what that raises. version: of the tables; a database
    without one has them, or none. Raises ToolMissing (no driver), LocalError, StateTooNew (then nothing was
    changed)."""
    if url.startswith(FILE_URL):
        return _File(Path(url.removeprefix(FILE_URL)), tables, version)
    try:
        from registry_pipelines.transfer.blob.server import Server
    except ImportError as error:
        raise ToolMissing(
            f"the database driver {error.name or error} cannot be loaded",
            where="journal",
            do="Install registry-pipelines with the extra `postgres`",
        ) from error
    return Server(url, tables, version)


class _File:
    """One connection: SQLite writes one transaction after the other anyway, and threads wait better for a lock than for
    a busy file, which is asked again and again."""

    def __init__(self, path: Path, tables: Sequence[str], version: int) -> None:
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            claim_file(self._connection, version, what="the transfer journal", path=path)
            _prepare(self._connection)
            with self._connection:
                for statement in tables:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {version}")
        except sqlite3.Error as error:
            raise _unusable(error) from error

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True) -> T:
        try:
            with self._lock, self._connection:
                return act(self)
        except sqlite3.Error as error:
            raise _unusable(error) from error

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        return self._connection.executemany(statement, values).rowcount

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _unusable(error: sqlite3.Error) -> LocalError:
    return LocalError(
        f"the transfer journal cannot be used: {error}",
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
