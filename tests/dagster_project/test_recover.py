"""Backups and drills in Dagster: what is kept, what is charted, and what turns a check red."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import Config, load
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.chain import fleet
from tests.collect.test_retention import note, push
from tests.needs import missing
from tests.patience import patient
from tests.ports import free_ports

SETTINGS = """
registries:
  here: {kind: layout, root: content}
  vault: {kind: store, address: vault}
images: {app: {registry: here, repository: team/app}}
backups: {nightly: {registries: [here], to: vault, objectives: {rpo: 26h, rto: 1h}}}
signing: {generate: true}
"""

OUTAGE = """
registries:
  us: {{kind: embedded, port: {0}}}
  eu: {{kind: embedded, port: {1}}}
images: {{app: {{registry: us, repository: team/app}}}}
failover:
  prod:
    registries: [us, eu]
    objectives: {{rto: {2}ms}}
    drill: {{clients: [containerd], faults: [stopped, frozen], schemes: [http]}}
signing: {{generate: true}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS)
    place = Place(LayoutRegistry(tmp_path / "content"), "team/app")
    note(place, push(place, "v1.0.0", days_ago=1), "about it")
    return load(path)


def run(config: Config, job: str) -> dg.ExecuteInProcessResult:
    defs = build_definitions(config, lambda: Chain(config))
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def passed(result: dg.ExecuteInProcessResult) -> bool:
    [check] = result.get_asset_check_evaluations()
    return bool(check.passed)


def test_a_backup_every_night_and_a_drill_every_week(config: Config, tmp_path: Path) -> None:
    kept = run(config, "nightly_backup")
    assert kept.success and passed(kept) and told(kept)["images"] == 1
    drilled = run(config, "weekly_drill")
    facts = told(drilled)
    assert drilled.success and passed(drilled)
    assert isinstance(facts["rto_s"], float) and 0 <= facts["rpo_s"] < 3600
    [blob] = [each for each in (tmp_path / "vault" / "blobs" / "sha256").iterdir() if b"about it" in each.read_bytes()][
        :1
    ]
    blob.unlink()
    broken = run(config, "weekly_drill")
    assert broken.success and not passed(broken)
    [check] = broken.get_asset_check_evaluations()
    assert check.description and "team/app" in check.description


def test_both_are_scheduled(config: Config) -> None:
    defs = build_definitions(config, lambda: Chain(config))
    crons = {each.name: each.cron_schedule for each in defs.schedules or () if isinstance(each, dg.ScheduleDefinition)}
    assert crons["nightly_backup_schedule"] == "30 2 * * *" and crons["weekly_drill_schedule"] == "0 7 * * 0"


@pytest.mark.peer("containerd", "ctr")
def test_a_fail_over_drill_every_week(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        missing("containerd needs root")
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(OUTAGE.format(*free_ports(2), round(patient(1200))))
    config = load(path)
    with ensure_registries(config):
        for name in ("us", "eu"):
            fleet.push(Place(Chain(config).registry(name), "team/app"), "v1.0.0", provenance=False)
        result = run(config, "failover_drill")
    facts = told(result)
    assert result.success and (facts["pulls"], facts["by_itself"], facts["by_hand"]) == (3, 1, 1)
    assert facts["rto_s"] > 0 and facts["by_hand_s"] > 0
    assert "containerd 1" in facts["chart"] and "http, frozen" in facts["chart"]
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert checks["elsewhere"].passed and not checks["by_itself"].passed
    assert checks["by_itself"].severity == dg.AssetCheckSeverity.WARN
    defs = build_definitions(config, lambda: Chain(config))
    crons = {each.name: each.cron_schedule for each in defs.schedules or () if isinstance(each, dg.ScheduleDefinition)}
    assert crons["failover_drill_schedule"] == "30 7 * * 0"
