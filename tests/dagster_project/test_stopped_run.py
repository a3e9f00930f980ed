"""A Dagster run that is cancelled or killed while a sync sends a large layer: the next run does the rest."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.memory import PART_BYTES
from tests.chain.fleet import start
from tests.chain.killing import address, configure, push_large, stop_and_run_again
from tests.doubles.fault_registry import FaultRegistry

RUN = [sys.executable, "-m", "dagster", "job", "execute", "-m", "dagster_project.definitions", "-j", "nightly_sync"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_leaves_a_journal_for_the_next(how: signal.Signals, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        source, target = (stack.enter_context(FaultRegistry(address(fleet, name))) for name in ("us", "eu"))
        configure(fleet, source, target)
        push_large(Place(fleet.chain.registry("us"), "big/app"))
        environment = {**os.environ, "DAGSTER_HOME": str(home), "REGISTRY_PIPELINES_CONFIG": str(fleet.path)}
        code, again = stop_and_run_again(fleet, (source, target), RUN, how, environment)
    assert code != 0
    assert again <= PART_BYTES + 100_000
