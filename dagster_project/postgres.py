"""Dagster's storage in Postgres, with connections that stay open.

Dagster's own connects anew for each query: some seven hundred times in a run, which is more of the processor than all
else that the engine does in it, here and in Postgres, for a password is proved each time (SCRAM).
"""

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any

import click
import dagster as dg
import sqlalchemy
from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import (
    DagsterPostgresException,
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
)

from dagster_project.addresses import ESCAPED, BadAddress
from registry_pipelines.errors import LocalError
from registry_pipelines.redacting import redact_text

KEPT = 2
"""Connections of a process that stay open; what it needs beside them at once is opened, and closed after use."""

RECYCLED_S = 600
"""A connection is used for so long: tokens end, and a firewall forgets what is quiet."""

DRIVER = "postgresql+psycopg2"
"""Plain ``postgresql:`` is psycopg 3 for SQLAlchemy 2.1: all starts with it, and each run fails at its first event, for
Dagster's NOTIFY."""
FORM = f"Write postgresql://user:password@host:5432/dagster; {ESCAPED}"
INSUFFICIENT_PRIVILEGE = "42501"

LINK = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Of each connection, unless the address says otherwise: seconds to connect, seconds of silence before the server is
asked whether it lives, milliseconds until a link that was lost counts as broken. libpq's own answers are two minutes,
two hours and a quarter of an hour: for so long the daemon would stand still where a firewall, or a server that is gone,
says nothing."""


class DatabaseAway(dg.DagsterError, click.ClickException):
    """Dagster's database does not answer, or refuses us. Of Click's, so that the daemon and the webserver say this and
    end, to be started again; of Dagster's, since a code server then loads its code without a database, and needs none:
    after any other error it would serve that error until somebody reloads it. cause: as Dagster or SQLAlchemy raised
    it; what is said has no password."""

    exit_code = LocalError.exit_code

    def __init__(self, url: str, cause: BaseException) -> None:
        place = sqlalchemy.make_url(url)
        told = getattr(cause, "orig", None) or getattr(cause.__cause__, "orig", None) or cause
        why = " ".join(redact_text(str(told)).split()).rstrip(".?")
        do = "Check that the server runs, and DAGSTER_POSTGRES_URL"
        if getattr(told, "pgcode", None) == INSUFFICIENT_PRIVILEGE:
            do = "Let the role of DAGSTER_POSTGRES_URL own the database, or grant it CREATE on its schema"
        elif "root certificate file" in why:
            do = "Add sslrootcert=FILE to DAGSTER_POSTGRES_URL, with the certificate of whoever signed the server's"
        where = f"{place.host or ''}{f':{place.port}' if place.port else ''}/{place.database or ''}"
        super().__init__(f"postgresql://{where}: Dagster's database cannot be used: {why}. {do}; then start this again")


class KeptPostgres(DagsterPostgresStorage):
    """Dagster's storage in Postgres; its parts have one pool. A connection that Postgres ended in the meantime is
    replaced before it is used. Has all settings of Dagster's own, in ``storage: {custom: ...}``."""

    def __init__(self, postgres_url: str, token_provider: Any = None, **settings: Any) -> None:
        postgres_url = _watched(postgres_url)
        try:
            super().__init__(postgres_url, token_provider=token_provider, **settings)
        except (DagsterPostgresException, sqlalchemy.exc.DBAPIError) as error:
            raise DatabaseAway(postgres_url, error) from None
        engine = _engine(postgres_url, token_provider)
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part._engine.dispose()
            part._engine = engine

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig | Mapping[str, Any]
    ) -> "KeptPostgres":
        """Made by Dagster from ``dagster.yaml``."""
        if config_value.get("postgres_url") == "":
            raise BadAddress(f"the address of Dagster's database is empty: set DAGSTER_POSTGRES_URL. {FORM}")
        return cls(
            pg_url_from_config(config_value),
            get_token_provider_from_config(config_value),
            inst_data=inst_data,
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )


def _watched(postgres_url: str) -> str:
    """The address with ``LINK``, and with the one driver that Dagster can use. In the address, because Dagster's
    webserver makes engines of its own from it. Raises BadAddress."""
    try:
        url = sqlalchemy.make_url(postgres_url.replace("postgres:", "postgresql:", 1))
    except (sqlalchemy.exc.ArgumentError, ValueError):  # these quote a piece of it
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise BadAddress(f"the address of Dagster's database cannot be read: correct DAGSTER_POSTGRES_URL. {FORM}")
    return url.set(drivername=DRIVER, query={**LINK, **url.query}).render_as_string(hide_password=False)


_ENGINES: dict[tuple[int, str, str], sqlalchemy.Engine] = {}
_MAKING = Lock()


def _engine(url: str, token_provider: Any) -> sqlalchemy.Engine:
    """One for all of a process: each run makes an instance of its own and lets go of it without a word, and two
    connections each would be all that Postgres has after some fifty runs. Not a parent's after a fork."""
    key = (os.getpid(), url, type(token_provider).__name__)
    with _MAKING:
        if key not in _ENGINES:
            _ENGINES[key] = create_pg_engine(
                url, token_provider, isolation_level="AUTOCOMMIT",
                pool_size=KEPT, max_overflow=-1, pool_recycle=RECYCLED_S, pool_pre_ping=True,
            )  # fmt: skip
        return _ENGINES[key]
