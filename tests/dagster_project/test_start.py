"""Hot packs and measured starts in Dagster: what is held for its pack, the sensor that waits for it, the schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml

from dagster_project.report import OUTCOME_TAG
from dagster_project.schedules import newest_recorded
from registry_pipelines.chain import measure
from registry_pipelines.chain.keys import Keyring
from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from tests.packs import attach_pack
from tests.stream.lazy import starts
from tests.stream.lazy.mounts import need_fuse

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}


def asking(world: World, settings: Path, **policy: Any) -> None:
    """Go on with a policy that asks something of starts."""
    raw = yaml.safe_load(settings.read_text())
    raw["policies"]["default"] |= policy
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))


@pytest.fixture
def packed(world: World, settings: Path) -> World:
    """Whose policy requires hot packs."""
    asking(world, settings, required=["sbom", "vulnerabilities", "signature", "hot-pack"])
    return world


def attach(world: World, key: str, folder: Path) -> None:
    release = world.release(key)
    place = world.chain.place(release.image)
    image = place.registry.resolve(place.repository, release.digest)
    attach_pack(place, image, Keyring(world.config).signer("indexer"), folder)


def test_a_release_that_lacks_its_pack_is_held_and_the_sensor_lets_it_go_when_it_is_there(
    packed: World, tmp_path: Path
) -> None:
    key = packed.known("app", "v1", GOOD)
    result = packed.run(key)
    assert result.success
    run = packed.instance.get_run_by_id(result.run_id)
    assert run is not None and run.tags[OUTCOME_TAG] == "held: recording"
    assert not result.asset_materializations_for_node("promotion")
    [seen] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    observation: Any = seen.event_specific_data
    shown = observation.asset_observation.metadata
    assert shown["outcome"].value == "held: recording" and "stream record app:v1" in str(shown["next_steps"].value)
    [gate] = [each for each in result.get_asset_check_evaluations() if each.asset_check_key.name == "may_ship"]
    assert not gate.passed and gate.severity.value == "WARN" and "hot pack" in str(gate.description)
    [page] = result.asset_materializations_for_node("release_page")
    assert page.metadata["state"].value == "allowed, held: recording"
    assert (packed.channel("app"), packed.reached(key)) == (None, set())

    waiting = packed.tick("promotion", None)
    assert waiting.run_requests == [] and "releases that may not go: 1" in str(waiting.skip_reason)
    attach(packed, key, tmp_path)
    [asked] = packed.tick("promotion", waiting.cursor).run_requests or []
    assert asked.partition_key == key
    assert packed.run(key).success
    assert packed.channel("app") == packed.release(key).digest


@pytest.fixture
def started(world: World, settings: Path) -> World:
    """Whose app is recorded, and requires a pack."""
    need_fuse()
    raw = yaml.safe_load(settings.read_text())
    raw["images"]["app"]["stream"] = {"min_layer_size": "1KiB", "record": {"until": "exit"}}
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    asking(world, settings, required=["hot-pack"])
    return world


def pushed(world: World, tag: str, image: str = "app") -> str:
    """A release whose program can be run."""
    place = Place(world.chain.registry("source"), world.config.images[image].repository)
    return world.add(image, tag, starts.image(place, tag=tag, more_mib=1).digest)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.asset_check_key.name: each for each in result.get_asset_check_evaluations()}


def test_a_release_is_recorded_before_its_promotion_and_timed_at_night(
    started: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "STARTS", 1)
    schedule = started.defs.resolve_schedule_def("measure_schedule")
    with dg.DagsterInstance.local_temp() as empty, dg.build_schedule_context(empty) as context:
        assert "no release has a recorded start yet" in str(schedule.evaluate_tick(context).skip_message)
    key = pushed(started, "v1")
    result = started.run(key)
    assert result.success, started.steps(result)
    assert list(started.steps(result)).index("hot_pack") < list(started.steps(result)).index("promotion")
    [made] = result.asset_materializations_for_node("hot_pack")
    shown = {name: value.value for name, value in made.metadata.items()}
    assert (shown["platforms_covered"], shown["recorded"], shown["percent_covered"]) == (1, 1, 100.0)
    assert shown["pack_bytes"] > 0 and "frames" in shown["what_the_pack_holds"]
    assert checks(result)["covered"].passed and checks(result)["covered"].partition == key
    assert started.channel("app") == started.release(key).digest

    newer = pushed(started, "v2")
    assert started.run(newer).success
    assert newest_recorded(started.instance, started.config) == [newer]
    night = datetime(2026, 11, 29, 5, tzinfo=UTC)
    repository = started.defs.get_repository_def()
    with (
        dg.DagsterInstance.local_temp() as other,
        dg.build_schedule_context(other, night, repository_def=repository) as context,
    ):
        other.add_dynamic_partitions("release", [newer])
        other.report_runless_asset_event(dg.AssetMaterialization("hot_pack", partition=newer))
        assert [each.partition_key for each in schedule.evaluate_tick(context).run_requests or ()] == [newer]
    timed = started.run(newer, job="measure")
    [made] = timed.asset_materializations_for_node("start_time")
    shown = {name: value.value for name, value in made.metadata.items()}
    assert 0 < shown["started_s"] <= shown["result_s"] and shown["pack_bytes"] > 0
    assert checks(timed)["starts"].passed


def test_what_is_denied_is_not_run_and_what_has_no_recording_is_told_so(started: World, settings: Path) -> None:
    asking(started, settings, required=["hot-pack", "provenance"])
    denied = started.run(pushed(started, "v1"))
    assert not denied.success and started.steps(denied)["hot_pack"] == "ok"
    assert not denied.asset_materializations_for_node("hot_pack")
    assert "provenance" in str(checks(denied)["covered"].metadata["note"].value)
    asking(started, settings, required=[])
    other = started.run(pushed(started, "v1", "tool"))
    assert other.success and "has no `stream.record`" in str(checks(other)["covered"].metadata["note"].value)


def test_a_program_that_does_not_start_fails_its_step_and_says_what_it_printed(started: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    raw["images"]["app"]["stream"]["record"]["command"] = ["sh", "-c", "echo no such model; exit 7"]
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    started.use(load(settings))
    result = started.run(pushed(started, "v1"))
    [event] = result.get_step_failure_events()
    assert event.step_key == "hot_pack" and "no such model" in str(event.step_failure_data.error_display_string)
    run = started.instance.get_run_by_id(result.run_id)
    assert run is not None and run.tags[OUTCOME_TAG] == "held: recording"


def test_a_pack_over_the_budget_is_denied_and_asked_for_no_more(world: World, settings: Path, tmp_path: Path) -> None:
    asking(world, settings, max_pack_size="0KiB")
    key = world.known("app", "v1", GOOD)
    attach(world, key, tmp_path)
    result = world.run(key)
    run = world.instance.get_run_by_id(result.run_id)
    assert not result.success and run is not None and run.tags[OUTCOME_TAG] == "denied"
    assert world.tick("promotion", None).run_requests == []
