"""Ways around the gate that Dagster offers, or seems to: each is tried with a release that the policy refuses. What
holds is in the library, so no orchestrator's state ships anything; see docs/threat-model.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run

from dagster_project.people import PERSON_TAG, config_to_ask
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.tags import digest_at

if TYPE_CHECKING:
    from conftest import World

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}
DOWNSTREAM = ["promotion", "replica/eu-west-1", "replica/gcp", "mirror/inside"]
UP_TO_VERDICT = ["sbom", "vulnerabilities", "signature", "verdict"]


def failures(result: dg.ExecuteInProcessResult) -> str:
    """What the failed steps raised."""
    return "\n".join(
        event.step_failure_data.error_display_string for event in result.all_events if event.is_step_failure
    )


@dataclass(frozen=True)
class Refused:
    """A world with a release that was promoted, and the key of one that was judged and denied."""

    world: World
    key: str
    good: str

    @property
    def digest(self) -> Digest:
        return self.world.release(self.key).digest

    def held(self) -> bool:
        """Whether the denied digest is at its source alone, and the channel names the good one."""
        places = [self.world.chain.target_place("app", name) for name in ("eu-west-1", "gcp")]
        places += self.world.chain.mirror_places("app", "inside")
        there = [place for place in places if digest_at(place, self.digest) is not None]
        return not there and self.world.channel("app") == self.world.release(self.good).digest


@pytest.fixture(scope="module")
def denied(one_world: World) -> Refused:
    good, key = one_world.known("app", "v1", GOOD), one_world.known("app", "v2", EVIL)
    assert one_world.run(good).success
    assert not one_world.run(key).success
    return Refused(one_world, key, good)


@pytest.fixture(autouse=True)
def _held_before_and_after(denied: Refused) -> Iterator[None]:
    assert denied.held()
    yield
    assert denied.held()


def test_a_later_run_of_what_is_downstream_ships_nothing(denied: Refused) -> None:
    """Without a check in the run, after a good release was promoted, and with the verdict reported as made by hand."""
    world = denied.world
    world.instance.report_runless_asset_event(dg.AssetMaterialization("verdict", partition=denied.key))
    for asset in DOWNSTREAM:
        result = world.run(denied.key, asset)
        assert not result.success and "leaky" in failures(result)


def test_a_backfill_in_one_run_ships_nothing(denied: Refused) -> None:
    """With a policy of one run for all keys Dagster materializes a refused key beside good ones, and ends with
    COMPLETED_SUCCESS. Here a release is asked for by one key: a range of several is an error, and of one the gate's."""
    job = denied.world.defs.resolve_job_def("release")
    for first, last, why in ((denied.good, denied.key, "partition"), (denied.key, denied.key, "leaky")):
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        selected = [dg.AssetKey.from_user_string(each) for each in DOWNSTREAM]
        with pytest.raises(Exception, match=why):
            job.execute_in_process(
                instance=denied.world.instance, tags=tags, asset_selection=selected, run_config=QUIET
            )
    for definition in denied.world.defs.resolve_asset_graph().assets_defs:
        policy = definition.backfill_policy
        assert policy is None or policy.max_partitions_per_run == 1, definition.keys


@pytest.mark.parametrize(
    ("extra", "refused"),
    [
        ({"ops": {"promotion": {"config": {"force": True}}}}, True),
        ({"ops": {"promotion": {"config": {"promoted_by": "boss", "policy": "none"}}}}, True),
        ({"resources": {"chain": {"config": {"path": "elsewhere.yaml"}}}}, False),
        ({"ops": {"verdict": {"config": {"allow": True}}}}, False),
        ({"ops": {"promotion": {"inputs": {"verdict": True}}}}, True),
    ],
)
def test_the_launchpad_has_no_field_that_changes_an_answer(
    denied: Refused, extra: dict[str, Any], refused: bool
) -> None:
    """What is typed there beside a name is an error before anything runs, or, of a step and a resource that take no
    config, is not looked at."""
    job, options = denied.world.defs.resolve_job_def("release"), {"partition_key": denied.key, "raise_on_error": False}
    config = {**QUIET, **extra}
    if refused:
        with pytest.raises(dg.DagsterInvalidConfigError):
            job.execute_in_process(instance=denied.world.instance, run_config=config, **options)
    else:
        result = job.execute_in_process(instance=denied.world.instance, run_config=config, **options)
        assert not result.success and "leaky" in failures(result)


@pytest.mark.parametrize("job", ["promote", "release"])
def test_a_name_on_the_launchpad_lets_no_refused_release_go(denied: Refused, job: str) -> None:
    """A person lets go what is allowed, and nothing else; nor does a tag that says a proxy named somebody."""
    result = denied.world.defs.resolve_job_def(job).execute_in_process(
        instance=denied.world.instance,
        partition_key=denied.key,
        run_config={**QUIET, **config_to_ask("ciso@example.com")},
        tags={PERSON_TAG: "ciso@example.com"},
        raise_on_error=False,
    )
    assert not result.success and "leaky" in failures(result)


def test_a_refused_digest_under_another_tag_is_refused_as_that_too(denied: Refused) -> None:
    """As another version, as the version of a release that was promoted, and as the channel itself."""
    world, place = denied.world, denied.world.chain.place("app")
    content = place.registry.get_manifest(place.repository, denied.digest)
    place.registry.put_manifest(place.repository, content, tag="v9")
    renamed = world.add("app", "v9", denied.digest)
    result = world.run(renamed)
    assert not result.success and "leaky" in failures(result)
    borrowed = world.add("app", "v1", denied.digest)
    assert not world.run(borrowed, *DOWNSTREAM).success
    before = place.registry.get_manifest(place.repository, "prod")
    place.registry.put_manifest(place.repository, content, tag="prod")  # whoever may push can move any tag
    try:
        for asset in DOWNSTREAM[1:]:
            assert not world.run(renamed, asset).success
        assert world.reached(denied.key) == set()
    finally:
        place.registry.put_manifest(place.repository, before, tag="prod")


def test_a_version_that_is_pushed_again_after_its_verdict_is_promoted_as_neither(denied: Refused) -> None:
    world = denied.world
    good = world.known("app", "v5", GOOD, note="another")
    assert world.run(good, *UP_TO_VERDICT).success
    evil = world.push_to("source", "team/app", "v5", EVIL, note="pushed again").digest
    result = world.run(good, "promotion")
    assert not result.success and "a version tag never moves" in failures(result)
    again = world.add("app", "v5", evil)
    assert again != good and not world.run(again).success
    assert digest_at(world.chain.place("app"), "v5") == evil
    assert world.reached(again) == world.reached(good) == set()


def test_no_check_can_be_left_out_and_without_checks_the_gate_holds(denied: Refused) -> None:
    """A check is told by its asset's own step: Dagster refuses to run one without the other. A code location without
    checks would meet the gate all the same, as runs of what is downstream alone do."""
    job = denied.world.defs.resolve_job_def("release")
    everything = {dg.AssetKey.from_user_string(each) for each in (*UP_TO_VERDICT, *DOWNSTREAM)}
    with pytest.raises(dg.DagsterInvalidSubsetError, match="does not support subsetting"):
        job.get_subset(asset_selection=everything, asset_check_selection=set())
    bare = dg.define_asset_job("bare", selection=dg.AssetSelection.assets("verdict", "promotion").without_checks())
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Failed to resolve"):
        dg.Definitions.merge(denied.world.defs, dg.Definitions(jobs=[bare])).resolve_job_def("bare")


@pytest.mark.parametrize("step", ["promotion", "replica__gcp", "mirror__inside"])
def test_a_step_that_is_done_once_more_asks_again(denied: Refused, step: str) -> None:
    """ "Re-execute from failure", and of one step alone."""
    job, tags = denied.world.defs.resolve_job_def("release"), {"dagster/partition": denied.key}
    plan = create_execution_plan(job, step_keys_to_execute=[step], tags=tags)
    run = denied.world.instance.create_run_for_job(job, plan, tags=tags)
    assert not execute_run(InMemoryJob(job), run, denied.world.instance, raise_on_error=False).success


def test_forgetting_what_dagster_knows_of_a_release_frees_it_not(denied: Refused) -> None:
    """Its partition is deleted and added again, and everything that was recorded is wiped."""
    release, instance = denied.world.release(denied.key), denied.world.instance
    instance.delete_dynamic_partition("release", denied.key)
    instance.wipe_assets([dg.AssetKey.from_user_string(asset) for asset in (*UP_TO_VERDICT, *DOWNSTREAM)])
    assert denied.world.add(release.image, release.tag, release.digest) == denied.key
    for assets in ((), DOWNSTREAM):
        assert not denied.world.run(denied.key, *assets).success
