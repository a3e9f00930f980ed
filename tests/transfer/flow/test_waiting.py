"""What a copy waits for is told while it waits. The trouble ends only once somebody was told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from registry_pipelines import waits
from registry_pipelines.cli import main
from registry_pipelines.errors import RateLimited
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, HoldAnswer, Status
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell after a third of a second instead of five."""
    monkeypatch.setattr(waits, "TELL_AFTER_S", 0.3)
    monkeypatch.setattr(waits, "LOOK_EVERY_S", 0.05)


class EndsTheTrouble(Silent):
    """Ends it when the wait for this reason is told; a busy machine may wait for other things too."""

    def __init__(self, reason: str, end: Callable[[], None]) -> None:
        self._reason, self._end = reason, end
        self.told: list[tuple[str, float | None]] = []

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        if reason == self._reason:
            self.told.append((host, left_s))
            self._end()


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [("GET", r".*/blobs/sha256:.*", "the rest of its answer"), ("PUT", r".*/manifests/.*", "storing a manifest")],
)
def test_a_body_that_stands_still_and_an_answer_that_does_not_come(
    source: Counted,
    target: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    method: str,
    path: str,
    reason: str,
) -> None:
    graphs.image(source.place("app"), graphs.noise(300_000), tag="v1")
    held = HoldAnswer(threading.Event(), after_bytes=1000 if method == "GET" else -1)
    with FaultRegistry((source if method == "GET" else target).address) as faults:
        faults.play(method, path, held)
        faulty = Place(connect(faults.address), "app")
        here, there = (faulty, target.place("app")) if method == "GET" else (source.place("app"), faulty)
        progress = EndsTheTrouble(reason, held.release.set)
        copy_closure(here, "v1", [there], engine=Engine(progress=progress))
    assert (faults.address, None) in progress.told
    assert compare(source.place("app"), target.place("app"), "v1") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("PUT", r".*/manifests/.*", 503, "storing a manifest was answered with HTTP 503"),
        ("POST", r".*/blobs/uploads/.*", 500, "opening an upload was answered with HTTP 500"),
    ],
)
def test_a_target_that_is_tried_again_and_again(
    source: Counted,
    target: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    method: str,
    path: str,
    status: int,
    reason: str,
) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    with FaultRegistry(target.address) as faults:
        faults.play(method, path, Status(status))
        progress = EndsTheTrouble(reason, faults.clear)
        there = Place(connect(faults.address, retries=Retries(attempts=1)), "app")
        copy_closure(source.place("app"), "v1", [there], engine=Engine(progress=progress))
    [(host, left_s)] = progress.told
    assert host == faults.address
    assert left_s is not None and 0 < left_s < 120


def test_a_pause_that_the_registry_asked_for(source: Counted, target: Counted, graphs: Graphs) -> None:
    """The pause is in the limits already when the copy comes, as after another process's 429."""
    graphs.image(source.place("app"), b"layer", tag="v1")
    limits = MachineLimits()
    limits.window(target.address, "write-manifest").note(RateLimited("slow down", retry_after_s=patient(1)))
    progress = EndsTheTrouble("its limit of requests", lambda: None)
    copy_closure(
        source.place("app"), "v1", [Place(limited(target.registry, limits), "app")], engine=Engine(progress=progress)
    )
    assert [host for host, _ in progress.told] == [target.address]


def test_the_command_line_says_it_in_one_line(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    graphs.image(source.place("app"), b"layer", tag="v1")
    with FaultRegistry(target.address) as faults:
        faults.play("PUT", r".*/manifests/.*", Status(429, {"Retry-After": "1"}), times=2)
        done = CliRunner().invoke(main, ["copy", f"{source.address}/app:v1", f"{faults.address}/app"])
        assert done.exit_code == 0, done.output
    told = [line for line in done.stderr.splitlines() if line.startswith("waiting for") and "429" in line]
    assert told == [f"waiting for {faults.address}: storing a manifest was answered with HTTP 429, 1 s left"]
