"""Backups that are killed, that run while people push, and whose store fails or is full."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import Fleet, push, start
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.patience import patient

PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


def keep(fleet: Fleet, vault: str) -> None:
    text = fleet.path.read_text().replace("registries:\n", f"registries:\n  vault: {vault}\n")
    fleet.path.write_text(text + "backups:\n  nightly: {registries: [us], to: vault}\n")


def run(fleet: Fleet, *words: str, code: int | None = 0) -> dict[str, object]:
    ran = CliRunner().invoke(main, ["recover", *words, "--config", str(fleet.path), "--json"])
    assert code is None or ran.exit_code == code, (ran.output, ran.stderr)
    document = json.loads(ran.stdout)
    [result] = document["result"]["results"] if document["result"] else [document["error"]]
    return dict(result)


def place_of(fleet: Fleet, repository: str) -> Place:
    return Place(DistributionRegistry(fleet.chain.place("app").registry.name), repository)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_backup_killed_at_twenty_points_is_whole_at_the_next_run(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}")
    for number in range(30):
        push(place_of(fleet, f"team/app-{number % 5}"), f"v{number}", package=f"wheel{number}")
    random.seed(20)
    command = [PROGRAM, "recover", "backup", "--config", str(fleet.path), "--quiet"]
    begin = time.monotonic()
    subprocess.run([*command[:2], "list", *command[3:]], capture_output=True, check=False)
    start_s, killed = time.monotonic() - begin, 0
    while killed < 20:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(start_s * random.uniform(0.3, 2.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait(patient(60))
        push(place_of(fleet, "team/app-0"), f"more{killed}", package=f"more{killed}")
    assert run(fleet, "backup")["ok"]
    done = run(fleet, "drill", "--no-start")
    assert done["ok"], done
    assert done["facts"]["images"] >= 50  # type: ignore[index]
    assert run(fleet, "restore", "--prefix", "back")["ok"]


def test_people_push_while_a_backup_runs(fleet: Fleet) -> None:
    keep(fleet, "{kind: store, address: vault}")
    place, over = place_of(fleet, "team/app"), threading.Event()
    for number in range(6):
        push(place, f"v{number}", package=f"wheel{number}")

    def move() -> None:
        number = 0
        while not over.is_set():
            push(place, "latest", package=f"moving{number % 7}")
            number += 1

    pushing = threading.Thread(target=move)
    pushing.start()
    try:
        made = [run(fleet, "backup") for _ in range(3)]
    finally:
        over.set()
        pushing.join()
    assert all(each["ok"] for each in made), made
    assert run(fleet, "drill", "--no-start")["ok"]


@pytest.mark.long
def test_a_store_that_fails_or_is_full_costs_nothing_that_was_kept(fleet: Fleet) -> None:
    push(place_of(fleet, "team/app"), "v1")
    with s3_server() as s3, FaultRegistry(s3.removeprefix("http://")) as front:
        keep(
            fleet,
            f"{{kind: store, address: 's3://{BUCKET}/x', region: {REGION}, endpoint: 'http://{front.address}'}}",
        )
        front.play("PUT", r"/backups/x/blobs/.*", Status(503), times=3)
        first = run(fleet, "backup")
        assert first["ok"]  # it asked again
        push(place_of(fleet, "team/app"), "v2", package="otherwheel")
        front.play("PUT", r"/backups/x/blobs/.*", Status(507))
        full = run(fleet, "backup", code=None)
        assert not full.get("ok"), full
        front.clear()
        assert run(fleet, "restore", "--prefix", "kept")["facts"]["images"] == 1  # type: ignore[index]
        assert run(fleet, "backup")["ok"]
