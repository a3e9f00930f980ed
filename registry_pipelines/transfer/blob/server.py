"""A database server behind a journal: Postgres, for many machines, through SQLAlchemy. Its errors become ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.registry.protocol import redact_text, redact_url
from registry_pipelines.transfer.blob.database import Row, T, Transaction
from registry_pipelines.versions import check_version
from registry_pipelines.waits import Wait

CONNECTION_TIMEOUT_S = 60.0
"""How long a connection that another thread uses is waited for."""
CONNECTIONS = 8
"""Of each process; threads take turns, a statement lasts milliseconds. A server takes 100 unless told, so
that twelve workers fit."""

_POSTGRES = {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "60000"}
"""Seconds to connect, seconds of silence before the server is asked whether it lives, milliseconds until a lost link
counts as broken. libpq's own answers are: for ever, two hours, a quarter of an hour. The URL's query overrides them."""

OUTAGE_S = 60.0
"""How long a server that went away in mid-run is waited for: a restart lasts seconds, a failover to a standby about
half a minute. Registries keep an upload open longer than that."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Between two tries; a server that comes back is found within this."""
QUIET_S = 10.0
"""After an outage was given up, nobody asks again for so long: each try may last ten seconds, and there may be
thousands of blobs."""

_JOURNAL, _SILENT = "the transfer journal", "its database does not answer"
"""What is waited for and why, as people are told."""

_MEAN_PSYCOPG = ("postgresql", "postgres")
"""SQLAlchemy takes the first for another driver, and does not know the second."""

TABLE_LOCK = 0x72_70_6A_6F_75_72_6E
"""Postgres' CREATE TABLE IF NOT EXISTS fails when two sessions run it at once; whoever holds this lock is alone."""


_VERSIONS = "CREATE TABLE IF NOT EXISTS journal_version (version INTEGER NOT NULL)"


class _Outage:
    """The time in which a server does not answer; one for all threads, so that a lasting one is waited for once."""

    def __init__(self) -> None:
        self._since = self._gave_up_at = 0.0
        self._error: SQLAlchemyError | None = None
        self._lock = threading.Lock()

    def given_up(self) -> SQLAlchemyError | None:
        """Why nobody should ask just now."""
        with self._lock:
            return self._error if time.monotonic() - self._gave_up_at < QUIET_S else None

    def wait(self, error: SQLAlchemyError, first_at: float) -> bool:
        """Pause before the next try; False when it has lasted too long. first_at: when this act failed first; it ends
        also what fails always, while others are answered."""
        now = time.monotonic()
        with self._lock:
            self._since = since = self._since or now
            if now - since >= OUTAGE_S:
                self._error, self._gave_up_at = error, now
                return False
        if now - first_at >= OUTAGE_S:
            return False
        # A tenth of what it has lasted: quick after a restart, seldom in a long outage.
        pause_s = min(max(FIRST_PAUSE_S, (now - since) / 10), LONGEST_PAUSE_S)
        with Wait(_JOURNAL, _SILENT, since, OUTAGE_S):
            time.sleep(pause_s)
        return True

    def over(self) -> None:
        """The server answered."""
        if self._since or self._error:
            with self._lock:
                self._since, self._error = 0.0, None


def _may_pass(error: SQLAlchemyError) -> bool:
    """Whether it is the server's state and not the statement: a connection that is lost or refused, a server that
    starts or stops (57P01 to 57P03), too many connections, a deadlock."""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or isinstance(error, OperationalError | PoolTimeoutError)


class Server:
    """Implements Database. url: SQLAlchemy's; ``postgresql://`` and ``postgres://`` mean psycopg.

    Raises InputError (the URL cannot be read), ToolMissing (no driver), LocalError (any error of the database). No text
    of these, nor of what caused them, has the password or a statement's parameters: upload addresses can be secrets.
    """

    def __init__(self, url: str, tables: Sequence[str], version: int) -> None:
        """Connect, and create what tables are missing."""
        address = _address(url)
        self._outage = _Outage()
        self._where = redact_url(str(address))
        try:
            self._engine = _engine(address)
            self._create(tables, version)
        except SQLAlchemyError as error:
            raise self._unusable(error) from error
        except ImportError as error:
            raise ToolMissing(
                f"the database driver {error.name or error} cannot be loaded",
                where=self._where,
                do="Install registry-pipelines with the extra `postgres`",
            ) from error

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True) -> T:
        """See Database.

        A server that went away is waited for, and the act is done again. Nobody knows whether a transaction was kept
        whose commit was not answered, so an act must come to the same when it is done twice.
        """
        if (given_up := self._outage.given_up()) is not None:
            raise self._unusable(given_up) from given_up
        first_at = 0.0
        while True:
            try:
                # A server that hangs, as when its own disk does, is told of, too; nobody knows how long that lasts.
                with Wait(_JOURNAL, _SILENT), self._engine.begin() as connection:
                    answer = act(_Transaction(connection))
            except SQLAlchemyError as error:
                first_at = first_at or time.monotonic()
                if not (patient and _may_pass(error) and self._outage.wait(error, first_at)):
                    raise self._unusable(error) from error
            else:
                self._outage.over()
                return answer

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _create(self, tables: Sequence[str], version: int) -> None:
        """Several processes may start at once, so the database itself is asked to skip what exists. Tables without a
        version were made before there were any."""
        with self._engine.begin() as database:
            if database.dialect.name == "postgresql":
                database.execute(sql.select(sql.func.pg_advisory_xact_lock(TABLE_LOCK)))
            database.execute(sql.text(_VERSIONS))
            found = database.execute(sql.text("SELECT MAX(version) FROM journal_version")).scalar()
            if found is None:
                database.execute(sql.text("INSERT INTO journal_version VALUES (:version)"), {"version": version})
            else:
                check_version(found, version, what="the transfer journal", where=self._where)
            for statement in tables:
                database.execute(sql.text(statement))

    def _unusable(self, error: SQLAlchemyError) -> LocalError:
        cause = " ".join(redact_text(str(getattr(error, "orig", None) or type(error).__name__)).split()).rstrip(".?")
        return LocalError(
            f"the transfer journal cannot be used: {cause}",
            where=self._where,
            do="Check that the server runs, and what `journal` says of it; the same call then goes on",
        )


class _Transaction:
    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        return [dict(row) for row in self._connection.execute(sql.text(statement), values).mappings()]

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        given = values[0] if len(values) == 1 else list(values)  # of many, drivers do not count what changed
        return self._connection.execute(sql.text(statement), given).rowcount


def _address(url: str) -> sql.URL:
    """The parsed URL. A parser's own error is not kept as the cause: it quotes what may be a piece of the password."""
    try:
        if url.count("@") > 1:
            raise ValueError
        address = sql.make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(
            "the URL of the transfer journal cannot be read",
            do="Write postgresql://user:password@host/database; in a password @ is %40, : is %3A and / is %2F",
        ) from None
    return address.set(drivername="postgresql+psycopg") if address.drivername in _MEAN_PSYCOPG else address


def _engine(address: sql.URL) -> sql.Engine:
    """Connections are asked whether they live before use: a firewall cuts those that are silent during a long copy."""
    return sql.create_engine(
        address,
        connect_args={name: value for name, value in _POSTGRES.items() if name not in address.query},
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=CONNECTION_TIMEOUT_S,
        hide_parameters=True,
    )
