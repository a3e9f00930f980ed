"""A webserver of a new version waits until Dagster's tables are as it wants them, on a real Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from tests.needs import needed_module
from tests.patience import patient

HOME = """
storage: {custom: {module: dagster_project.postgres, class: KeptPostgres, config: {postgres_url: {env: URL}}}}
telemetry: {enabled: false}
"""
WAIT = [sys.executable, "-m", "dagster_project.tables"]


def revise(url: str, change: str) -> str:
    """Set the tables' revision by an expression; what it was."""
    psycopg: Any = needed_module("psycopg", "postgres")
    with psycopg.connect(url) as connection:
        [(before,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("UPDATE alembic_version SET version_num = %s", (change,))
    return str(before)


def test_old_tables_are_waited_for_and_newer_ones_are_not(tmp_path: Path, postgres_url: str) -> None:
    needed_module("dagster_postgres", "cluster")
    from alembic.script import ScriptDirectory
    from dagster_postgres.run_storage import run_storage
    from dagster_postgres.utils import pg_alembic_config

    (tmp_path / "dagster.yaml").write_text(HOME)
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "URL": postgres_url}
    # Nobody has made any yet: the first who comes does.
    subprocess.run(WAIT, env=environment, check=True, timeout=patient(60))
    known = [
        each.revision for each in ScriptDirectory.from_config(pg_alembic_config(run_storage.__file__)).walk_revisions()
    ]
    assert revise(postgres_url, known[1]) == known[0]
    with subprocess.Popen(WAIT, env=environment, text=True, stdout=subprocess.PIPE) as waits:
        try:
            assert waits.stdout is not None
            said = waits.stdout.readline()
            assert known[1] in said and known[0] in said and "dagster instance migrate" in said
            migrate = [sys.executable, "-m", "dagster", "instance", "migrate"]
            subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=patient(60))
            assert waits.wait(patient(30)) == 0 and waits.stdout.read() == ""
        finally:
            waits.kill()
    assert revise(postgres_url, "0123456789ab") == known[0]
    subprocess.run(WAIT, env=environment, check=True, timeout=patient(60))


def test_where_there_is_no_postgres_nothing_is_waited_for(tmp_path: Path) -> None:
    needed_module("dagster_postgres", "cluster")
    from dagster_project.tables import awaited

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert awaited(instance) is None
