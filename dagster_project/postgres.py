"""Dagster's storage in Postgres, with connections that stay open.

Dagster's own connects anew for each query: some seven hundred times in a run, which is more of the processor than all
else that the engine does in it, here and in Postgres, for a password is proved each time (SCRAM).
"""

from collections.abc import Mapping
from typing import Any

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

KEPT = 2
"""Connections of a process that stay open; what it needs beside them at once is opened, and closed after use."""

RECYCLED_S = 600
"""A connection is used for so long: tokens end, and a firewall forgets what is quiet."""


class KeptPostgres(DagsterPostgresStorage):
    """Dagster's storage in Postgres; its parts have one pool. A connection that Postgres ended in the meantime is
    replaced before it is used. Has all settings of Dagster's own, in ``storage: {custom: ...}``."""

    def __init__(self, postgres_url: str, token_provider: Any = None, **settings: Any) -> None:
        super().__init__(postgres_url, token_provider=token_provider, **settings)
        engine = create_pg_engine(
            postgres_url, token_provider, isolation_level="AUTOCOMMIT",
            pool_size=KEPT, max_overflow=-1, pool_recycle=RECYCLED_S, pool_pre_ping=True,
        )  # fmt: skip
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part._engine.dispose()
            part._engine = engine

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig | Mapping[str, Any]
    ) -> "KeptPostgres":
        """Made by Dagster from ``dagster.yaml``."""
        return cls(
            pg_url_from_config(config_value),
            get_token_provider_from_config(config_value),
            inst_data=inst_data,
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )
