"""The rescan in Dagster: its buckets, its checks, and what a release's own partition shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from dagster_project.checks import LIMITS
from registry_pipelines.chain.buckets import bucket_of, filled_buckets
from tests.dagster_project.conftest import QUIET, advisory

if TYPE_CHECKING:
    from conftest import World

NIGHT = datetime(2026, 11, 29, 1, 30, tzinfo=UTC)


def sweep(world: World, image: str) -> dg.ExecuteInProcessResult:
    job = world.defs.resolve_job_def("rescan")
    bucket = bucket_of(world.config.images[image])
    return job.execute_in_process(partition_key=bucket, instance=world.instance, raise_on_error=False, run_config=QUIET)


def told(world: World) -> list[dg.AssetObservation]:
    """What the release's report was said to be, beside being made."""
    records = world.instance.fetch_observations(dg.AssetKey("vulnerabilities"), limit=5).records
    return [each.asset_observation for each in records if each.asset_observation]


def test_a_promoted_release_turns_red_when_advisories_speak_against_it(world: World) -> None:
    key = world.known("app", "v1", {"calm": "1.0"})
    assert world.run(key).success
    quiet = sweep(world, "app")
    assert quiet.success and not told(world)
    folder = world.config.path.parent / "advisories"
    (folder / "NEW-1.json").write_text(json.dumps(advisory("calm", "NEW-1")))
    found = sweep(world, "app")
    assert found.success
    made = world.instance.fetch_materializations(dg.AssetKey("rescan"), limit=1).records[0].asset_materialization
    assert made and made.metadata["newly_vulnerable"].value == 1 and "NEW-1" in str(made.metadata["reasons"].value)
    [seen] = told(world)
    assert seen.partition == key and "NEW-1" in str(seen.metadata["newly_vulnerable"].value)
    [red, green] = world.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("vulnerabilities"), LIMITS), limit=5
    )
    evaluations = [each.event.dagster_event.event_specific_data for each in (red, green) if each.event]
    assert [each.passed for each in evaluations] == [False, True]  # type: ignore[union-attr]
    assert evaluations[0].partition == key  # type: ignore[union-attr]
    assert not world.run(key).success  # and nothing goes on with it


def asked(world: World, job: str) -> list[dg.RunRequest]:
    schedule = world.defs.resolve_schedule_def(f"{job}_schedule")
    repository = world.defs.get_repository_def()
    with dg.build_schedule_context(world.instance, NIGHT, repository_def=repository) as context:
        return list(schedule.evaluate_tick(context).run_requests or ())


def lane(world: World, job: str, request: dg.RunRequest) -> set[str]:
    """The buckets that a run of a sweep did."""
    run = world.defs.resolve_job_def(job).execute_in_process(
        instance=world.instance, tags=request.tags, run_config=QUIET
    )
    return {str(each.partition) for each in run.asset_materializations_for_node(run.job_def.nodes[0].name)}


def test_runs_share_all_buckets_that_hold_an_image(world: World) -> None:
    """As many as the pool lets go; one that comes later, or again after it was killed, does what is left."""
    [one] = asked(world, "rescan")
    assert one.partition_key is None and one.tags["registry-pipelines/lane"] == "1-of-1"
    pools = world.config.dagster.__class__(pools={"rescan": 2, "sweep": 9}, sweeps=("drift", "cost"))
    world.use(msgspec.structs.replace(world.config, dagster=pools))
    filled = filled_buckets(world.config)
    first, second = asked(world, "rescan")
    assert lane(world, "rescan", first) == set(filled) and lane(world, "rescan", second) == set()
    assert sweep(world, "app").success  # a person asks for one bucket: it is done in any case
    requests = asked(world, "sweep_drift")
    assert len(requests) == len(filled) and lane(world, "sweep_drift", requests[-1]) == set(filled)
    assert lane(world, "sweep_drift", requests[0]) == set()
    assert len(asked(world, "sweep_cost")) == 9
