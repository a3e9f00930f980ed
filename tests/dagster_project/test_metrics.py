"""Numbers as an asset: charted, told, fresh, and red where a source fails; what must be fresh says so."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, load
from tests.chain.fleet import start
from tests.needs import needed_module

MORE = "backups:\n  nightly: {registries: [us], to: private}\nreport: {metrics: {to: [prometheus], file: r.prom}}\n"


def ran(config: Config) -> tuple[dg.AssetCheckEvaluation, dg.AssetMaterialization]:
    defs = build_definitions(config, lambda: Chain(config))
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("half_hourly_metrics").execute_in_process(instance=instance)
    [check] = result.get_asset_check_evaluations()
    [event] = result.get_asset_materialization_events()
    return check, event.step_materialization_data.materialization


def test_numbers_are_told_and_charted_and_a_missing_backup_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("pandas", "inventory")
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        assert "metrics" not in {each.key.to_user_string() for each in definitions(fleet.config)}, "nobody asked for it"
        fleet.path.write_text(fleet.path.read_text() + MORE)
        config = load(fleet.path, {})
        check, shown = ran(config)
        assert not check.passed and "there is no backup yet" in (check.description or "")
        assert shown.metadata["registry_images us"].value == 0
        assert (tmp_path / "r.prom").read_text().startswith("# HELP registry_pipelines_")
        Chain(config).backup("nightly")
        assert Chain(config).drill("nightly", start=False).ok
        check, shown = ran(config)
        assert "backup_age_seconds nightly" in shown.metadata and "upstreams" not in (check.description or "backup")


def definitions(config: Config) -> list[dg.AssetSpec]:
    return list(build_definitions(config, lambda: Chain(config)).resolve_all_asset_specs())


def test_everything_that_must_be_fresh_has_a_policy(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        text = fleet.path.read_text().replace("advisories: {source: advisories}\n", "")
        feed = "advisories: {feed: 'https://osv.example.com'}\nretention: [{registry: us, keep_newest: 3}]\n"
        fleet.path.write_text(text + feed + MORE)
        found = {each.key.to_user_string(): each.freshness_policy for each in definitions(load(fleet.path, {}))}
    fresh = ("metrics", "advisories", "backup/nightly", "drill/nightly", "inventory/us", "upstreams/airgap")
    assert [name for name in fresh if found[name] is None] == []
    assert found["replication_lag"] is not None
