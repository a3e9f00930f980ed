"""A Dagster run that is cancelled or killed while a sync sends a large layer: the next run does the rest."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from tests.chain.fleet import Fleet, start
from tests.chain.killing import (
    LIMIT_S,
    address,
    configure,
    held_in_the_middle,
    push_large,
    run_again,
    stop_and_run_again,
    wait_for_parts,
)
from tests.doubles.fault_registry import FaultRegistry
from tests.ports import free_ports

DAGSTER = [sys.executable, "-m", "dagster"]
RUN = [*DAGSTER, "job", "execute", "-m", "dagster_project.definitions", "-j", "nightly_sync"]
SETTINGS = """\
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


def prepare(folder: Path, stack: ExitStack) -> tuple[Fleet, tuple[FaultRegistry, FaultRegistry], dict[str, str]]:
    """A sync between two registries behind proxies, and the environment of a Dagster home for it."""
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS)
    fleet = start(folder, stack)
    source, target = (stack.enter_context(FaultRegistry(address(fleet, name))) for name in ("us", "eu"))
    configure(fleet, source, target)
    push_large(Place(fleet.chain.registry("us"), "big/app"))
    environment = {**os.environ, "DAGSTER_HOME": str(home), "REGISTRY_PIPELINES_CONFIG": str(fleet.path)}
    return fleet, (source, target), environment


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_leaves_a_journal_for_the_next(how: signal.Signals, tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet, proxies, environment = prepare(tmp_path, stack)
        code, again = stop_and_run_again(fleet, proxies, RUN, how, environment)
    assert code != 0
    assert again <= PART_BYTES + 100_000


def test_a_cancelled_run_leaves_a_journal_for_the_next(tmp_path: Path) -> None:
    """Cancelled as the UI does it: Dagster's launcher asks the code server, which interrupts the run's process."""
    with ExitStack() as stack:
        fleet, proxies, environment = prepare(tmp_path, stack)
        log = tmp_path / "server.log"
        [port] = free_ports(1)
        server = [*DAGSTER, "api", "grpc", "-m", "dagster_project.definitions", "-h", "127.0.0.1", "-p", str(port)]
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]):
            pass  # its database is made here: two processes that make it at once break it
        output = stack.enter_context(log.open("wb"))
        process = stack.enter_context(subprocess.Popen(server, env=environment, stdout=output, stderr=output))
        stack.callback(process.terminate)
        with held_in_the_middle(proxies[0]):
            launch(port, environment, lambda: process.poll() is not None, log)
            wait_for_parts(fleet, lambda: process.poll() is not None, log)
            assert cancel(Path(environment["DAGSTER_HOME"])) == dg.DagsterRunStatus.CANCELED
        again = run_again(fleet, proxies, RUN, environment)
    assert again <= PART_BYTES + 100_000


def launch(port: int, environment: dict[str, str], ended: Callable[[], bool], log: Path) -> None:
    """Start the job through the code server, as soon as that listens."""
    until = time.monotonic() + LIMIT_S
    while not listens(port):
        assert not ended() and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    command = [*DAGSTER, "job", "launch", "--grpc-host", "127.0.0.1", "--grpc-port", str(port), "-j", "nightly_sync"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cancel(home: Path) -> dg.DagsterRunStatus:
    """Terminate the only run; how it ended."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [run] = instance.get_runs()
        assert instance.run_launcher.terminate(run.run_id)
        until = time.monotonic() + LIMIT_S
        while not (found := instance.get_run_by_id(run.run_id)) or not found.is_finished:
            assert time.monotonic() < until, found
            time.sleep(0.1)
        return found.status
