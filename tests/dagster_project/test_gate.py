"""A refused release stays refused, whatever Dagster is asked to do and whatever happens to its siblings."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run

from dagster_project import report
from registry_pipelines.config import load
from registry_pipelines.oci.manifests import Manifest
from tests.doubles.fault_registry import FaultRegistry
from tests.scan.images import keep_elsewhere

if TYPE_CHECKING:
    from conftest import World

KEEP = "import sys; open('told', 'a').write(sys.stdin.read() + '\\n')"
"""A command for `notify`."""
GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}
BEFORE_REPLICAS = ["provenance", "sbom", "vulnerabilities", "signature", "verdict", "promotion"]
DOWNSTREAM = ["promotion", "replica/eu-west-1", "replica/gcp", "mirror/inside"]


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What each failed step raised, as text."""
    return {
        str(event.step_key): event.step_failure_data.error_display_string
        for event in result.all_events
        if event.is_step_failure
    }


def assert_held(world: World, key: str) -> None:
    """The release is nowhere but at its source, and not under the channel tag."""
    assert world.reached(key) == set()
    assert world.channel("app") != world.release(key).digest
    assert key not in world.instance.get_materialized_partitions(dg.AssetKey("promotion"))


def test_a_good_release_reaches_every_place(world: World) -> None:
    good = world.known("app", "v1", GOOD)
    result = world.run(good)
    assert result.success, failures(result)
    assert world.channel("app") == world.release(good).digest
    assert world.reached(good) == {"eu-west-1", "gcp", "dmz", "airgap"}


def test_what_no_replica_gets_is_named_at_the_replica_the_mirror_and_the_check(world: World) -> None:
    """Equal in all that was compared is a passed check, which says what was not."""
    world.push("app", "v1", GOOD)
    made = keep_elsewhere(world.chain.place("app"), "v1")
    key = world.add("app", "v1", made.digest)
    result = world.run(key)
    assert result.success, failures(result)
    for asset in ("replica__gcp", "mirror__inside"):
        [told] = result.asset_materializations_for_node(asset)
        assert told.metadata["left_out_rows"].value == 1
        assert "stays with its publisher" in str(told.metadata["notes"].value)
        [row] = told.metadata["left_out"].records  # type: ignore[attr-defined]
        assert row.data["kind"] == "foreign-layer"
    checks = [each for each in result.get_asset_check_evaluations() if each.check_name == "equal"]
    assert len(checks) == 2
    for check in checks:
        [row] = check.metadata["not_compared"].records  # type: ignore[attr-defined]
        assert check.passed and row.data["kind"] == "foreign-layer"


def test_the_same_run_stops_after_writing_the_verdict(world: World) -> None:
    evil = world.known("app", "v1", EVIL)
    result = world.run(evil)
    steps = world.steps(result)
    assert not result.success
    assert {step for step, end in steps.items() if end == "failed"} == {"promotion"}
    assert steps["signature"] == "ok"
    assert not {"replica__eu_west_1", "replica__gcp", "mirror__inside"} & set(steps)
    (told,) = result.asset_materializations_for_node("verdict")
    assert "leaky" in str(told.metadata["reasons"].value)
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks["may_ship"].passed and "leaky" in str(checks["may_ship"].description)
    [observed] = world.instance.fetch_observations(dg.AssetKey("promotion"), limit=9).records
    seen = observed.asset_observation
    assert seen and (seen.partition, seen.metadata["outcome"].value) == (evil, "denied")
    assert "leaky" in str(seen.metadata["reasons"].value)
    assert_held(world, evil)


def test_a_denial_is_no_crash_and_alerts_can_tell_it_from_a_registry_that_is_down(world: World) -> None:
    """Dagster writes a stack trace of whatever else a step raises."""
    evil = world.known("app", "v1", EVIL)
    result = world.run(evil)
    [failed] = result.get_step_failure_events()
    data = failed.step_failure_data
    assert data.error and data.error.stack == [] and data.error.cause is None
    assert "leaky" in data.error.message and "Traceback" not in data.error.to_string()
    assert data.user_failure_data and data.user_failure_data.metadata["outcome"].value == "denied"
    run = world.instance.get_run_by_id(result.run_id)
    assert run and (run.status, run.tags[report.OUTCOME_TAG]) == (dg.DagsterRunStatus.FAILURE, "denied")
    good = world.run(world.known("app", "v2", GOOD))
    run = world.instance.get_run_by_id(good.run_id)
    assert run and run.tags[report.OUTCOME_TAG] == "promoted"


@pytest.mark.parametrize(("job", "of"), [("release", "release"), ("nightly_mirror_foreign", "upstream")])
def test_who_launches_without_a_partition_is_told_so_without_a_stack_trace(world: World, job: str, of: str) -> None:
    """The launchpad launches a job with partitions also where nobody chose one."""
    [failed] = world.run(None, job=job).get_step_failure_events()
    data = failed.step_failure_data
    assert data.error and data.error.stack == [] and data.error.cause is None
    assert f"no {of} is chosen" in data.error.message and "the field Partition" in data.error.message


def test_the_page_is_written_last_also_where_the_release_is_denied(world: World) -> None:
    good, evil = world.known("app", "v1", GOOD), world.known("app", "v2", EVIL)
    result = world.run(good)
    [told] = result.asset_materializations_for_node("release_page")
    assert str(told.metadata["state"].value) == "prod names it, at 3 of 3 places"
    assert list(world.steps(result))[-1] == "release_page"
    result = world.run(evil)
    [told] = result.asset_materializations_for_node("release_page")
    assert told.metadata["state"].value == "denied" and "leaky" in str(told.metadata["reasons"].value)
    drawn = str(told.metadata["findings_by_severity"].value)
    assert "v1" in drawn and "v2  █" in drawn
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks["ships"] is False


@pytest.mark.parametrize("asset", DOWNSTREAM)
def test_materializing_only_what_is_downstream_fails_at_the_librarys_gate(world: World, asset: str) -> None:
    """Dagster lets this step run: no check stands before it in a run of its own."""
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    result = world.run(evil, asset)
    assert not result.success
    assert "leaky" in "".join(failures(result).values())
    assert_held(world, evil)


@pytest.mark.parametrize("asset", DOWNSTREAM)
def test_what_was_never_judged_is_not_promoted(world: World, asset: str) -> None:
    unknown = world.known("app", "v1", GOOD)
    result = world.run(unknown, asset)
    assert not result.success
    assert_held(world, unknown)


def test_a_sibling_that_passes_later_frees_nothing(world: World) -> None:
    """The hole: an unpartitioned check would be green for all releases now."""
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    good = world.known("app", "v2", GOOD)
    assert world.run(good).success
    for assets in (DOWNSTREAM, ["verdict", *DOWNSTREAM], []):
        assert not world.run(evil, *assets).success
        assert_held(world, evil)
    assert world.channel("app") == world.release(good).digest


def test_a_sibling_that_passed_before_frees_nothing(world: World) -> None:
    good = world.known("app", "v1", GOOD)
    assert world.run(good).success
    evil = world.known("app", "v2", EVIL)
    assert not world.run(evil).success
    assert not world.run(evil, *DOWNSTREAM).success
    assert_held(world, evil)
    assert world.channel("app") == world.release(good).digest


def test_the_check_keeps_one_status_for_each_release(world: World) -> None:
    evil, good = world.known("app", "v1", EVIL), world.known("app", "v2", GOOD)
    for key in (evil, good):
        result = world.run(key)
        told = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        assert told["within_limits"] is (key == good)
        assert told["allowed"] is (key == good)
        assert told["verified"] is True


def test_a_check_reported_by_hand_frees_nothing(world: World) -> None:
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    for asset, name in (("verdict", "allowed"), ("vulnerabilities", "within_limits")):
        world.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey(asset), check_name=name, passed=True, metadata={})
        )
    assert not world.run(evil, *DOWNSTREAM).success
    assert_held(world, evil)


def test_a_materialization_reported_by_hand_frees_nothing(world: World) -> None:
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    world.instance.report_runless_asset_event(dg.AssetMaterialization("promotion", partition=evil))
    assert not world.run(evil, "replica/eu-west-1", "replica/gcp", "mirror/inside").success
    assert world.reached(evil) == set()


def test_a_refusal_is_not_retried(world: World) -> None:
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    result = world.run(evil, "promotion")
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert result.get_step_failure_events()


def test_a_release_that_does_not_go_to_a_target_is_not_copied_there(world: World) -> None:
    key = world.known("tool", "v1", GOOD)
    result = world.run(key)
    assert result.success, failures(result)
    assert world.reached(key) == {"gcp"}
    assert not result.asset_materializations_for_node("replica__eu_west_1")
    assert not result.asset_materializations_for_node("mirror__inside")


def test_a_key_that_is_no_release_is_refused_with_a_message(world: World) -> None:
    world.instance.add_dynamic_partitions("release", ["anything"])
    result = world.run("anything")
    assert not result.success
    assert "is not a release key" in failures(result)["provenance"]


def test_what_is_there_is_left_unchanged(world: World) -> None:
    good = world.known("app", "v1", GOOD)
    assert world.run(good).success
    again = world.run(good)
    assert again.success
    for node in ("sbom", "signature", "verdict", "promotion", "replica__eu_west_1", "replica__gcp", "mirror__inside"):
        (told,) = again.asset_materializations_for_node(node)
        assert told.metadata["changed"].value is False, node
        assert told.metadata["bytes_moved"].value == 0, node


def test_a_denied_run_tells_it_once(world: World, settings: Path) -> None:
    """The verdict is new, and the promotion is refused for the same reasons."""
    raw = yaml.safe_load(settings.read_text())
    raw["notify"] = {"command": [sys.executable, "-c", KEEP]}
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    evil = world.known("app", "v1", EVIL)
    assert world.steps(world.run(evil))["promotion"] == "failed"
    [told] = map(json.loads, (settings.parent / "told").read_text().splitlines())
    assert (told["event"], told["stage"]) == ("denied", "judge") and "leaky" in told["reasons"][0]


def test_a_target_that_is_down_is_tried_again_and_holds_up_no_other(
    world: World, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RETRY_AFTER_S", 0.01)
    raw = yaml.safe_load(settings.read_text())
    raw["registries"]["down"] = {"kind": "distribution", "host": "127.0.0.1:9"}
    raw["targets"]["gcp"]["registry"] = "down"
    raw["notify"] = {"command": [sys.executable, "-c", KEEP]}
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    good = world.known("app", "v1", GOOD)
    result = world.run(good)
    steps = world.steps(result)
    assert {step for step, end in steps.items() if end == "failed"} == {"replica__gcp"}
    again = [event.step_key for event in result.all_events if event.is_step_up_for_retry]
    assert again == ["replica__gcp"] * report.MAX_RETRIES
    assert "127.0.0.1:9" in failures(result)["replica__gcp"]
    assert world.reached(good) == {"eu-west-1", "dmz", "airgap"}
    run = world.instance.get_run_by_id(result.run_id)
    assert run and run.tags[report.OUTCOME_TAG] == "failed"
    [told] = map(json.loads, (settings.parent / "told").read_text().splitlines())  # once, after the last attempt
    assert (told["event"], told["stage"], told["release"]) == ("failed", "replica__gcp", world.release(good).key)
    assert "127.0.0.1:9" in told["what"]


def test_the_targets_of_a_run_are_one_plan_and_each_tells_its_own(world: World, settings: Path) -> None:
    """Counted at the source: what goes to two targets leaves it once."""
    good = world.known("app", "v1", GOOD)
    everything = [spec.key.to_user_string() for spec in world.defs.resolve_all_asset_specs()]
    assert world.run(good, *(each for each in everything if each in BEFORE_REPLICAS)).success
    layers = world.chain.registry("source").get_manifest("team/app", world.release(good).digest).content()
    assert isinstance(layers, Manifest)
    with FaultRegistry(world.chain.registry("source").name) as source:
        raw = yaml.safe_load(settings.read_text())
        raw["registries"]["source"] = {"kind": "distribution", "host": source.address}
        settings.write_text(yaml.safe_dump(raw))
        world.use(load(settings))
        result = world.run(good, "replica/eu-west-1", "replica/gcp")
        assert result.success, failures(result)
        read = Counter(each.target for each in source.seen if each.method == "GET" and "/blobs/" in each.target)
    assert {read[f"/v2/team/app/blobs/{layer.digest}"] for layer in layers.layers} == {1}
    for target in ("eu_west_1", "gcp"):
        [told] = result.asset_materializations_for_node(f"replica__{target}")
        assert told.metadata["changed"].value is True and told.metadata["blobs"].value
    assert world.reached(good) == {"eu-west-1", "gcp"}


def test_a_step_that_is_done_once_more_copies_to_its_own_target_alone(world: World) -> None:
    """ "Re-execute selected" in the UI: the new run has all assets of the old one, and the one step."""
    good = world.known("app", "v1", GOOD)
    for stage in ("sbom", "vulnerabilities", "sign", "judge", "promote"):
        assert getattr(world.chain, stage)(world.release(good)).ok
    keys = {dg.AssetKey(["replica", name]) for name in ("eu-west-1", "gcp")}
    job = world.defs.resolve_job_def("release").get_subset(asset_selection=keys)
    tags = {"dagster/partition": good}
    plan = create_execution_plan(job, step_keys_to_execute=["replica__gcp"], tags=tags)
    run = world.instance.create_run_for_job(job, plan, asset_selection=keys, tags=tags)
    assert execute_run(InMemoryJob(job), run, world.instance).success
    assert world.reached(good) == {"gcp"}
