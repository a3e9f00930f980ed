"""The asset of the advisories: what it fetches, its freshness, its check, and what it says where nothing can be had."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.config import load
from tests.dagster_project.conftest import QUIET
from tests.doubles.osv_export import OsvExport, small_set


@pytest.fixture
def export() -> Iterator[OsvExport]:
    with OsvExport(small_set()) as export:
        yield export


def definitions(folder: Path, advisories: str) -> dg.Definitions:
    path = folder / "registry-pipelines.yaml"
    policies = "policies: {strict: {max_advisory_age: 3d}}\nschedules: {advisories: 15 4 * * *}"
    path.write_text(f"registries: {{}}\n{policies}\nadvisories: {advisories}\n")
    return build_definitions(load(path, {}))


def run(defs: dg.Definitions) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("nightly_advisories")
        return job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def test_the_nightly_update_is_an_asset_with_freshness_and_a_check(export: OsvExport, tmp_path: Path) -> None:
    defs = definitions(tmp_path, f"{{feed: '{export.url}', ecosystems: [PyPI, Debian]}}")
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == "advisories")
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=1.5)
    )
    schedule = defs.resolve_schedule_def("nightly_advisories_schedule")
    assert (schedule.cron_schedule, schedule.default_status) == ("15 4 * * *", dg.DefaultScheduleStatus.RUNNING)
    result = run(defs)
    [made] = result.asset_materializations_for_node("advisories")
    assert made.metadata["malicious"].value == 2 and made.metadata["digest"].value.startswith("sha256:")
    assert [(check.check_name, check.passed) for check in result.get_asset_check_evaluations()] == [
        ("young_enough", True)
    ]


def test_an_export_that_stands_still_fails_the_check(tmp_path: Path) -> None:
    with OsvExport(small_set(datetime.now(UTC) - timedelta(days=5))) as export:
        result = run(definitions(tmp_path, f"{{feed: '{export.url}', ecosystems: [PyPI]}}"))
    [check] = result.get_asset_check_evaluations()
    assert result.success and not check.passed and "5 days ago" in (check.description or "")


def test_what_cannot_be_fetched_ends_the_run_with_what_to_do(export: OsvExport, tmp_path: Path) -> None:
    export.missing.add(".*")
    result = run(definitions(tmp_path, f"{{feed: '{export.url}', ecosystems: [PyPI]}}"))
    assert not result.success and not result.asset_materializations_for_node("advisories")
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "the export has nothing for PyPI" in str(failed.event_specific_data)


@pytest.mark.parametrize("advisories", ["{feed: null}", "{source: osv}"])
def test_where_nothing_is_fetched_there_is_no_asset(tmp_path: Path, advisories: str) -> None:
    (tmp_path / "osv").mkdir()
    defs = definitions(tmp_path, advisories)
    assert "advisories" not in {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert not defs.resolve_all_job_defs() or "nightly_advisories" not in {
        job.name for job in defs.resolve_all_job_defs()
    }
