"""Channels in order in Dagster: a run goes as far as it may, says what keeps it, and the sensor asks for the rest."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml

from registry_pipelines.config import load
from registry_pipelines.settings import Duration
from tests.dagster_project.conftest import World
from tests.dagster_project.test_gate import EVIL, GOOD
from tests.dagster_project.test_sensors import tick

STAGES = [{"name": "staging", "targets": ["eu-west-1"]}, {"name": "prod", "targets": ["gcp"], "approvals": ["qa"]}]


def staged(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    del raw["images"]["app"]["targets"]
    raw["images"]["app"]["channels"] = STAGES
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))


def named(world: World, channel: str) -> str:
    return world.chain.on_channels("app")[channel] or ""


def test_a_run_goes_as_far_as_it_may_and_the_sensor_asks_for_the_rest(world: World, settings: Path) -> None:
    staged(world, settings)
    key = world.known("app", "v1", GOOD)
    release = world.release(key)
    done = world.run(key)
    assert done.success
    [promoted] = done.asset_materializations_for_node("promotion")
    rows = [record.data for record in promoted.metadata["channels"].value.records]  # type: ignore[union-attr]
    assert rows[0] == {"channel": "staging", "state": "names it", "why": ""}
    assert rows[1]["state"].startswith("held: approval: approval: prod wants one as qa")
    assert (named(world, "staging"), named(world, "prod")) == (release.digest, "")
    assert not done.asset_materializations_for_node("replica__gcp")
    asked, cursor = tick(world, "promotion", None)
    assert asked == []
    world.chain.approve(release, "qa")
    asked, cursor = tick(world, "promotion", cursor)
    assert asked == [key]
    again = world.run(key)
    assert again.success and again.asset_materializations_for_node("replica__gcp")
    assert named(world, "prod") == release.digest
    assert tick(world, "promotion", cursor)[0] == []


def test_a_break_glass_is_a_warning_of_the_gates_check(world: World, settings: Path) -> None:
    key = world.known("app", "v1", EVIL)
    assert not world.run(key).success
    release = world.release(key)
    world.chain.break_glass(release, reason="checkout is down", lasts=Duration(hours=1))
    done = world.run(key)
    assert done.success
    [gate] = [each for each in done.get_asset_check_evaluations() if each.check_name == "may_ship"]
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (gate.description or "").startswith("BREAK-GLASS: break-glass by")
    assert world.channel("app") == release.digest
