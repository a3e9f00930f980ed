"""Inventory and usage as assets: what did not answer fails the check, and the table is kept for later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, load
from registry_pipelines.inventory.value import read
from tests.doubles.aws.front import AwsDouble
from tests.doubles.aws.usage import Ecs
from tests.inventory.clouds import DAY_S, REGION, ecr_place, manifest, put, written

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def config(aws: AwsDouble, tmp_path: Path) -> Config:
    place, now = ecr_place(aws), aws.clock()
    put(place, "team/app", manifest(1), "v1", at=now - DAY_S)
    put(place, "team/app", manifest(2), at=now - 100 * DAY_S)
    aws.area(Ecs).tasks["prod"] = []
    return load(written(tmp_path, aws, more=f"usage:\n  prod: {{kind: ecs, region: {REGION}}}\n"))


def checks(defs: dg.Definitions) -> dict[str, bool]:
    result = defs.resolve_job_def("nightly_inventory").execute_in_process(run_config=QUIET, raise_on_error=False)
    assert result.success
    events = result.get_asset_materialization_events()
    assert {event.asset_key.to_user_string() for event in events if event.asset_key} == {"inventory/ecr", "usage"}
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def test_a_night_counts_and_says_what_did_not_answer(aws: AwsDouble, config: Config) -> None:
    defs = build_definitions(config, lambda: Chain(config))
    [schedule] = [each for each in defs.schedules or [] if each.name == "nightly_inventory_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "0 4 * * *"
    specs = {each.key.to_user_string(): each for each in defs.resolve_all_asset_specs()}
    assert specs["inventory/ecr"].freshness_policy and specs["usage"].freshness_policy
    assert checks(defs) == {"whole": True, "answered": True}
    kept = read(config.state / "inventory" / "ecr.parquet")
    assert len(kept.frame) == 2 and kept.complete
    aws.deny("ecr:DescribeImages", "ecs:ListClusters")
    assert checks(defs) == {"whole": False, "answered": False}
    assert [each.what for each in read(config.state / "inventory" / "ecr.parquet").sources[0].unread] == ["team/app"]
