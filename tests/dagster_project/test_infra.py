"""Declared settings of clouds and the lag of copies as assets: drift fails the check, an apply heals it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.release import Release
from tests.infra.cloud import Cloud, cloud
from tests.needs import needed_module
from tests.scan.images import push_image

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SETTINGS = {"repositories": [{"names": ["ml/a"], "immutable": True, "scan_on_push": True, "readers": ["222233334444"]}]}
COPIES = """
registries:
  eu: {{kind: distribution, host: "{0}"}}
  us: {{kind: distribution, host: "{1}"}}
images:
  app: {{registry: eu, repository: ml/app, targets: [us]}}
targets:
  us: {{registry: us, max_lag: 0s}}
policies: {{default: {{required: [], deny_warnings: []}}}}
signing: {{generate: true}}
"""


@pytest.fixture
def ecr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    needed_module("boto3", "aws")
    with cloud(tmp_path, monkeypatch) as made:
        yield made


def run(defs: dg.Definitions, job: str) -> tuple[dg.AssetCheckEvaluation, dg.AssetMaterialization]:
    """The one check and the one materialization of a run that ended well."""
    result = defs.resolve_job_def(job).execute_in_process(run_config=QUIET, raise_on_error=False)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    [event] = result.get_asset_materialization_events()
    return check, event.step_materialization_data.materialization


def test_a_setting_that_somebody_changed_fails_the_check_and_an_apply_heals_it(ecr: Cloud) -> None:
    chain = ecr.chain(SETTINGS)
    defs = build_definitions(chain.config, lambda: chain)
    [schedule] = [each for each in defs.schedules or [] if each.name == "infra_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "15 4 * * *"
    [spec] = [each for each in defs.resolve_all_asset_specs() if each.key.path == ["infra", "eu"]]
    assert spec.freshness_policy is not None
    assert chain.apply_infra("eu").ok
    check, shown = run(defs, "infra")
    assert check.passed and shown.metadata["action"].value == "as declared"
    assert shown.metadata["readers_rows"].value == 1

    ecr.here.repositories["ml/a"].mode = "MUTABLE"
    ecr.here.repositories["ml/a"].scan_on_push = False
    check, shown = run(defs, "infra")
    assert not check.passed and check.metadata["drifted"].value == 1
    told = str(check.description)
    assert "mutability is MUTABLE, declared IMMUTABLE" in told and "scan_on_push is false, declared true" in told
    assert "registry-pipelines infra apply eu" in told
    assert shown.metadata["update"].value == 1

    assert chain.apply_infra("eu").ok
    assert run(defs, "infra")[0].passed


def test_the_lag_of_each_edge_is_a_number_that_charts(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(tmp_path / name)) for name in ("eu", "us")]
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(COPIES.format(*(each.address for each in servers)))
        chain = Chain(load(path))
        defs = build_definitions(chain.config, lambda: chain)
        [schedule] = [each for each in defs.schedules or [] if each.name == "lag_schedule"]
        assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "*/30 * * * *"
        made = push_image(chain.place("app"), [{"etc/a": "1"}], tag="v1.0.0")
        release = Release("app", "v1.0.0", made.digest)
        assert run(defs, "lag")[0].passed, "nothing is promoted yet"
        assert chain.judge(release).ok
        chain.promote(release)
        check, shown = run(defs, "lag")
        assert not check.passed and "eu -> us app:prod is behind for" in str(check.description)
        assert float(str(shown.metadata["lag_s eu -> us"].value)) > 0
        assert chain.replicate(release, "us").ok
        check, shown = run(defs, "lag")
        assert check.passed and shown.metadata["lag_s eu -> us"].value == 0.0
        assert shown.metadata["behind"].value == 0
