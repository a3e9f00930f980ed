"""Foreign images as assets: a partition and a run for each upstream, and what their checks tell."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}
JOB = "nightly_mirror_for_eign"


@pytest.fixture
def mirrored(world: World) -> World:
    path = world.config.path
    text = path.read_text().replace(
        "  foreign: {to: airgap, prefix: foreign, upstreams: [{image: source/team/base}]}\n",
        "  for-eign: {via: dmz, to: airgap, prefix: foreign, max_age: 1h,\n"
        "    upstreams: [{image: source/team/base}, {image: source/team/other}, {image: source/team/gone}]}\n",
    )
    path.write_text(text)
    world.use(load(path))
    for name in ("base", "other"):
        world.push_to("source", f"team/{name}", "v1", GOOD, note=name)
    return world


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_each_upstream_is_a_partition_and_a_run_of_its_own(mirrored: World) -> None:
    [spec] = [each for each in mirrored.defs.resolve_all_asset_specs() if each.key.path[0] == "upstreams"]
    assert spec.partitions_def is not None
    keys = list(spec.partitions_def.get_partition_keys())
    assert keys == ["source/team/base", "source/team/other", "source/team/gone"]
    schedule = mirrored.defs.resolve_schedule_def(f"{JOB}_schedule")
    with dg.build_schedule_context(
        instance=mirrored.instance,
        scheduled_execution_time=datetime(2026, 11, 29, 2),
        repository_def=mirrored.defs.get_repository_def(),
    ) as context:
        tick = schedule.evaluate_tick(context)
    assert [each.partition_key for each in tick.run_requests or []] == keys
    assert len({each.run_key for each in tick.run_requests or []}) == 3
    dg.Definitions.validate_loadable(mirrored.defs)


def test_one_that_fails_is_shown_and_the_others_go_on(mirrored: World) -> None:
    good, bad = (mirrored.run(f"source/team/{name}", job=JOB) for name in ("base", "gone"))
    assert good.success and not bad.success
    found = checks(good)
    assert found["same_everywhere"].passed and found["age"].passed
    assert {each.partition for each in found.values()} == {"source/team/base"}
    failed = checks(bad)
    assert not failed["age"].passed and "it was never brought whole" in str(failed["age"].description)
    [step] = [event for event in bad.all_events if event.is_step_failure]
    assert "team/gone" in str(step.step_failure_data.user_failure_data)
    assert mirrored.chain.registry("airgap").resolve("foreign/team/base", "v1").digest
    assert mirrored.run("source/team/other", job=JOB).success


def test_a_difference_between_the_dmz_and_the_private_registry_is_found(mirrored: World) -> None:
    mirrored.run("source/team/base", job=JOB)
    private = Place(mirrored.chain.registry("airgap"), "foreign/team/base")
    private.registry.delete_manifest(private.repository, private.registry.resolve(private.repository, "v1").digest)
    assert not mirrored.chain.compare_mirror("for-eign", upstream="source/team/base").ok
    stray = mirrored.push_to("airgap", "foreign/team/base", "v2", GOOD, note="stray")
    found = mirrored.chain.compare_mirror("for-eign", upstream="source/team/base")
    assert {(row["tag"], str(row["difference"])[:22]) for row in found.rows} >= {("v2", "the private registry h")}
    private.registry.delete_manifest(private.repository, stray.digest)
    assert checks(mirrored.run("source/team/base", job=JOB))["same_everywhere"].passed


def test_the_age_is_known_to_another_machine_and_a_fresh_database(mirrored: World) -> None:
    assert mirrored.run("source/team/base", job=JOB).success
    for folder in ("transfer", "mirror", "scan", "dagster"):
        shutil.rmtree(mirrored.config.state / folder, ignore_errors=True)
    mirrored.use(load(mirrored.config.path))
    told = mirrored.chain.mirror_age("for-eign", upstream="source/team/base")
    assert told.ok and told.rows[0]["tags"] == 1 and 0 <= float(told.rows[0]["age_s"]) < 3600
    assert not mirrored.chain.mirror_age("for-eign").ok
    path = mirrored.config.path
    path.write_text(path.read_text().replace("max_age: 1h", "max_age: 0s"))
    mirrored.use(load(path))
    assert "whole" in mirrored.chain.mirror_age("for-eign", upstream="source/team/base").reasons[0]


def test_artifacts_of_a_mirror_come_by_night_too(mirrored: World) -> None:
    path = mirrored.config.path
    path.write_text(path.read_text().replace("max_age: 1h,", "max_age: 1h, artifacts: ['source/data/set:latest'],"))
    mirrored.use(load(path))
    made = mirrored.push_to("source", "data/set", "latest", GOOD, note="set")
    assert mirrored.defs.resolve_schedule_def("nightly_artifacts_schedule").cron_schedule == "0 2 * * *"
    assert mirrored.run(None, job="nightly_artifacts").success
    private = mirrored.chain.registry("airgap")
    assert private.resolve("foreign/data/set", "latest").digest == made.digest
    assert [name for name in private.repositories() if "team" in name] == [], "and no upstream"
