"""Dagster's storage in Postgres with connections that stay open: how many, and after Postgres ended them."""

import click
import dagster as dg
import psycopg
import pytest

from dagster_project.postgres import KEPT, DatabaseAway, KeptPostgres

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_instances_of_one_process_have_one_pool(postgres_url: str) -> None:
    """As a worker makes one for each run: fifty runs would be all connections that Postgres has."""
    ours = {"postgres_url": postgres_url.replace("postgresql:", "postgresql+psycopg2:")}
    storages = [KeptPostgres.from_config_value(None, ours) for _ in range(8)]
    for each in storages:
        assert each.run_storage.get_runs_count() == 0
        assert each.schedule_storage.all_instigator_state() == []
    with psycopg.connect(postgres_url, autocommit=True) as server:
        [open_ones] = server.execute(f"SELECT count(*) {OTHERS}").fetchone() or (0,)
        assert 1 <= open_ones <= KEPT
        server.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
    for each in storages:
        assert each.run_storage.get_runs_count() == 0


def test_one_that_is_away_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error that Click prints without a traceback, and that a code server passes over."""
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)
    ours = {"postgres_url": "postgresql+psycopg2://rp:s3cret@127.0.0.1:1/dagster"}
    with pytest.raises(
        DatabaseAway, match=r"postgresql://127\.0\.0\.1:1/dagster: .*Connection refused.*start this again"
    ) as away:
        KeptPostgres.from_config_value(None, ours)
    assert isinstance(away.value, click.ClickException) and isinstance(away.value, dg.DagsterError)
    assert "s3cret" not in str(away.value.format_message()) and away.value.exit_code == 9
