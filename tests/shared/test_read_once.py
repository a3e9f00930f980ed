"""Several workers, each a process with a folder of its own, and the layers they read: each once in all."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.remote import remote_registry
from tests.doubles.fault_registry import FaultRegistry, HoldContent
from tests.doubles.s3 import BUCKET, s3_server
from tests.patience import patient
from tests.scan.images import dist_info, push_image

IMAGES = 12
WORKERS = 3
LIVES_S = patient(120)
"""Of silence, after which a worker's turn is another's: none that only stood still for a while is taken for dead."""
SHORT_S = 2
"""What a worker that was killed is waited for."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FaultRegistry]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address.split("//")[-1]) as counted:
        yield counted


def pushed(registry: FaultRegistry, count: int = IMAGES, layer_bytes: int = 400_000) -> tuple[list[Digest], set[str]]:
    """Images above three layers that all have; the digests of all their layers."""
    place = Place(remote_registry(registry.address), "team/app")
    words = random.Random(1)

    def content(name: str) -> dict[str, bytes | str]:
        text = b"".join(words.randbytes(6).hex().encode() + b"\n" for _ in range(layer_bytes // 13))
        return {**dist_info(name, "1.0"), f"opt/{name}/text": text}

    base = [content(f"base{number}") for number in range(3)]
    made = [push_image(place, [*base, content(f"own{number}")], tag=f"1.{number}").digest for number in range(count)]
    layers = set[str]()
    for digest in made:
        for each in images_of(
            read_entries(place, place.registry.get_manifest(place.repository, digest), configs=False)
        ):
            layers |= {str(layer.digest) for layer in each.manifest.layers}
    return made, layers


class Worker:
    """One process."""

    def __init__(
        self,
        registry: FaultRegistry,
        database: str,
        store: str,
        folder: Path,
        images: list[Digest],
        silence_s: float = LIVES_S,
    ) -> None:
        folder.mkdir()
        words = (registry.address, "team/app", database, store, str(silence_s), str(folder), *map(str, images))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.shared.reading_worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def begin(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def said(self) -> dict[str, float | str]:
        output, _ = self.process.communicate(timeout=patient(120))
        assert self.process.returncode == 0
        found: dict[str, float | str] = json.loads(output)
        return found


def reads(registry: FaultRegistry, layers: set[str]) -> Counter[str]:
    """How often each layer was asked for."""
    asked = [
        each.target.rpartition("/")[2] for each in registry.seen if each.method == "GET" and "/blobs/" in each.target
    ]
    return Counter(each for each in asked if each in layers)


@pytest.fixture
def s3_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield f"s3://{BUCKET}/{uuid.uuid4()}"


def test_three_workers_read_each_layer_once_in_all(
    registry: FaultRegistry, postgres_url: str, s3_store: str, tmp_path: Path
) -> None:
    images, layers = pushed(registry)
    workers = [Worker(registry, postgres_url, s3_store, tmp_path / f"state{n}", images) for n in range(WORKERS)]
    for each in workers:
        each.begin()
    said = [each.said() for each in workers]
    assert reads(registry, layers) == Counter(dict.fromkeys(layers, 1))
    assert len(layers) == IMAGES + 3
    alone = Worker(registry, "", "", tmp_path / "alone", images)
    alone.begin()
    assert {each["made"] for each in said} == {alone.said()["made"]}, "what one machine finds"
    assert {(each["failed"], each["changed"]) for each in said} == {(0, 0)}


def test_a_worker_that_is_killed_while_it_reads_holds_nobody_up_for_long(
    registry: FaultRegistry, postgres_url: str, tmp_path: Path
) -> None:
    images, layers = pushed(registry, 1)
    store = f"file://{tmp_path / 'store'}"
    hold = HoldContent(threading.Event(), 1000)
    for layer in layers:  # not the config, which is read first
        registry.play("GET", rf".*/blobs/{layer}", hold)
    first = Worker(registry, postgres_url, store, tmp_path / "first", images, SHORT_S)
    first.begin()
    until = time.monotonic() + patient(30)
    while not reads(registry, layers):
        assert time.monotonic() < until
        time.sleep(0.01)
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate()
    hold.release.set()
    second = Worker(registry, postgres_url, store, tmp_path / "second", images, SHORT_S)
    second.begin()
    assert second.said()["missing"]
    assert set(reads(registry, layers)) == layers
