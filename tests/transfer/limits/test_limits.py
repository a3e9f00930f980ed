"""Windows, budgets and caps, with time that the test gives."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import InputError, NotFound, RateLimited
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.buckets import Bucket, CapWindow, cap_at
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import FIRST_WINDOW, MachineLimits, Window
from registry_pipelines.transfer.limits.rules import RegistryRule
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs


def spend(path: Path, moments: list[float]) -> float:
    """Several users of one bucket, each with its own object as a process has; returns the wait of the last."""
    now = iter(moments)
    wait = 0.0
    for _ in moments:
        wait = Bucket(path, clock=lambda: next(now)).reserve(1_000_000, 10_000_000)
    return wait


def test_rate_is_kept_by_all_users_of_the_file(tmp_path: Path) -> None:
    wait = spend(tmp_path / "rate", [1000.0] * 600)
    assert wait == pytest.approx(60, rel=0.05)


def reserve_in_process(path: str, count: int) -> None:
    bucket = Bucket(Path(path), clock=lambda: 1000.0)
    for _ in range(count):
        bucket.reserve(1, 1)


def test_processes_share_a_rate(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=reserve_in_process, args=(str(tmp_path / "rate"), 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Bucket(tmp_path / "rate", clock=lambda: 1000.0).wait_s() == pytest.approx(150, abs=1)


def test_window_is_halved_once_per_congestion_and_grows_with_success() -> None:
    window = Window(Bucket(None))
    for _ in range(3):
        window.note(RateLimited("slow down", retry_after_s=0))
    assert window.size == FIRST_WINDOW / 2
    window.note(NotFound("x", status=404))
    assert window.size == FIRST_WINDOW / 2
    for _ in range(8):
        with window.request():
            pass
    assert window.size == pytest.approx(FIRST_WINDOW / 2 + 1, abs=0.1)


def test_retry_after_stops_the_action_for_everybody(tmp_path: Path) -> None:
    limits, others = MachineLimits(tmp_path), MachineLimits(tmp_path)
    limits.window("r.example", "write-manifest").note(RateLimited("slow down", retry_after_s=250))
    assert 100 < Bucket(tmp_path / "r.example.write-manifest").wait_s() <= 250
    assert Bucket(tmp_path / "r.example.append").wait_s() == 0
    assert others.window("r.example", "append").size == FIRST_WINDOW


def test_attempts_that_the_client_repeats_are_learnt_from(
    source: Counted, connect: Callable[..., DistributionRegistry]
) -> None:
    with FaultRegistry(source.address) as faults:
        faults.play("GET", r".*/tags/list.*", Status(429, {"Retry-After": "0"}), times=1)
        limits = MachineLimits()
        registry = limited(connect(faults.address), limits)
        with pytest.raises(NotFound):
            list(registry.tags("nothing"))
        assert limits.window(faults.address, "read-manifest").size < FIRST_WINDOW
        assert limits.window(faults.address, "append").size == FIRST_WINDOW


def test_sync_within_limits_is_the_same_sync(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    graphs.image(source.place("app"), graphs.noise(12_000_000), tag="v1")
    limits = MachineLimits(
        tmp_path / "limits",
        caps={"*": (CapWindow.parse("500MB/s"),)},
        rules=(RegistryRule(".*", per_second={"append": 1000}),),
    )
    fleet = Source(source.registry, (OpenTarget(target.registry),))
    assert sync([fleet], engine=Engine(limits=limits, state=tmp_path / "state")).ok
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert Bucket(tmp_path / "limits" / f"{target.address.replace(':', '_')}.bytes").wait_s() >= 0
    assert (tmp_path / "limits" / f"{target.address.replace(':', '_')}.bytes").stat().st_size == 8


@pytest.mark.parametrize(
    ("text", "moment", "rate"),
    [
        ("20MB/s", "2026-11-23T12:00", 20_000_000),
        ("100Mbit/s", "2026-11-23T12:00", 12_500_000),
        ("20MB/s mon-fri 08:00-18:00", "2026-11-23T12:00", 20_000_000),
        ("20MB/s mon-fri 08:00-18:00", "2026-11-23T18:00", 0),
        ("20MB/s mon-fri 08:00-18:00", "2026-11-22T12:00", 0),
        ("5MB/s fri 22:00-06:00", "2026-11-28T05:59", 5_000_000),
        ("5MB/s fri 22:00-06:00", "2026-11-28T06:00", 0),
        ("5MB/s sat-mon", "2026-11-22T06:00", 5_000_000),
    ],
)
def test_calendar(text: str, moment: str, rate: int) -> None:
    assert cap_at((CapWindow.parse(text),), datetime.fromisoformat(moment)) == rate


def test_smallest_cap_wins() -> None:
    caps = (CapWindow.parse("20MB/s"), CapWindow.parse("5MB/s mon 00:00-12:00"))
    assert cap_at(caps, datetime.fromisoformat("2026-11-23T11:00")) == 5_000_000


@pytest.mark.parametrize("text", ["", "fast", "20MB", "20MB/s someday", "20MB/s 25:00-26:00", "0MB/s"])
def test_unreadable_caps_are_errors(text: str) -> None:
    with pytest.raises(InputError, match="bandwidth cap"):
        CapWindow.parse(text)
