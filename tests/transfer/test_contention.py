"""Large blobs that share memory, windows and targets: none may stop another for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.transfer.blob.memory import BUDGET_BYTES, PART_BYTES
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, HoldAnswer

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

ALL_OF_MEMORY = BUDGET_BYTES + 3 * PART_BYTES + 5


@pytest.mark.timeout(60)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "session"])
def test_a_narrow_window_and_full_memory_do_not_wait_for_each_other(
    whole: bool, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """One blob has the only place at the registry and needs memory, which others hold that want the place."""
    for name in ("a", "b", "c"):
        graphs.image(source.place(name), graphs.noise(ALL_OF_MEMORY // 2, ord(name)), tag="v1")
    place = OpenTarget(LayoutRegistry(tmp_path / "layouts") if whole else target.registry)
    limits = MachineLimits()
    limits.window(place.registry.name, "append").size = 1.0
    result = sync([Source(source.registry, (place,))], engine=Engine(state=tmp_path / "state", limits=limits))
    assert result.ok, [item.error for item in result.results]
    for name in ("a", "b", "c"):
        assert compare(source.place(name), place.place(name), "v1") == []


class Releases(Silent):
    """Lets the slow registry answer once the quick one has all of its blob."""

    def __init__(self, wanted: int, release: threading.Event) -> None:
        self._left, self._release = wanted, release

    def advance(self, task: str, byte_count: int) -> None:
        if "quick" in task:
            self._left -= byte_count
            if self._left <= 0:
                self._release.set()


@pytest.mark.timeout(60)
def test_a_target_that_stands_still_leaves_memory_to_the_others(
    source: Counted,
    target: Counted,
    start_embedded: Callable[..., Counted],
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.image(source.place("slow"), graphs.noise(ALL_OF_MEMORY, 1), tag="v1")
    graphs.image(source.place("quick"), graphs.noise(2 * ALL_OF_MEMORY), tag="v1")
    release, other = threading.Event(), start_embedded()
    with FaultRegistry(target.address) as held:
        held.play("PATCH", r".*", HoldAnswer(release), times=100)
        sources = [
            Source(source.registry, (OpenTarget(connect(held.address)),), ("slow",)),
            Source(source.registry, (OpenTarget(other.registry),), ("quick",)),
        ]
        result = sync(sources, engine=Engine(progress=Releases(2 * ALL_OF_MEMORY, release)))
    assert result.ok, [item.error for item in result.results]
    assert compare(source.place("slow"), target.place("slow"), "v1") == []
    assert compare(source.place("quick"), other.place("quick"), "v1") == []
