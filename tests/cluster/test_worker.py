"""What a worker says that cannot work, before it takes a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from registry_pipelines.shared.membership import LAYOUT, Worker
from tests.doubles.workers import worker
from tests.needs import needed_module
from tests.patience import patient

TOP = Path(__file__).parents[2]
SETTINGS = TOP / "deploy" / "dagster" / "dagster.yaml"


def start(home: Path | None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a worker, which shall end by itself."""
    needed_module("dagster_celery", "cluster")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_PIPELINES", "DAGSTER"))}
    own |= {"DAGSTER_HOME": str(home)} if home else {}
    command = [sys.executable, "-m", "celery", "-A", "dagster_project.worker", "worker", "--concurrency", "1"]
    return subprocess.run(
        command, env={**own, **environment}, cwd=TOP, capture_output=True, text=True, timeout=patient(60), check=False
    )


def test_without_settings_that_launch_on_celery_it_does_not_start(tmp_path: Path) -> None:
    config = {"REGISTRY_PIPELINES_CONFIG": str(TOP / "deploy" / "demo" / "registry-pipelines.yaml")}
    nobody = start(None, **config)
    assert nobody.returncode == 8 and "there is no dagster.yaml in DAGSTER_HOME, which is not set" in nobody.stderr
    assert "Traceback" not in nobody.stderr
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    other = start(tmp_path, **config)
    assert other.returncode and "DefaultRunLauncher, and no Celery" in other.stderr


def test_without_a_configuration_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(SETTINGS.read_text())
    away = {"REGISTRY_PIPELINES_BROKER": "redis://127.0.0.1:1/0", "DAGSTER_POSTGRES_URL": "postgresql+psycopg2://a/b"}
    done = start(tmp_path, REGISTRY_PIPELINES_CONFIG=str(tmp_path / "none.yaml"), **away)
    assert done.returncode and "there is no configuration at" in done.stderr + done.stdout


def test_beside_workers_of_a_newer_layout_it_does_not_start(tmp_path: Path, postgres_url: str) -> None:
    """It is told who is at work, and what to do."""
    (tmp_path / "dagster.yaml").write_text(SETTINGS.read_text())
    newer = worker(postgres_url, Worker(layout=LAYOUT + 1))
    assert newer.membership.members()
    config = {"REGISTRY_PIPELINES_CONFIG": str(TOP / "deploy" / "demo" / "registry-pipelines.yaml")}
    done = start(tmp_path, **config, REGISTRY_PIPELINES_DATABASE=postgres_url)
    assert done.returncode
    assert f"the shared state has layout {LAYOUT + 1}" in done.stderr
    assert "Run the build that the other workers run" in done.stderr
