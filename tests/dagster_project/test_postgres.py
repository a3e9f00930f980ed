"""Dagster's storage in Postgres, with connections that stay open."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import psycopg
import yaml

from tests.needs import needed_module

SETTINGS = Path(__file__).parents[2] / "deploy" / "dagster" / "dagster.yaml"
ENDED = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database()"""


@dg.asset
def thing() -> None:
    """Nothing."""


def test_connections_are_kept_and_one_that_postgres_ended_is_replaced(tmp_path: Path, postgres_url: str) -> None:
    needed_module("dagster_postgres", "cluster")
    storage = yaml.safe_load(SETTINGS.read_text())["storage"]
    storage["custom"]["config"] = {"postgres_url": postgres_url.replace("postgresql://", "postgresql+psycopg2://")}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance, psycopg.connect(postgres_url) as asking:
        assert dg.materialize([thing], instance=instance).success
        row = asking.execute(ENDED).fetchone()
        assert row and 1 <= row[0] <= 2, "as many as are kept"
        asking.commit()
        assert dg.materialize([thing], instance=instance).success
        assert instance.get_runs_count() == 2
