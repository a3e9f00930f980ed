"""Dagster's storage in Postgres with connections that stay open: how many, and after Postgres ended them."""

import click
import dagster as dg
import psycopg
import pytest

from dagster_project.addresses import BadAddress
from dagster_project.postgres import KEPT, DatabaseAway, KeptPostgres

OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)
"""Of the server's own processes one that tidies up has this database, too."""


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


def test_an_address_without_a_driver_takes_the_one_that_dagster_can_use(postgres_url: str) -> None:
    """With psycopg 3 all starts, and each event of a run is a syntax error."""
    storage = KeptPostgres.from_config_value(None, {"postgres_url": postgres_url})
    storage.event_log_storage.store_event(dg.EventLogEntry(None, "debug", "hello", "r" * 36, 1.0))
    assert [each.user_message for each in storage.event_log_storage.get_logs_for_run("r" * 36)] == ["hello"]


def test_a_link_that_is_lost_is_noticed(postgres_url: str) -> None:
    """A firewall that forgets a quiet connection says nothing; the webserver makes connections of its own."""
    storage = KeptPostgres.from_config_value(None, {"postgres_url": f"{postgres_url}&keepalives_count=7"})
    storage.event_log_storage.optimize_for_webserver(statement_timeout=1000, pool_recycle=60, max_overflow=1)
    for part in (storage.run_storage, storage.event_log_storage):
        with part._engine.connect() as made:
            told = made.connection.driver_connection.get_dsn_parameters()
        assert {told[name] for name in ("connect_timeout", "keepalives_idle")} == {"10", "30"}
        assert told["tcp_user_timeout"] == "60000" and told["keepalives_count"] == "7"


@pytest.mark.parametrize("url", ["", "hunter2", "postgresql://rp:a@hunter2:/x@127.0.0.1/x", "mysql://rp:hunter2@a/b"])
def test_an_address_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(BadAddress, match="DAGSTER_POSTGRES_URL") as bad:
        KeptPostgres.from_config_value(None, {"postgres_url": url})
    assert "hunter2" not in bad.value.format_message() and bad.value.exit_code == 8


def test_a_role_that_may_make_no_tables_is_told_what_it_needs(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute("CREATE ROLE guest LOGIN PASSWORD 'pw'")
        try:
            url = postgres_url.replace(postgres_url.split("//")[1].split("@")[0], "guest:pw")
            with pytest.raises(DatabaseAway, match=r"permission denied for schema public.*grant it CREATE") as away:
                KeptPostgres.from_config_value(None, {"postgres_url": url})
            assert "SQL:" not in away.value.format_message()
        finally:
            server.execute("DROP ROLE guest")
