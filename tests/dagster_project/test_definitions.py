"""What the code location defines, compared with definitions.json; nothing is opened or asked for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dagster_project.definitions import build_definitions
from dagster_project.partitions import RELEASES
from dagster_project.resources import DEMO_CONFIG, config_path, prepare_home
from registry_pipelines.config import load
from registry_pipelines.errors import InputError

ROOT = Path(__file__).parent.parent.parent
SNAPSHOT = Path(__file__).with_name("definitions.json")


def describe(defs: dg.Definitions) -> dict[str, Any]:
    """Everything that should not change unnoticed, sorted: the order changes between processes."""
    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    return {
        "assets": {
            spec.key.to_user_string(): {
                "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
                "group": spec.group_name,
                "owners": sorted(spec.owners),
                "kinds": sorted(spec.kinds),
                "partitions": getattr(spec.partitions_def, "name", None) or type(spec.partitions_def).__name__,
                "condition": spec.automation_condition is not None,
            }
            for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key)
        },
        "checks": {
            key.to_user_string(): {
                "blocking": (spec := graph.get_check_spec(key)).blocking,
                "partitions": getattr(spec.partitions_def, "name", None),
            }
            for key in sorted(graph.asset_check_keys)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: [sensor.default_status.value, sensor.minimum_interval_seconds]
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
        "schedules": {
            schedule.name: [schedule.default_status.value, schedule.cron_schedule, schedule.execution_timezone]
            for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
        },
        "executor": repository.get_job("release").executor_def.name,
    }


def demo_definitions() -> dg.Definitions:
    return build_definitions(load(DEMO_CONFIG))


def test_definitions_are_as_recorded() -> None:
    found = json.dumps(describe(demo_definitions()), indent=1) + "\n"
    if os.environ.get("RP_UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), "run this test with RP_UPDATE_SNAPSHOT=1 and read the difference"


def test_definitions_load_without_warnings_with_and_without_builds(settings: Path) -> None:
    dg.Definitions.validate_loadable(demo_definitions())
    dg.Definitions.validate_loadable(build_definitions(load(settings)))


ALL_ROUND = """\
registries:
  us: {kind: embedded, port: 5011, access_log: us.jsonl}
  eu: {kind: embedded, port: 5012}
  ecr:
    kind: ecr
    account: "111122223333"
    region: eu-west-1
    events: {sqs: "https://sqs.eu-west-1.amazonaws.com/111122223333/pushes"}
images:
  app: {registry: us, repository: team/app, targets: [eu]}
targets: {eu: {registry: eu}}
retention: [{registry: us, keep_newest: 3}]
backups:
  nightly: {registries: [us], to: eu}
failover:
  prod: {registries: [us, eu]}
report:
  teams: {apps: ["team/*"]}
  audit: {sources: {us: {kind: access-log, registry: us}}}
  metrics: {to: [prometheus], file: numbers.prom}
"""


def test_all_of_a_configuration_loads_at_once(tmp_path: Path) -> None:
    """Dagster refuses a whole code location where a job has the name of an unpartitioned asset that is one word."""
    (tmp_path / "all.yaml").write_text(ALL_ROUND)
    defs = build_definitions(load(tmp_path / "all.yaml", {}))
    dg.Definitions.validate_loadable(defs)
    shown = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    asked = {"cost", "audit", "metrics", "custody", "maturity", "events", "failover/prod", "failover_drill/prod"}
    assert asked | {"backup/nightly", "drill/nightly", "replication_lag"} <= shown


def test_every_release_check_is_partitioned_and_none_blocks_before_the_gate() -> None:
    """An unpartitioned check has one status for all releases: a good one would free a refused one. One that blocks ends
    the run with an error of Dagster's own before the gate says why."""
    graph = demo_definitions().resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    fleet = (*("audit", "cost", "custody", "maturity"), "interventions", "replication_lag", "inventory", "quarantine")
    # they free nothing
    specs = [each for each in specs if each.asset_key.path[0] not in fleet]
    before = ("streaming_index", "image_advice", "vulnerabilities", "signature", "verdict", "promotion", "release_page")
    blocking = {**dict.fromkeys(before, False), "replica": True}
    assert {spec.asset_key.path[0]: spec.blocking for spec in specs} == blocking
    assert all(getattr(spec.partitions_def, "name", "") == "release" for spec in specs)


def test_materialize_all_asks_for_releases() -> None:
    """Dagster's button asks for the partitions of the root of what it runs: they must be releases. What is not run
    never stands in it, and is no reason for it to warn."""
    graph = demo_definitions().resolve_asset_graph()
    asked = {graph.get(key).partitions_def for key in graph.executable_asset_keys}
    assert asked == {RELEASES, None}
    assert not graph.get(dg.AssetKey("image")).is_executable
    assert graph.get(dg.AssetKey("provenance")).parent_keys == {dg.AssetKey("image")}


def test_no_asset_takes_many_releases_in_one_run() -> None:
    """A single-run backfill of a downstream asset materializes refused keys, and ends as a success."""
    graph = demo_definitions().resolve_asset_graph()
    for key in graph.executable_asset_keys:
        assert graph.get(key).backfill_policy is None, key


def test_assets_say_who_owns_them_and_what_they_are() -> None:
    for spec in demo_definitions().resolve_all_asset_specs():
        assert spec.owners, spec.key
        assert len(spec.description or "") > 40, spec.key
        assert 1 <= len(spec.kinds) <= 3, spec.key
        assert spec.code_version, spec.key


def test_both_workspaces_name_the_code_location_alike() -> None:
    """The checkout's, for ``dagster dev -w``, and the package's, for ``registry-pipelines dev``."""
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    (packaged,) = yaml.safe_load((ROOT / "dagster_project" / "workspace.yaml").read_text())["load_from"]
    assert packaged["python_module"].items() <= entry["python_module"].items()
    assert packaged["python_module"]["location_name"] == "registry_pipelines"
    assert entry["python_module"]["module_name"] == "dagster_project.definitions"
    # With this table `dagster dev` ignores workspace.yaml, silently: it must be the same location.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["code_location_target_module"] == entry["python_module"]["module_name"]
    assert project["code_location_name"] == entry["python_module"]["location_name"]


def test_the_library_never_imports_dagster() -> None:
    """`import dagster` costs 1.4 s and 69 MB; the command line and the embedded server live without it."""
    program = (
        "import importlib, pkgutil, sys, registry_pipelines\n"
        "for found in pkgutil.walk_packages(registry_pipelines.__path__, 'registry_pipelines.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "assert len([name for name in sys.modules if name.startswith('registry_pipelines.')]) > 50\n"
        "bad = [name for name in sys.modules if name.split('.')[0] in ('dagster', 'dagster_project')]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_code_location_reads_no_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "REGISTRY_PIPELINES_CONFIG": str(tmp_path / "missing.yaml"), "PYTHONPATH": str(ROOT)}
    program = "import dagster_project.definitions"
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_the_configuration_is_found_in_this_order(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert config_path({}) == DEMO_CONFIG
    monkeypatch.chdir(tmp_path)
    assert config_path({}) == settings
    assert config_path({"REGISTRY_PIPELINES_CONFIG": str(DEMO_CONFIG)}) == DEMO_CONFIG
    with pytest.raises(InputError, match=r"no configuration at /nowhere\.yaml.*REGISTRY_PIPELINES_CONFIG"):
        config_path({"REGISTRY_PIPELINES_CONFIG": "/nowhere.yaml"})


def test_dagsters_home_keeps_the_operators_settings(settings: Path) -> None:
    config = load(settings)
    home = prepare_home(config)
    assert home == config.state / "dagster"
    assert yaml.safe_load((home / "dagster.yaml").read_text())["telemetry"] == {"enabled": False}
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    assert (prepare_home(config) / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"
