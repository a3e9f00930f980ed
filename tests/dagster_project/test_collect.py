"""Collection in Dagster: a plan is read, approved by its digest, applied, undone; partitions follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dagster_project.assets.collect import collected, quarantine, retention
from dagster_project.definitions import build_definitions
from dagster_project.partitions import add_releases, release_keys
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, load
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.collect.test_garbage import grow_old
from tests.collect.test_retention import note, push
from tests.disk import bytes_below

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SETTINGS = """
registries: {here: {kind: layout, root: content}}
images: {app: {registry: here, repository: team/app}}
retention: [{registry: here, keep_newest: 1, keep_days: 0}]
signing: {generate: true}
"""


def configured(folder: Path, more: str = "") -> Config:
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS + more)
    return load(path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(LayoutRegistry(tmp_path / "content"), "team/app")
    for number in range(3):
        note(made, push(made, f"v{number}.0.0", days_ago=100 - number), "about it")
    return made


def run(config: Config, instance: dg.DagsterInstance, asset: Any, **settings: str) -> dg.ExecuteInProcessResult:
    made = asset("here")
    chosen = {"ops": {made.op.name: {"config": settings}}} if settings else {}
    defs = build_definitions(config, lambda: Chain(config))
    return dg.materialize(
        [made],
        instance=instance,
        resources={name: defs.resources[name] for name in ("chain",)} if defs.resources else None,
        run_config={**QUIET, **chosen},
        raise_on_error=False,
        selection=[made.key],
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata is not None
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_plan_is_approved_by_its_digest_and_undone(tmp_path: Path, place: Place) -> None:
    config, tags = configured(tmp_path), place.registry.tags
    with dg.DagsterInstance.ephemeral() as instance:
        keys = add_releases(instance, Chain(config), Chain(config).releases())
        assert len(keys) == 3
        plan = metadata(run(config, instance, retention))
        assert "stays" in plan["before_and_after"] and plan["delete"] == 2
        pasted = yaml.safe_load(plan["launchpad"].removeprefix("```yaml").removesuffix("```"))
        assert pasted == {"ops": {collected("here").op.name: {"config": {"plan": plan["digest"]}}}}
        applied = metadata(run(config, instance, collected, plan=plan["digest"]))
        assert (applied["releases_forgotten"], applied["quarantine_days"]) == (2, 14)
        assert [key.split("@")[0] for key in release_keys(instance)] == ["app:v2.0.0"]
        assert list(tags("team/app")) == ["v2.0.0"]
        again = metadata(run(config, instance, collected, plan=plan["digest"]))
        assert again["action"] == "unchanged" and "was applied at" in again["notes"]
        kept = run(config, instance, quarantine)
        assert (metadata(kept)["images"], metadata(kept)["purged"]) == (2, 0)
        assert [check.passed for check in kept.get_asset_check_evaluations()] == [True]
        asked = {"registry": "here", "plan": plan["digest"]}
        undo = build_definitions(config, lambda: Chain(config)).resolve_job_def("undo_collect")
        done = undo.execute_in_process(
            run_config={**QUIET, "ops": {"brought_back": {"config": asked}}}, instance=instance
        )
        assert done.success and set(release_keys(instance)) == set(keys.values())
        assert sorted(tags("team/app")) == ["v0.0.0", "v1.0.0", "v2.0.0"]


def test_nothing_goes_that_nobody_approved(tmp_path: Path, place: Place) -> None:
    config = configured(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not run(config, instance, collected).success
        assert not run(config, instance, collected, plan=f"sha256:{'0' * 64}").success
    assert len(list(place.registry.tags("team/app"))) == 3
    defs = build_definitions(config)
    assert "collect_schedule" not in {each.name for each in defs.schedules or ()}


def test_by_night_what_is_over_goes_and_its_bytes_are_free(tmp_path: Path, place: Place) -> None:
    config = configured(tmp_path, "collect: {quarantine: 0}\n")
    content = tmp_path / "content"
    before = bytes_below(content)
    with dg.DagsterInstance.ephemeral() as instance:
        plan = metadata(run(config, instance, retention))
        assert run(config, instance, collected, plan=plan["digest"]).success
        assert metadata(run(config, instance, quarantine))["blobs_freed"] == 0, "somebody may push just now"
        grow_old(content)
        done = metadata(run(config, instance, quarantine))
        assert done["blobs_freed"] > 0 and done["blob_bytes_freed"] > 0
        assert bytes_below(content) <= before - plan["freed_bytes"]
        assert list(place.registry.tags("team/app")) == ["v2.0.0"]


def test_where_the_configuration_says_so_it_goes_by_itself_each_week(tmp_path: Path, place: Place) -> None:
    config = configured(tmp_path, "collect: {apply: auto, quarantine: 1}\n")
    defs = build_definitions(config, lambda: Chain(config))
    crons = {each.name: each.cron_schedule for each in defs.schedules or () if isinstance(each, dg.ScheduleDefinition)}
    assert (crons["collect_schedule"], crons["purge_schedule"]) == ("0 6 * * 0", "30 5 * * *")
    done = defs.resolve_job_def("collect").execute_in_process(run_config=QUIET)
    assert done.success and list(place.registry.tags("team/app")) == ["v2.0.0"]
