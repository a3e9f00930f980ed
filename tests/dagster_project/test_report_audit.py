"""The audit as an asset: logs read, a chart by day, what was deleted by team, and a check that alerts fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import push
from tests.ports import free_ports

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SETTINGS = """
registries:
  here: {kind: embedded, port: %d, access_log: logs/here.jsonl}
report:
  teams: {vision: ['team/vision/*']}
  audit:
    sources: {own: {kind: access-log, registry: here}}
"""


def hour(path: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """Which checks passed, and the metadata."""
    config = load(path)
    defs = build_definitions(config, lambda: Chain(config))
    done = defs.resolve_job_def("hourly_audit").execute_in_process(run_config=QUIET)
    assert done.success
    [event] = done.get_asset_materialization_events()
    checks = {each.check_name: each.passed for each in done.get_asset_check_evaluations()}
    return checks, {name: value.value for name, value in event.materialization.metadata.items()}


def test_what_was_deleted_and_by_whom_is_an_asset(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS % free_ports(1)[0])
    chain = Chain(load(path))
    with ensure_registries(chain.config):
        place = Place(chain.registry("here"), "team/vision/app")
        made = push(place, "v1", provenance=False)
        checks, shown = hour(path)
        assert checks == {"explained": True, "read": True} and "+ pushes" in shown["chart"]
        place.registry.delete_manifest(place.repository, made.digest)
    checks, shown = hour(path)
    assert checks == {"explained": False, "read": True}
    [row] = [record.data for record in shown["deleted"].records]
    assert (row["team"], row["who"], row["action"]) == ("vision", "anonymous", "delete")
    [alert] = [record.data["alert"] for record in shown["alerts"].records]
    assert str(alert).startswith("delete-") and shown["delete"] == 1
    (tmp_path / "logs" / "here.jsonl").write_bytes(b"{torn\n")
    path.write_text(path.read_text().replace("access_log: logs/here.jsonl", "host: 127.0.0.1"))
    checks, shown = hour(path)
    assert checks == {"explained": False, "read": False}  # what is kept is judged all the same


def test_it_is_there_where_logs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS % 5000)
    [schedule] = [each for each in build_definitions(load(path)).schedules or [] if "audit" in each.name]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "50 * * * *"
    path.write_text("registries: {here: {kind: layout, root: content}}\n")
    assert not [each for each in build_definitions(load(path)).jobs or [] if "audit" in each.name]
