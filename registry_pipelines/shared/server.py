"""A database on a Postgres server, for many workers, through psycopg. Its errors become ours.

Connections are pooled here: psycopg's own pool makes them in threads of its own and tells whoever waits for one only
that it took too long, not that the password is wrong. Loading psycopg takes 0.20 s of processor time and 220 modules;
with SQLAlchemy above it, which served before, it was 0.48 s and 330.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.redacting import redact_text
from registry_pipelines.shared.database import Row, T, Tables, Transaction
from registry_pipelines.shared.settings import DATABASE
from registry_pipelines.waits import Wait

CONNECTION_TIMEOUT_S = 60.0
"""How long a connection that another thread uses is waited for."""
CONNECTIONS = 8
"""Of each process; threads take turns, a statement lasts milliseconds. A server takes 100 unless told, so
that twelve workers fit."""

SURE_S = 5.0
"""For so long after its last use a connection is taken to be there."""

IDLE_S = 60.0
"""After so long without use a connection is closed: a hundred workers that once had eight need not keep them."""

_POSTGRES: dict[str, str | int] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 60_000,
    "target_session_attrs": "read-write",
}
"""Seconds to connect, seconds of silence before the server is asked whether it lives, milliseconds until a lost link
counts as broken. libpq's own answers are: for ever, two hours, a quarter of an hour. Of several servers
that the URL names the one that may be written; a standby is no answer. The URL's query overrides them."""

OUTAGE_S = 60.0
"""How long a server that went away in mid-run is waited for: a restart lasts seconds, a failover to a standby about
half a minute. Registries keep an upload open longer than that."""
START_S = 20.0
"""How long one is waited for that was not there yet: what is started together with it, as by compose, comes up first;
and a wrong address should not take a minute to tell."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Between two tries; a server that comes back is found within this."""
QUIET_S = 10.0
"""After an outage was given up, nobody asks again for so long: each try may last ten seconds, and there may be
thousands of blobs."""

_DATABASE, _SILENT = "the shared database", "it does not answer"
"""What is waited for and why, as people are told."""

TABLE_LOCK = 0x72_70_6A_6F_75_72_6E
"""Postgres' CREATE TABLE IF NOT EXISTS fails when two sessions run it at once; whoever holds this lock is alone."""


class _Outage:
    """The time in which a server does not answer; one for all threads, so that a lasting one is waited for once."""

    def __init__(self) -> None:
        self._since = self._gave_up_at = 0.0
        self._error: psycopg.Error | None = None
        self._lock = threading.Lock()

    def given_up(self) -> psycopg.Error | None:
        """Why nobody should ask just now."""
        with self._lock:
            return self._error if time.monotonic() - self._gave_up_at < QUIET_S else None

    def wait(self, error: psycopg.Error, first_at: float, most_s: float) -> bool:
        """Pause before the next try; False when it has lasted most_s. first_at: when this act failed first; it ends
        also what fails always, while others are answered."""
        now = time.monotonic()
        with self._lock:
            self._since = since = self._since or now
            if now - since >= most_s:
                self._error, self._gave_up_at = error, now
                return False
        if now - first_at >= most_s:
            return False
        # A tenth of what it has lasted: quick after a restart, seldom in a long outage.
        pause_s = min(max(FIRST_PAUSE_S, (now - since) / 10), LONGEST_PAUSE_S)
        with Wait(_DATABASE, _SILENT, since, most_s):
            time.sleep(pause_s)
        return True

    def over(self) -> None:
        """The server answered."""
        if self._since or self._error:
            with self._lock:
                self._since, self._error = 0.0, None


_LASTING = re.compile(
    r"authentication failed|no password supplied|role \".*\" does not exist|database \".*\" does not exist"
    r"|no pg_hba\.conf entry|does not support SSL|certificate|invalid (connection option|integer value)"
)
"""Words of libpq and Postgres (English unless its host says otherwise) for what does not pass by itself."""


def _may_pass(error: psycopg.Error) -> bool:
    """Whether it is the server's state and not the statement: a connection that is lost or refused, a server that
    starts or stops (57P01 to 57P03) or became a standby (25006), too many connections, a deadlock. Not what a person
    has to mend: a password (28...), a database that does not exist (3D000); the error of a connection has no code, only
    words."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return True
    return isinstance(error, psycopg.OperationalError) and not _LASTING.search(str(error))


_Connection = psycopg.Connection[DictRow]


class _Connections:
    """At most CONNECTIONS to one server, each used by one thread at a time."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._free = threading.Semaphore(CONNECTIONS)
        self._idle: list[tuple[_Connection, float]] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[_Connection]:
        """A connection with an open transaction: kept at the end, undone on any error. Raises psycopg.Error."""
        if not self._free.acquire(timeout=CONNECTION_TIMEOUT_S):
            raise psycopg.OperationalError(f"{CONNECTIONS} connections are in use for {CONNECTION_TIMEOUT_S:.0f} s")
        try:
            connection = self._alive() or self._open()
            try:
                with connection.transaction():
                    yield connection
            except psycopg.errors.ReadOnlySqlTransaction:  # another server is to be found
                connection.close()
                self._end_idle()
                raise
            except psycopg.OperationalError:
                if connection.closed:  # by a server that stopped: so are the others
                    self._end_idle()
                raise
            finally:
                self._put_back(connection)
        finally:
            self._free.release()

    def _open(self) -> _Connection:
        """A new one. Nothing is prepared on the server: behind PgBouncer in transaction mode the next transaction may
        be another server's, which knows no such statement, or one of that name that is somebody else's. Statements of
        ours wait for a row and take what it is then, whatever the role or the database has as its usual isolation."""
        connection = psycopg.connect(self._address, autocommit=True, row_factory=dict_row, prepare_threshold=None)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def _alive(self) -> _Connection | None:
        """An open one. After a silence it is asked before use: a firewall cuts those that say nothing during a long
        copy."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, used_at = self._idle.pop()
            if time.monotonic() - used_at < SURE_S:
                return connection
            try:
                connection.execute("SELECT 1")
            except psycopg.Error:
                connection.close()
            else:
                return connection

    def _put_back(self, connection: _Connection) -> None:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()  # a signal stopped us, as when a run is cancelled, and the server is still at it
        now = time.monotonic()
        with self._lock:
            unused = [each for each, used_at in self._idle if used_at < now - IDLE_S]
            self._idle = self._idle[len(unused) :]  # the last used is taken first, so that these are at the front
            if self._closed or connection.closed:
                unused.append(connection)
            else:
                self._idle.append((connection, now))
        for each in unused:
            each.close()

    def close(self) -> None:
        """Close all; those in use when they come back."""
        self._closed = True
        self._end_idle()

    def _end_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()


class Server:
    """A Database on a Postgres server. url: ``postgresql://`` or ``postgres://``, as libpq reads it.

    It is asked before this returns; one that does not answer is waited for as in mid-run, but not what cannot pass by
    itself: a wrong password, a database that does not exist. patient: False for who asks only whether it answers.
    Raises InputError (the URL cannot be read), LocalError (any error of the database). No text of these, nor of what
    caused them, has the password or a statement's parameters: upload addresses can be secrets.
    """

    def __init__(self, url: str, *, patient: bool = True) -> None:
        """Connect."""
        address = _address(url)
        self._outage = _Outage()
        self._answered = False
        self.where = _shown(address)
        self._connections = _Connections(make_conninfo("", **address))
        self._made: set[str] = set()
        self._making = threading.Lock()
        try:
            self.run(lambda database: database.rows("SELECT 1", {}), patient=patient)
        except BaseException:
            self.close()
            raise

    def run(self, act: Callable[[Transaction], T], *, patient: bool = True, probe: bool = False) -> T:
        """See Database.

        A server that went away is waited for, and the act is done again. Nobody knows whether a transaction was kept
        whose commit was not answered, so an act must come to the same when it is done twice.
        """
        if not probe and (given_up := self._outage.given_up()) is not None:
            raise self._unusable(given_up) from given_up
        first_at = 0.0
        while True:
            try:
                # A server that hangs, as when its own disk does, is told of, too; nobody knows how long that lasts.
                with Wait(_DATABASE, _SILENT), self._connections.transaction() as connection:
                    answer = act(_Transaction(connection))
            except psycopg.Error as error:
                first_at = first_at or time.monotonic()
                most_s = OUTAGE_S if self._answered else START_S
                if not (patient and _may_pass(error) and self._outage.wait(error, first_at, most_s)):
                    raise self._unusable(error) from error
            else:
                self._outage.over()
                self._answered = True
                return answer

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def make(self, tables: Tables) -> None:
        """See Database. Several processes may start at once, so the database itself is asked to skip what exists."""
        with self._making:
            if tables.room in self._made:
                return

            def create(database: Transaction) -> None:
                database.rows("SELECT pg_advisory_xact_lock(:lock)", {"lock": TABLE_LOCK})
                for statement in tables.statements:
                    database.change(statement, {})

            self.run(create)
            self._made.add(tables.room)

    def _unusable(self, error: psycopg.Error) -> LocalError:
        cause = " ".join(redact_text(str(error) or type(error).__name__).split()).rstrip(".?")
        return LocalError(
            f"the shared database cannot be used: {cause}",
            where=self.where,
            do=_what_to_do(error),
        )


def _what_to_do(error: psycopg.Error) -> str:
    if "root certificate file" in str(error):
        return "Add sslrootcert=FILE to the address, with the certificate of whoever signed the server's"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "Let the role of `shared.database` own the database, or grant it CREATE on its schema, and its tables"
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:  # nobody was asked
        return "Correct the address in `shared.database`, or in REGISTRY_PIPELINES_DATABASE"
    if isinstance(error, psycopg.ProgrammingError):
        return "The tables are another program's, or were changed: give the workers a database of their own"
    if isinstance(error, psycopg.errors.DiskFull):
        return "Free space on the server; the same call then goes on"
    return "Check that the server runs, and what `shared.database` says of it; the same call then goes on"


class _Transaction:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        return self._connection.execute(_query(statement), values).fetchall()

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        if len(values) == 1:
            return self._connection.execute(_query(statement), values[0]).rowcount
        with self._connection.cursor() as cursor:
            cursor.executemany(_query(statement), values)
            return cursor.rowcount


_CLOCK = "EXTRACT(EPOCH FROM clock_timestamp())::float8"


@functools.cache
def _query(statement: str) -> str:
    """A statement of ours, with psycopg's form of named parameters, and Postgres' clock."""
    return re.sub(r"(?<!:):(\w+)", r"%(\1)s", statement.replace("%", "%%")).replace("clock()", _CLOCK)


def _address(url: str) -> dict[str, str | int]:
    """What libpq connects with. A parser's own error is not kept as the cause: it quotes what may be a piece of the
    password."""
    try:
        if url.count("@") > 1 or not re.match(r"postgres(ql)?(\+psycopg)?://", url):
            raise ValueError
        given = conninfo_to_dict(url.replace("+psycopg", "", 1))
        if not all(port.isdecimal() for port in str(given.get("port", 1)).split(",")):
            raise ValueError
    except (psycopg.Error, ValueError):
        raise InputError(
            "the URL of the shared database cannot be read",
            do=f"{DATABASE.do[0].upper()}{DATABASE.do[1:]}",
        ) from None
    return {**_POSTGRES, **{name: value for name, value in given.items() if value is not None}}


def _shown(address: Mapping[str, str | int]) -> str:
    """Where the database is, without who asks."""
    port = f":{address['port']}" if "port" in address else ""
    return f"postgresql://{address.get('host', 'localhost')}{port}/{address.get('dbname', '')}"
