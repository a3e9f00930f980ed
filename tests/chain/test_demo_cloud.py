"""`make demo-cloud` as far as it builds nothing: both clouds start, settings are made so, drift is seen."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.config import load
from tests.answers import answered
from tests.needs import needed_module

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "demo-cloud" / "run.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; the environment is as before afterwards."""
    needed_module("boto3", "aws")
    needed_module("google.cloud.artifactregistry_v1", "google")
    before = dict(os.environ)
    spec = importlib.util.spec_from_file_location("demo_cloud", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    os.environ.clear()
    os.environ.update(before)


def run(demo: ModuleType, *arguments: str, code: int = 0) -> str:
    ran = CliRunner().invoke(main, [*arguments, "--config", str(demo.CONFIG), "--json"])
    assert ran.exit_code == code, ran.output
    return ran.stdout


def test_both_clouds_are_set_up_and_a_change_behind_our_back_is_drift(demo: ModuleType, tmp_path: Path) -> None:
    os.environ["AWS_PROFILE"] = "production"
    with demo.clouds(tmp_path) as (environment, meddle):
        assert "AWS_PROFILE" not in os.environ
        assert {each.removeprefix("${").removesuffix("}") for each in demo_variables()} <= set(environment)
        run(demo, "infra", "apply")
        run(demo, "infra", "drift")
        diagnoses = answered(run(demo, "doctor"))["diagnoses"]
        assert [each["answers"] for each in diagnoses] == [[], [], []]
        meddle()
        drifted = json.loads(run(demo, "infra", "drift", code=3))["result"]["results"]
        assert [row["ok"] for row in drifted] == [False, True]
        assert "ml/forecaster" in "".join(drifted[0]["reasons"])
        assert not load(demo.CONFIG).state.is_relative_to(ROOT)


def demo_variables() -> set[str]:
    """Every variable that the configuration names."""
    lines = (SCRIPT.parent / "registry-pipelines.yaml").read_text().splitlines()
    return {line.rpartition(": ")[2] for line in lines if line.rpartition(": ")[2].startswith("${")}
