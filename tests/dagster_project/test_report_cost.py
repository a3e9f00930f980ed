"""What registries cost as an asset: read every night, held against the budget, charted by team and by month."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.assets.report_cost import charts
from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, load
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.collect.test_retention import push

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SETTINGS = """
registries: {here: {kind: layout, root: content}}
report:
  teams: {vision: ['team/vision/*']}
  budget: {teams: {vision: %d}}
  prices: prices.json
"""
BOOK = """{"currency": "EUR", "date": "2099-01-01", "source": "ours", "prices":
 [{"id": "own/here/storage", "usd": 900000, "per": "GB-month", "what": "made up"}]}"""


def configured(folder: Path, most: int) -> Config:
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS % most)
    (folder / "prices.json").write_text(BOOK)
    return load(path)


def night(config: Config) -> tuple[dict[str, bool], dict[str, Any]]:
    """Which checks passed, and the metadata."""
    defs = build_definitions(config, lambda: Chain(config))
    done = defs.resolve_job_def("nightly_cost").execute_in_process(run_config=QUIET, raise_on_error=False)
    assert done.success
    [event] = done.get_asset_materialization_events()
    checks = {each.check_name: each.passed for each in done.get_asset_check_evaluations()}
    return checks, {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_night_is_kept_charted_and_held_against_the_budget(tmp_path: Path) -> None:
    config = configured(tmp_path, 10**9)
    push(Place(LayoutRegistry(tmp_path / "content"), "team/vision/app"), "v1", days_ago=1, layers=(bytes(5000),))
    checks, shown = night(config)
    assert checks == {"whole": True, "budget": True}
    assert shown["usd_per_month of vision"] == shown["usd_per_month"] > 4
    assert "vision" in shown["chart"] and "EUR" in shown["over_time"] and shown["images"] == 1
    assert len(list((config.state / "report" / "cost").glob("*.parquet"))) == 1
    checks, shown = night(configured(tmp_path, 1))
    assert checks == {"whole": True, "budget": False}
    (tmp_path / "content" / "team" / "vision" / "app" / "index.json").write_text("{")
    checks, _ = night(config)
    assert checks == {"whole": False, "budget": False}, "what could not be read may be above it"


def test_months_of_several_currencies_are_not_drawn_as_one(tmp_path: Path) -> None:
    row = {"of": "all", "usd_per_month": 2.0, "fair_bytes": 5000}
    one = charts([], [{**row, "month": "2026-10", "currency": "EUR"}, {**row, "month": "2026-11", "currency": "EUR"}])
    two = charts([], [{**row, "month": "2026-10", "currency": "USD"}, {**row, "month": "2026-11", "currency": "EUR"}])
    assert "EUR" in one["over_time"].value and "EUR" not in two["over_time"].value


def test_the_night_is_there_where_somebody_asks_for_it(tmp_path: Path) -> None:
    defs = build_definitions(configured(tmp_path, 1))
    [schedule] = [each for each in defs.schedules or [] if each.name == "nightly_cost_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "30 4 * * *"
    path = tmp_path / "plain.yaml"
    path.write_text("registries: {here: {kind: layout, root: content}}\n")
    assert not [each for each in build_definitions(load(path)).jobs or [] if each.name == "nightly_cost"]
