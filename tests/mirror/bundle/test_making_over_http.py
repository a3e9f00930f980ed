"""A bundle is made of a registry whose connection breaks, or that sends what it should not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.errors import ContentError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt, CutAnswer, NoRange
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import far_layout, publish, whole
from tests.mirror.bundle.nearside import Near, stream_of_parts
from tests.scan.images import push_image

BLOBS = r".*/blobs/sha256:.*"
SIZE = 9_000_000
"""More than one part of the transfer's memory, so that connections are added and ranges asked for."""


@dataclass
class Source:
    """A registry behind a proxy that plays faults, and the near side that reads it."""

    registry: DistributionRegistry
    faults: FaultRegistry
    near: Near


@pytest.fixture
def source(tmp_path: Path, make_key: Callable[[str], Key]) -> Iterator[Source]:
    with EmbeddedServer(tmp_path / "server") as server, FaultRegistry(server.address) as faults:
        direct = DistributionRegistry(server.address)
        images = publish(direct, 1)
        big = Place(direct, "library/big")
        push_image(big, [{"weights": random.Random(5).randbytes(SIZE)}], tag="1")
        proxied = DistributionRegistry(faults.address)
        names = [(Place(proxied, place.repository), tag) for place, tag in [*images, (big, "1")]]
        near = Near(proxied, tmp_path / "state", make_key("promoter").signer, names, part_size=3_000_000)
        yield Source(direct, faults, near)


def test_it_goes_on_from_the_byte_that_is_missing(source: Source, tmp_path: Path) -> None:
    source.faults.play("GET", BLOBS, CutAnswer(700_000), times=3)
    made = source.near.make(tmp_path / "disk")
    stream_of_parts(made.bundle, tmp_path / "disk")
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "disk")
    assert whole(far.registry) == whole(source.registry)
    sent = sum(seen.bytes_down for seen in source.faults.requests("GET", BLOBS))
    assert sent < SIZE * 1.6  # what had come was not asked for again


def test_a_source_without_ranges_serves_one_part_again_too(source: Source, tmp_path: Path) -> None:
    made = source.near.make(tmp_path / "disk")
    source.faults.play("GET", BLOBS, NoRange(), times=50)
    for number in (2, len(made.bundle.parts)):
        source.near.again(1, [number], tmp_path / "more")
        name = made.bundle.parts[number - 1].name
        assert (tmp_path / "more" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes()


def test_one_wrong_byte_on_the_way_is_never_in_a_bundle(source: Source, tmp_path: Path) -> None:
    sizes = {blob.digest: blob.size for blob in source.near.draft().bundle.blobs}
    source.near.state.drop()
    big: Digest = max(sizes, key=lambda digest: sizes[digest])
    source.faults.play("GET", rf".*/blobs/{big}", Corrupt(1000), times=1)
    with pytest.raises(ContentError, match="other bytes than its name says"):
        source.near.make(tmp_path / "disk")
    assert not list((tmp_path / "disk").glob("*.json"))
    made = source.near.make(tmp_path / "disk")  # the parts that held the byte are made anew
    assert made.bundle.number == 2
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "disk")
    assert whole(far.registry) == whole(source.registry)
