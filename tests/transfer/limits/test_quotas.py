"""Quotas that a source announces: obeyed by what is counted, by nothing else, and never waited for over hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import QuotaSpent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Quota
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.buckets import Bucket
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import FIRST_WINDOW, MachineLimits
from registry_pipelines.transfer.limits.quotas import LOOK_EVERY_S, QuotaGate
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, Rewrite, Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

MANIFESTS = r".*/manifests/.*"
HOURS = 21600
IMAGES = ("one", "two", "three")


def announced(remaining: int, window_s: int = HOURS) -> dict[str, str]:
    return {"ratelimit-limit": f"100;w={window_s}", "ratelimit-remaining": f"{remaining};w={window_s}"}


@pytest.fixture
def hub(source: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(source.address) as faults:
        yield faults


def test_a_spent_quota_stops_reading_of_manifests_and_nothing_else(
    source: Counted, hub: FaultRegistry, graphs: Graphs, connect: Callable[..., DistributionRegistry], tmp_path: Path
) -> None:
    layer = graphs.noise(5000)
    graphs.image(source.place("app"), layer, tag="v1")
    for method in ("GET", "HEAD"):
        hub.play(method, MANIFESTS, Rewrite(set=announced(0)))
    limits = MachineLimits(tmp_path)
    registry = limited(connect(hub.address), limits)
    top = registry.get_manifest("app", "v1")  # the last one that was given
    with pytest.raises(QuotaSpent, match=r"100 in 6 h") as spent:
        registry.get_manifest("app", "v1")
    assert HOURS - 60 < (spent.value.retry_after_s or 0) <= HOURS
    assert f"{hub.address}/app:v1" in str(spent.value)
    assert len(hub.requests("GET", MANIFESTS)) == 1
    assert registry.resolve("app", "v1").digest == top.digest
    assert list(registry.tags("app")) == ["v1"]
    assert registry.blob_size("app", top.content().layers[0].digest) == len(layer)  # type: ignore[union-attr]
    assert limits.window(hub.address, "read-manifest").size > FIRST_WINDOW
    other_process = limited(connect(hub.address), MachineLimits(tmp_path))
    with pytest.raises(QuotaSpent):
        other_process.get_manifest("app", "v1")
    assert len(hub.requests("GET", MANIFESTS)) == 1


def test_new_requests_are_found_out_by_a_question_that_is_not_counted(
    source: Counted, hub: FaultRegistry, graphs: Graphs, connect: Callable[..., DistributionRegistry], tmp_path: Path
) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    MachineLimits(tmp_path).quota(hub.address).observe(Quota(100, 0, HOURS))
    hub.play("HEAD", MANIFESTS, Rewrite(set=announced(100)))
    registry = limited(connect(hub.address), MachineLimits(tmp_path))
    assert registry.get_manifest("app", "v1").raw
    assert [(one.method, one.status) for one in hub.seen] == [("HEAD", 200), ("GET", 200)]


def test_a_sync_says_until_when_and_the_next_one_does_the_rest(
    source: Counted, hub: FaultRegistry, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    for name in IMAGES:
        graphs.image(source.place(name), graphs.noise(5000), tag="v1", config=name.encode())
    hub.play("GET", MANIFESTS, Rewrite(set=announced(0)), times=1)
    hub.play("GET", MANIFESTS, Status(429, announced(0)))
    registry = DistributionRegistry(hub.address)
    fleet = Source(registry, (OpenTarget(target.registry),), IMAGES)
    result = sync([fleet], engine=Engine(state=tmp_path / "state", limits=MachineLimits(tmp_path / "limits")))
    assert [type(each.error) for each in result.failures] == [QuotaSpent] * 2
    assert all("Run it again after" in str(each.error) for each in result.failures)
    assert [item.ok for item in result.results] == [True]
    hub.clear()
    hub.play("HEAD", MANIFESTS, Rewrite(set=announced(100)))
    hub.reset_counts()
    assert sync([fleet], engine=Engine(state=tmp_path / "state", limits=MachineLimits(tmp_path / "limits"))).ok
    assert len(hub.requests("GET", MANIFESTS)) == 2
    registry.close()
    assert all(compare(source.place(name), target.place(name), "v1") == [] for name in IMAGES)


class Clock:
    """Time that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def gate(self) -> QuotaGate:
        return QuotaGate(Bucket(None, clock=lambda: self.now), clock=lambda: self.now, sleep=self.sleep)


def test_a_short_window_is_waited_for_with_a_look_now_and_then() -> None:
    clock, looks = Clock(), list[float]()
    gate = clock.gate()
    gate.observe(Quota(10, 0, 60))
    gate.wait("hub/app", lambda: looks.append(clock.now))
    assert clock.now == 1060
    assert [later - sooner for sooner, later in pairwise(looks)] == [LOOK_EVERY_S] * 5


def test_the_end_of_the_window_does_not_move_while_nothing_is_left() -> None:
    clock = Clock()
    gate = clock.gate()
    gate.observe(Quota(10, 0, 100))
    clock.now += 90
    gate.observe(Quota(10, 0, 100))
    gate.wait("hub/app", lambda: None)
    assert clock.now == 1100


def test_the_patience_ends_before_a_long_window() -> None:
    clock = Clock()
    gate = clock.gate()
    gate.observe(Quota(10, 0, 121))
    with pytest.raises(QuotaSpent):
        gate.wait("hub/app", lambda: None)
    assert clock.slept == []


def test_few_requests_left_slow_nothing_down() -> None:
    clock = Clock()
    gate = clock.gate()
    gate.observe(Quota(10, 1, 3600))
    gate.wait("hub/app", lambda: pytest.fail("nobody has to look"))
    assert clock.slept == []
