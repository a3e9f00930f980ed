"""Dagster's instance for many short runs one after another in one process, as ``demo`` makes them.

Runs and events are stored in the same files as by Dagster itself, so the UI shows them like any others. Two things that
Dagster does for each step or event cost more than the stages of a run that changes nothing (measured on the second
``demo``, 206 events): it starts four processes a run to capture what steps print, which here is nothing, and opens,
checkpoints and closes SQLite's files 1,174 times.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

BUSY_TIMEOUT_S = 60
"""How long a write waits for another process's, such as the UI's daemon."""


class KeptEventLog(SqliteEventLogStorage):
    """Dagster's event log, with one open connection for each of its files."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            if shard not in self._engines:
                self._engines[shard] = sqlalchemy.create_engine(
                    self.conn_string_for_shard(shard),
                    poolclass=sqlalchemy.QueuePool,
                    connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
                )
                self._initdb(self._engines[shard])
            with self._engines[shard].begin() as connection:
                yield connection

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()


class KeptSqlite(DagsterSqliteStorage):
    """Dagster's own storage with :class:`KeptEventLog`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        own = self._event_log_storage
        self._event_log_storage = KeptEventLog(own._base_dir)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "KeptSqlite":
        """As Dagster makes it."""
        return cls(inst_data=inst_data, **config_value)


def open_instance(home: Path) -> dg.DagsterInstance:
    """The instance of a Dagster home, for use in this process alone. Settings of ``dagster.yaml`` hold; what it says of
    the storage and of captured output stays as it is, too, where it says something."""
    plain = InstanceRef.from_dir(str(home))
    defaults = InstanceRef.config_defaults(str(home))
    ours: dict[str, Any] = {}
    if plain.storage_data == defaults["storage"]:
        ours["storage"] = {
            "custom": {"module": __name__, "class": KeptSqlite.__name__, "config": {"base_dir": str(home)}}
        }
    if plain.compute_logs_data == defaults["compute_logs"]:
        ours["compute_logs"] = {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        }
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=ours))
