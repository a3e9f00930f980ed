"""Layers that are read before they are there: every byte is the layer's, whatever the registry, disk and machine do."""

from __future__ import annotations

import gzip
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.stream.lazy.parts import Layer, filler, noise, pack


@dataclass
class Faulty:
    faults: FaultRegistry
    place: Place


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, plain_http=True)
        yield Faulty(faults, Place(registry, "app"))
        registry.close()


def a_tar(seed: int = 1, size: int = 200_000) -> bytes:
    info = tarfile.TarInfo("a/file")
    info.size = size
    return pack([(info, noise(seed, size))])


def test_what_is_read_is_the_layer_and_comes_once(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.reset_counts()
    end = layer.record.archive_end
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(100_000, 10) == layer.tar[100_000:100_010]
        first = len(faulty.faults.seen)
        assert first == 1 and lazy.read(100_001, 9) == layer.tar[100_001:100_010]
        assert len(faulty.faults.seen) == first and not lazy.complete
        draw = random.Random(1)
        for _ in range(200):
            start = draw.randrange(end)
            stop = min(end, start + draw.randrange(20_000))
            assert lazy.read(start, stop - start) == layer.tar[start:stop]
        lazy.ensure(0, end)
        assert lazy.complete and lazy.filled_bytes == lazy.size == end
        spans = len(layer.record.checkpoints)
        assert len(faulty.faults.seen) <= spans and filling.counts.demand.requests == len(faulty.faults.seen)
        assert filling.counts.demand.bytes == sum(each.bytes_down for each in faulty.faults.seen)
    faulty.faults.reset_counts()
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(0, end) == layer.tar[:end] and not faulty.faults.seen
