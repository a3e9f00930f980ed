"""What goes of old runs and partitions: never what runs, and never what an asset or a partition stands on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
import pytest

from dagster_project.history import going, remove
from dagster_project.partitions import PARTITION_TAG, RELEASES, release_keys
from registry_pipelines.config.location import History
from registry_pipelines.settings import Duration
from tests.dagster_project.conftest import QUIET

if TYPE_CHECKING:
    from conftest import World

LATER = datetime.now(UTC) + timedelta(days=100)


def runs(world: World) -> set[str]:
    return {run.run_id for run in world.instance.get_runs()}


def test_runs_go_that_nothing_stands_on_and_none_that_runs(world: World) -> None:
    key, gone = world.known("app", "v1", {"calm": "1.0"}), world.known("app", "v0", {"calm": "1.0"}, note="v0")
    first, second, only = world.run(key), world.run(key), world.run(key, "replica/gcp")
    assert first.success and second.success and only.success
    world.failed_run(gone)
    world.instance.delete_dynamic_partition(str(RELEASES.name), gone)
    job = world.defs.resolve_job_def("release")
    started = world.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={PARTITION_TAG: gone}
    ).run_id
    assert not going(world.instance, world.chain, History(), datetime.now(UTC)).runs
    found = going(world.instance, world.chain, History(), LATER)
    failed = next(run.run_id for run in world.instance.get_runs() if run.status == dg.DagsterRunStatus.FAILURE)
    assert set(found.runs) == {first.run_id, failed}
    assert found.kept == {"an asset stands on it": 1, "the newest of its kind": 1}
    before = {asset: world.instance.get_materialized_partitions(asset) for asset in world.instance.all_asset_keys()}
    one = going(world.instance, world.chain, History(most=1), LATER)
    assert len(one.runs) == 1 and "1 run at most" in one.notes[0]
    assert remove(world.instance, found) == (2, 0) and remove(world.instance, found) == (0, 0)
    assert runs(world) == {second.run_id, only.run_id, started}
    assert {asset: world.instance.get_materialized_partitions(asset) for asset in before} == before
    assert world.tick("push_source", world.looked()).run_requests == []  # nothing looks new for it


def test_runs_that_somebody_deletes_during_the_look_end_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = world.known("app", "v1", {"calm": "1.0"})
    assert world.run(key).success
    read = world.instance.get_run_records

    def deleted(*asked: Any, **how: Any) -> Any:
        page = read(*asked, **how)
        for record in page:
            world.instance.delete_run(record.dagster_run.run_id)
        return page

    monkeypatch.setattr(world.instance, "get_run_records", deleted)
    found = going(world.instance, world.chain, History(), LATER)
    assert remove(world.instance, found) == (0, 0)


def test_partitions_go_that_are_no_release_of_an_image_and_superseded_ones_when_told(world: World) -> None:
    old, channel, newest = (world.known("app", tag, {"calm": "1.0"}, note=tag) for tag in ("v1", "v2", "v3"))
    for key in (old, channel, newest):
        assert world.run(key).success
    strange = ["typed by hand", "other:v1@0123456789ab"]
    world.instance.add_dynamic_partitions(str(RELEASES.name), strange)
    found = going(world.instance, world.chain, History(), LATER)
    assert list(found.partitions) == strange and "typed" in found.partitions[strange[0]]
    place = world.chain.place("app")
    named = place.registry.get_manifest(place.repository, world.release(channel).digest)
    place.registry.put_manifest(place.repository, named, tag="prod")  # somebody went back: it is in use
    told = History(superseded=Duration(days=30))
    assert set(going(world.instance, world.chain, told, LATER).partitions) == {*strange, old}
    assert old not in going(world.instance, world.chain, told, datetime.now(UTC)).partitions
    found = going(world.instance, world.chain, told, LATER)
    assert remove(world.instance, found)[1] == 3
    assert release_keys(world.instance) == [channel, newest]


def test_the_nightly_job_looks_unless_it_is_told_to_remove(world: World) -> None:
    world.instance.add_dynamic_partitions(str(RELEASES.name), ["typed by hand"])
    job = world.defs.resolve_job_def("nightly_history")

    def told(**config: str) -> dict[str, object]:
        settings = {**QUIET, "ops": {"history": {"config": config}}}
        made = job.execute_in_process(instance=world.instance, run_config=settings)
        return {name: each.value for name, each in made.asset_materializations_for_node("history")[0].metadata.items()}

    looked = told()
    assert (looked["old_partitions"], looked["removed_partitions"], looked["applied"]) == (1, 0, False)
    assert release_keys(world.instance) == ["typed by hand"]
    removed = told(apply="auto")
    assert (removed["removed_partitions"], removed["applied"]) == (1, True) and release_keys(world.instance) == []
    settings = world.config.dagster.__class__(history=History(apply="auto"))
    world.use(msgspec.structs.replace(world.config, dagster=settings))
    world.instance.add_dynamic_partitions(str(RELEASES.name), ["again"])
    job = world.defs.resolve_job_def("nightly_history")
    assert told()["removed_partitions"] == 1
