"""Images that are rechunked in Dagster: the job, its sensor, the asset with its check, and the run of what came out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.scan.images import push_image

if TYPE_CHECKING:
    from conftest import World

LAYER = {"usr/lib/big": random.Random(3).randbytes(200_000), "root/.cache/pip/a": "x" * 1000}


def rechunking(world: World, settings: Path, **section: object) -> None:
    raw = yaml.safe_load(settings.read_text())
    raw["images"]["app"] |= {"rechunk": section, "stream": {"format": "estargz"}}
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))


def pushed(world: World, tag: str) -> Release:
    place = Place(world.chain.registry("source"), "team/app")
    return Release("app", tag, push_image(place, [LAYER, {"etc/note": tag}], tag=tag).digest)


def test_what_is_pushed_is_rechunked_and_converted_and_its_release_gets_the_run(world: World, settings: Path) -> None:
    rechunking(world, settings)
    first = world.tick("rechunk", None)
    assert first.run_requests == []
    pushed(world, "v1")
    [request] = world.tick("rechunk", first.cursor).run_requests or []
    assert request.partition_key == "app" and request.run_config["ops"]["rechunked"]["config"]["tags"] == ["v1"]
    job = world.defs.resolve_job_def("rechunk")
    done = job.execute_in_process(instance=world.instance, partition_key="app", run_config=dict(request.run_config))
    made, converted = done.asset_materializations_for_node("rechunked")
    assert (made.asset_key, converted.asset_key) == (dg.AssetKey("rechunked"), dg.AssetKey("converted"))
    shown = made.metadata
    assert shown["layers_before"].value == 2 and shown["layers"].value >= 2 and shown["same_tree"].value is True
    table = shown["platforms"]
    assert isinstance(table, dg.TableMetadataValue)
    [platform] = table.records
    assert platform.data["platform"] == "linux/amd64" and platform.data["same_tree"] is True
    tag = "v1-rechunked-estargz"
    key = world.key("app", tag, world.chain.find_release(f"app:{tag}").digest)
    assert world.instance.get_dynamic_partitions("release") == [key]
    assert status(world) is True
    assert world.tick("rechunk", first.cursor).run_requests == []
    result = world.run(key)
    assert result.success and world.reached(key) == {"eu-west-1", "gcp", "dmz", "airgap"}
    # Run by hand the check reads both images again.
    checks = dg.define_asset_job(
        "checks", dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("rechunked"), "same_tree"))
    )
    own = dg.Definitions(
        asset_checks=list(world.defs.asset_checks or ()), jobs=[checks], resources=world.defs.resources
    )
    evaluated = own.resolve_job_def("checks").execute_in_process(instance=world.instance)
    [evaluation] = evaluated.get_asset_check_evaluations()
    assert evaluation.passed and evaluation.metadata["images"].value == 1


def test_files_that_were_left_out_on_request_are_a_warning_of_the_check(world: World, settings: Path) -> None:
    rechunking(world, settings, drop=["caches"])
    pushed(world, "v1")
    job = world.defs.resolve_job_def("rechunk")
    assert job.execute_in_process(instance=world.instance, partition_key="app").success
    assert status(world) is False


def status(world: World) -> bool:
    """Whether the newest evaluation of the check passed."""
    [record] = world.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("rechunked"), "same_tree"), limit=1
    )
    evaluation = record.evaluation
    assert evaluation is not None and evaluation.partition == "app"
    return bool(evaluation.passed)
