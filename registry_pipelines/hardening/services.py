"""What stands behind the workers: the broker of Celery, the database that they share."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import ssl
import urllib.parse
from collections.abc import Iterator

from registry_pipelines.errors import InputError, LocalError, RegistryPipelinesError
from registry_pipelines.hardening.model import Finding, broken, kept, unknown
from registry_pipelines.redacting import redact_url
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.shared.database import open_server
from registry_pipelines.shared.settings import HOST

TIMEOUT_S = 5.0
_ADDRESS = re.compile(rf"[a-z][a-z0-9+]*://([^/?#\s]*@)?({HOST}(,{HOST})*)?([/?][^@\s]*)?")
_ESCAPED = "in a password @ is %40, : is %3A, / is %2F, ? is %3F, # is %23 and % is %25"


def examine_broker(url: str) -> Iterator[Finding]:
    """Redis, as the workers' settings name it (``redis://``, ``rediss://``). Raises InputError."""
    parts, port = _read(url, "the broker", f"Write redis://:password@host:6379/0; {_ESCAPED}")
    where = _shown(url)
    host, tls = parts.hostname or "localhost", parts.scheme == "rediss"
    if parts.scheme not in ("redis", "rediss"):
        yield unknown("broker-password", where, "is no address of Redis", do="Look at it by hand")
        return
    if tls or is_loopback(host):
        yield kept("broker-tls", where, "in TLS" if tls else "on this machine")
    else:
        do = "Use rediss://, or a tunnel; what is written into the broker runs on the workers"
        yield broken("broker-tls", where, "its password and its messages travel as they are", do=do)
    try:
        said = _ping(host, port or 6379, tls)
    except (OSError, UnicodeError) as error:
        yield unknown("broker-password", where, f"no answer: {error}", do="Ask from where workers run")
        return
    if said.startswith(b"-NOAUTH"):
        yield kept("broker-password", where, "asks for its password")
    elif said.startswith((b"+PONG", b"-ERR", b"-DENIED")):
        do = "Set requirepass or an ACL, and let nobody but workers, daemon and webserver reach its port"
        if said.startswith(b"-DENIED"):
            yield kept("broker-password", where, "serves its own machine alone (protected mode)")
        else:
            yield broken("broker-password", where, "answers without a password", do=do)
    else:
        yield unknown("broker-password", where, "does not speak as Redis does")


def _ping(host: str, port: int, tls: bool) -> bytes:
    with socket.create_connection((host, port), TIMEOUT_S) as plain:
        context = ssl.create_default_context()
        # Who is asked is not the question here: it gets no secret.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) if tls else contextlib.nullcontext(plain) as connection:
            connection.sendall(b"PING\r\n")
            return bytes(connection.recv(256))


def examine_database(url: str) -> Iterator[Finding]:
    """The database that workers share. url: with its password."""
    _read(url, "a database", f"Write postgresql://user:password@host/database; {_ESCAPED}")
    where = _shown(url)
    try:
        rows = _asked(url)
    except RegistryPipelinesError as error:
        for rule in ("database-password", "database-role", "database-tls"):
            yield unknown(rule, where, error.what)
        return
    yield _role(where, rows)
    yield _link(url, where, encrypted=bool(rows["encrypted"]))
    try:
        _asked(_with_password(url, secrets.token_urlsafe(12)))
    except LocalError:
        try:  # one that just went away refuses everybody
            _asked(url)
        except LocalError as error:
            yield unknown("database-password", where, error.what)
        else:
            yield kept("database-password", where, "refuses a wrong password")
    else:
        do = "Let pg_hba.conf say scram-sha-256 for these addresses, not trust"
        yield broken("database-password", where, "takes any password from here", do=do)


def _asked(url: str) -> dict[str, object]:
    database = open_server(url, patient=False)
    try:
        [row] = database.run(
            lambda each: list(
                each.rows(
                    "SELECT role.rolsuper, role.rolcreaterole, role.rolcreatedb, role.rolreplication, "
                    "role.rolbypassrls, COALESCE(link.ssl, FALSE) AS encrypted FROM pg_roles AS role "
                    "LEFT JOIN pg_stat_ssl AS link ON link.pid = pg_backend_pid() WHERE role.rolname = current_user",
                    {},
                )
            ),
            patient=False,
        )
        return dict(row)
    finally:
        database.close()


def _role(where: str, row: dict[str, object]) -> Finding:
    names = {"rolsuper": "superuser", "rolcreaterole": "makes roles", "rolcreatedb": "makes databases"}
    names |= {"rolreplication": "reads all by replication", "rolbypassrls": "reads past row security"}
    may = [text for name, text in names.items() if row[name]]
    if may:
        do = "Give workers a role that owns this database and has no attributes: CREATE ROLE pipelines LOGIN"
        return broken("database-role", where, f"the role of the workers: {', '.join(may)}", do=do)
    return kept("database-role", where, "has no attribute beyond its login")


def _link(url: str, where: str, *, encrypted: bool) -> Finding:
    parts = urllib.parse.urlsplit(url)
    query = urllib.parse.parse_qs(parts.query)
    host = parts.hostname or query.get("host", [""])[0]
    if not host or host.startswith("/") or is_loopback(host):
        return kept("database-tls", where, "on this machine")
    if not encrypted:
        do = "Set ssl = on there, and ?sslmode=verify-full here"
        return broken("database-tls", where, "everything travels as it is", do=do)
    if query.get("sslmode", [""])[0] not in ("verify-full", "verify-ca"):
        do = "Add ?sslmode=verify-full (and sslrootcert) to its address"
        return broken("database-tls", where, "whose certificate it is, is not asked", do=do)
    return kept("database-tls", where, "in TLS, with its certificate checked")


def _with_password(url: str, password: str) -> str:
    """The address with another password, where its own is: beside the user, or in the query."""
    parts = urllib.parse.urlsplit(url)
    own, _, place = parts.netloc.rpartition("@")
    asked = [each for each in urllib.parse.parse_qsl(parts.query) if each[0] != "password"]
    if own:
        place = f"{own.partition(':')[0]}:{password}@{place}"
    else:
        asked.append(("password", password))
    return f"{parts.scheme}://{place}{parts.path}?{urllib.parse.urlencode(asked)}"


def _read(url: str, what: str, do: str) -> tuple[urllib.parse.SplitResult, int | None]:
    """The parts of an address, and its port. A parser's own error is not kept: it quotes what may be a piece of the
    password. Raises InputError, without the address: nobody knows where in it the password ends."""
    try:
        if not _ADDRESS.fullmatch(url):
            raise ValueError
        parts = urllib.parse.urlsplit(url)
        return parts, None if "," in parts.netloc else parts.port  # libpq takes several hosts
    except ValueError:
        raise InputError(f"the address of {what} cannot be read", do=do) from None


def _shown(url: str) -> str:
    """Without whoever asks."""
    return redact_url(url).partition("?")[0]


__all__ = ["examine_broker", "examine_database"]
