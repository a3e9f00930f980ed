"""The nightly syncs as assets: what they tell, how they fail, and what a killed run leaves to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from tests.doubles.docker_registry import DockerRegistry
from tests.scan.images import keep_elsewhere, push_platforms

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}


@pytest.fixture
def synced(world: World, syncs: str) -> World:
    path = world.config.path
    path.write_text(path.read_text() + syncs)
    world.use(load(path))
    for name in ("python", "cuda"):
        world.push_to("source", f"bases/{name}", "v1", GOOD, note=name)
    return world


def numbers(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    [told] = result.asset_materializations_for_node("sync__bases")
    return {name: found.value for name, found in told.metadata.items()}


def rows_of(shown: dg.AssetMaterialization, name: str) -> list[Mapping[str, object]]:
    found = shown.metadata[name]
    assert isinstance(found, dg.TableMetadataValue)
    return [record.data for record in found.records]


def test_a_sync_is_one_nightly_asset_with_numbers_that_chart(synced: World) -> None:
    [asset] = [spec for spec in synced.defs.resolve_all_asset_specs() if spec.key.path[0] == "sync"]
    assert (asset.key.path, asset.group_name) == (["sync", "bases"], "replicate")
    [schedule] = [each for each in synced.defs.schedules or [] if each.name == "nightly_sync_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (str(synced.config.schedules.mirror), "UTC")
    dg.Definitions.validate_loadable(synced.defs)

    result = synced.run(None, job="nightly_sync")
    assert result.success
    told = numbers(result)
    assert {"bytes_moved", "bytes_per_second", "seconds", "blobs_moved", "blobs_mounted", "receipts"} <= set(told)
    assert told["copies"] == 4 and told["changed"] is True and int(str(told["bytes_moved"])) > 0
    [shown] = result.asset_materializations_for_node("sync__bases")
    rows = {name: rows_of(shown, name) for name in ("targets", "images", "plan")}
    assert [(row["target"], row["state"], row["images"]) for row in rows["targets"]] == [
        ("eu-west-1", "copied", 2),
        ("gcp", "copied", 2),
    ]
    assert {row["image"] for row in rows["images"]} == {"bases/python:v1", "bases/cuda:v1"}
    assert (told["targets_rows"], told["images_rows"], told["plan_rows"]) == (2, 4, 4)
    assert str(told["where_bytes_are"]).count("█") > 40 and "░ there already" in str(told["where_bytes_are"])
    logged = [each.user_message for each in synced.instance.all_logs(result.run_id) if not each.is_dagster_event]
    [end] = [line for line in logged if "copies done" in line]
    assert end.startswith("4 of 4 copies done; ") and "/s)" in end
    again = numbers(synced.run(None, job="nightly_sync"))
    assert (again["changed"], again["bytes_moved"], again["action"]) == (False, 0, "unchanged")


def test_what_a_sync_leaves_out_is_a_table_and_a_number_that_charts(synced: World) -> None:
    whole = numbers(synced.run(None, job="nightly_sync"))
    assert (whole["left_out_count"], whole["left_out_rows"]) == (0, 0) and "notes" not in whole
    keep_elsewhere(Place(synced.chain.registry("source"), "bases/cuda"), "v1")
    path = synced.config.path
    path.write_text(path.read_text().replace("move_tags: false", "move_tags: true"))
    synced.use(load(path))
    result = synced.run(None, job="nightly_sync")
    assert result.success
    [shown] = result.asset_materializations_for_node("sync__bases")
    [row] = rows_of(shown, "left_out")
    assert (row["image"], row["kind"]) == ("bases/cuda:v1", "foreign-layer")
    told = numbers(result)
    assert (told["left_out_count"], told["left_out_rows"]) == (1, 1)
    assert "stays with its publisher" in str(told["notes"])


def test_drift_fails_the_step_and_is_never_overwritten(synced: World) -> None:
    theirs = synced.push_to("eu-west-1", "bases/cuda", "v1", GOOD, note="theirs")
    result = synced.run(None, job="nightly_sync")
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data is not None
    assert "tag v1 at the target names" in str(failed.step_failure_data.user_failure_data.description)
    assert synced.chain.registry("eu-west-1").resolve("bases/cuda", "v1").digest == theirs.digest
    assert synced.chain.registry("gcp").resolve("replicas/bases/cuda", "v1").digest != theirs.digest


@pytest.mark.peer("docker-registry")
def test_a_target_that_refuses_a_sparse_index_says_what_to_set_and_takes_the_rewritten_one(
    synced: World, peer: Callable[[str], str], tmp_path: Path
) -> None:
    source = Place(synced.chain.registry("source"), "many/tool")
    push_platforms(source, "amd64", "arm64", tag="v1")
    path = synced.config.path
    with DockerRegistry(peer("docker-registry"), tmp_path / "old") as old:
        text = path.read_text().replace("targets:\n", "targets:\n  old: {registry: old}\n", 1)
        text = text.replace("registries:\n", f"registries:\n  old: {{kind: distribution, host: '{old.address}'}}\n")
        text += "  few: {source: source, repositories: [many/tool], targets: [old], platforms: [linux/arm64]}\n"
        path.write_text(text)
        synced.use(load(path))
        failed = synced.run(None, "sync/few", job="nightly_sync")
        assert not failed.success
        [event] = [each for each in failed.all_events if each.is_step_failure]
        told = event.step_failure_data.user_failure_data
        assert told is not None and "Set `selection: rewritten`" in str(told.description)
        path.write_text(text.replace("[linux/arm64]}", "[linux/arm64], selection: rewritten}"))
        synced.use(load(path))
        assert synced.run(None, "sync/few", job="nightly_sync").success
        assert "v1" in list(synced.chain.registry("old").tags("many/tool"))
