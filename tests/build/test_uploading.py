"""What a build sends goes the way of copies: bases several at once and in ranges, within limits, on after a kill."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.errors import NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Silent
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.machine import FIRST_WINDOW, MachineLimits
from tests.doubles.fault_registry import FaultRegistry, Seen
from tests.doubles.faults import HoldContent, Rewrite, Status
from tests.patience import patient

BLOBS = r"/v2/bases/big/blobs/sha256.*"
UPLOADS = r"/v2/team/app/blobs/uploads/.*"
LIMIT_S = patient(30)


@dataclass
class Route:
    """A source with a base, a target, and what passes before each."""

    source: FaultRegistry
    target: FaultRegistry
    application: Path
    state: Path

    @property
    def bases(self) -> Place:
        return Place(DistributionRegistry(self.source.address), "bases/big")

    @property
    def place(self) -> Place:
        return Place(DistributionRegistry(self.target.address), "team/app")

    @property
    def spec(self) -> BuildSpec:
        return BuildSpec(
            name="demo", base=f"{self.source.address}/bases/big:v1", application=self.application, version="v1"
        )

    def push_base(self, *sizes: int) -> list[Descriptor]:
        """A base whose layers are noise: a builder does not look inside where no wheels are chosen."""
        noise = random.Random(11)
        layers = [push_blob(self.bases, noise.randbytes(size), media_type=media_types.OCI_LAYER_GZIP) for size in sizes]
        here = Platform.here()
        diff_ids = [str(Digest.of(str(number).encode())) for number in range(len(sizes))]
        config = {
            "architecture": here.architecture,
            "os": here.os,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(self.bases, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(layers),
        )
        self.bases.registry.put_manifest("bases/big", manifest_bytes(manifest), tag="v1")
        self.source.reset_counts()
        return layers

    def has(self, descriptor: Descriptor) -> bool:
        return self.place.registry.blob_size("team/app", descriptor.digest) == descriptor.size


@pytest.fixture
def route(tmp_path: Path) -> Iterator[Route]:
    application = tmp_path / "application"
    application.mkdir()
    (application / "app.py").write_text("print(1)\n")
    with (
        EmbeddedServer(tmp_path / "source") as source,
        EmbeddedServer(tmp_path / "target") as target,
        FaultRegistry(source.address) as before_source,
        FaultRegistry(target.address) as before_target,
    ):
        yield Route(before_source, before_target, application, tmp_path / "state")


def wait_for(seen: Callable[[], bool], ended: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not seen():
        assert not ended() and time.monotonic() < until
        time.sleep(0.01)


class Told(Silent):
    """Progress that keeps what was advanced, by task."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}

    def advance(self, task: str, byte_count: int) -> None:
        self.steps.setdefault(task, []).append(byte_count)


def test_base_layers_come_several_at_once_and_in_ranges(route: Route) -> None:
    layers = route.push_base(2 * PART_BYTES + 1000, 2 * PART_BYTES + 2000)
    release, told = threading.Event(), Told()
    route.source.play("GET", BLOBS, HoldContent(release, 3_000_000))

    def asked_in_ranges() -> bool:
        ranged = [one.target for one in route.source.requests("GET", BLOBS) if one.range]
        return all(any(str(layer.digest) in target for target in ranged) for layer in layers)

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(LayersBuilder(route.state).build, route.spec, route.place, progress=told)
        try:
            wait_for(asked_in_ranges, building.done)
        finally:
            release.set()
        rows = {row.digest: row for row in building.result().layers}
    for layer in layers:
        assert route.has(layer)
        assert (rows[layer.digest].how, rows[layer.digest].bytes_uploaded) == ("copied", layer.size)
        steps = told.steps[f"base layer {layer.digest.short}"]
        assert len(steps) > 1 and sum(steps) == layer.size


def test_what_copies_left_at_the_registry_is_mounted(route: Route) -> None:
    """The journal is the one of all copies."""
    [layer] = route.push_base(1000)
    elsewhere = Place(route.place.registry, "mirror/base")
    engine = Engine(state=route.state / "transfer")
    with engine.opened() as state:
        journal = state.open_journal()
        assert journal is not None
        with route.bases.registry.open_blob("bases/big", layer.digest) as reader:
            elsewhere.registry.upload_blob(elsewhere.repository, layer, reader)
        journal.hold(elsewhere, [layer.digest])
    route.source.reset_counts()
    result = LayersBuilder(route.state, engine=engine).build(route.spec, route.place)
    assert [row.how for row in result.layers] == ["mounted", "uploaded"]
    assert not [one for one in route.source.requests("GET", BLOBS) if str(layer.digest) in one.target]


def test_a_blob_of_another_size_under_the_digest_is_sent_again(route: Route) -> None:
    """As registries have some whose disk was full, or that lost power."""
    route.push_base(1000)
    builder = LayersBuilder(state=route.state)
    first = builder.build(route.spec, route.place)
    assert {row.how for row in builder.build(route.spec, route.place).layers} == {"present"}
    route.target.play("HEAD", r"/v2/team/app/blobs/sha256.*", Rewrite(set={"Content-Length": "7"}))
    again = builder.build(route.spec, route.place)
    assert again.descriptor == first.descriptor
    assert {row.how for row in again.layers} == {"copied", "uploaded"}


def test_a_build_keeps_the_limits_of_its_engine(route: Route) -> None:
    route.push_base(1000, 2000)
    limits = MachineLimits()
    route.target.play("POST", UPLOADS, Status(429, {"Retry-After": "0"}), times=2)
    route.source.play("GET", BLOBS, Status(429, {"Retry-After": "0"}), times=1)
    engine = Engine(state=route.state / "transfer", limits=limits)
    assert LayersBuilder(route.state, engine=engine).build(route.spec, route.place).changed
    assert limits.window(route.place.registry.name, "append").size < FIRST_WINDOW
    assert limits.window(route.bases.registry.name, "read-blob").size < FIRST_WINDOW


def test_a_base_layer_that_is_gone_ends_the_build_with_its_own_error(route: Route) -> None:
    layer, _ = route.push_base(1000, 2 * PART_BYTES)
    (route.application / "large.bin").write_bytes(random.Random(2).randbytes(PART_BYTES))
    route.source.play("GET", rf"/v2/bases/big/blobs/{layer.digest}", Status(404))
    with pytest.raises(NotFound, match="is gone at the source"):
        LayersBuilder(route.state).build(route.spec, route.place)
    with pytest.raises(NotFound):
        route.place.registry.resolve("team/app", "v1")


KILLED = """
import sys
from pathlib import Path
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob import growth
growth.HUNGER_S = float("inf")  # one connection: what is read is counted
base, address, application, state = sys.argv[1:]
spec = BuildSpec(name="demo", base=base, application=Path(application), version="v1")
LayersBuilder(Path(state)).build(spec, Place(DistributionRegistry(address), "team/app"))
"""


def sent(target: FaultRegistry) -> list[Seen]:
    return [one for one in target.seen if one.bytes_up and "/uploads/" in one.target]


@pytest.mark.parametrize("whole_only", [False, True], ids=["chunks", "whole"])
def test_a_build_killed_in_the_middle_of_a_base_layer_goes_on(
    route: Route, whole_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a registry that takes no chunks nothing is there after a kill; the download goes on."""
    [layer] = route.push_base(5 * PART_BYTES + 1000)
    release = threading.Event()
    tries = 2 if whole_only else 0  # a stream and a chunk, before it is known
    route.source.play("GET", f".*{layer.digest}", HoldContent(release, 3 * PART_BYTES + 500_000), skip=tries)
    if whole_only:
        route.target.play("PATCH", UPLOADS, Status(405, after_bytes=1000))
    arguments = [route.spec.base, route.target.address, str(route.application), str(route.state)]
    spool = route.state / "transfer" / "spool"

    def half_there() -> bool:
        if whole_only:
            return sum(path.stat().st_size for path in spool.rglob("*") if path.is_file()) >= 3 * PART_BYTES
        return sum(one.bytes_up for one in route.target.requests("PATCH", UPLOADS)) >= 3 * PART_BYTES

    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments]) as process:
        wait_for(half_there, lambda: process.poll() is not None)
        process.kill()
    release.set()
    route.source.clear()
    route.source.reset_counts()
    monkeypatch.setattr("registry_pipelines.transfer.blob.growth.HUNGER_S", float("inf"))
    row = next(row for row in LayersBuilder(route.state).build(route.spec, route.place).layers if row.key == "")
    assert route.has(layer)
    assert row.how == "copied"
    if whole_only:
        assert route.source.seen[-1].range == f"bytes={3 * PART_BYTES}-"
        assert [one.bytes_up for one in sent(route.target) if one.method == "PUT"].count(layer.size) == 1
    else:
        assert sum(one.bytes_up for one in sent(route.target)) <= layer.size + PART_BYTES + 10_000
        assert row.bytes_uploaded <= layer.size - 2 * PART_BYTES
