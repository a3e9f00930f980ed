"""A fail-over in Dagster: what is looked at, and which check turns red for what."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, load
from tests.recover.failover.pairs import Pair, pair

__all__ = ["pair"]


def checks(config: Config) -> dict[str, bool]:
    defs = build_definitions(config, lambda: Chain(config))
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("hourly_failover").execute_in_process(instance=instance)
    [event] = result.get_asset_materialization_events()
    assert "answered_s us" in event.materialization.metadata
    return {each.check_name: bool(each.passed) for each in result.get_asset_check_evaluations()}


def test_a_registry_that_is_down_and_an_image_at_one_place_turn_their_own_checks_red(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks(load(pair.path)) == {"healthy": True, "second_place": True}
    pair.place("eu", "replica/team/app").registry.delete_manifest("replica/team/app", pair.digest)
    assert checks(load(pair.path)) == {"healthy": True, "second_place": False}
    pair.configure(us="127.0.0.1:9")
    assert checks(load(pair.path)) == {"healthy": False, "second_place": False}
