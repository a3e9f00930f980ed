"""Replicas, mirrors and syncs tell how many requests each registry got; counted again on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.result import StageResult
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import Fleet, push
from tests.doubles.fault_registry import FaultRegistry

Wires = dict[str, FaultRegistry]
NAMES = ("us", "eu", "dmz", "private")


@pytest.fixture
def wires(fleet: Fleet) -> Iterator[Wires]:
    """A counting proxy before each registry."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(FaultRegistry(fleet.chain.registry(name).name)) for name in NAMES}


def watched(fleet: Fleet, wires: Wires) -> Chain:
    """The chain, through the proxies."""
    changes = []
    for name, wire in wires.items():
        port = fleet.chain.registry(name).name.rpartition(":")[2]
        here = f"  {name}: {{kind: embedded, port: {port}}}\n"
        changes.append((here, f'  {name}: {{kind: distribution, host: "{wire.address}"}}\n'))
    return fleet.reload(*changes)


def check(result: StageResult, wires: Wires, *names: str) -> None:
    """What is told is what passed at these registries since the last look, and there was something."""
    told = {name: count for name, count in result.facts.items() if name.startswith("requests at ")}
    assert told == {f"requests at {wires[name].address}": len(wires[name].seen) for name in names}
    assert all(told.values())
    assert result.facts["requests"] == sum(len(wire.seen) for wire in wires.values())
    for wire in wires.values():
        wire.reset_counts()


def test_a_replica_a_mirrored_release_and_upstreams(fleet: Fleet, wires: Wires) -> None:
    push(Place(fleet.chain.registry("us"), "up/stream"), "1.0", package="upstream", provenance=False)
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    chain = watched(fleet, wires)
    for _ in range(2):  # what the first pass asked is not told again in the second
        check(chain.replicate(release, "eu"), wires, "us", "eu")
        check(chain.mirror_release(release, "airgap"), wires, "us", "dmz", "private")
        check(chain.mirror("airgap"), wires, "us", "dmz", "private")
