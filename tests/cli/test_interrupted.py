"""A copy whose target breaks: killed in the middle, or full. The same command, or the same run, ends it later."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.cli.test_bad_input import PROGRAM
from tests.disk import bytes_below
from tests.doubles.fault_registry import FaultRegistry, HoldContent
from tests.doubles.small_disk import small_disk as mounted_disk
from tests.patience import patient
from tests.ports import free_ports

LAYER_BYTES = 64 * 1024 * 1024


def push(address: str, size: int) -> Digest:
    """An image with one large layer, tagged v1; the layer's digest."""
    registry = DistributionRegistry(address)
    place = Place(registry, "big/app")
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    layer = push_blob(place, random.Random(size).randbytes(size), media_type=media_types.OCI_LAYER_GZIP)
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=(layer,),
        )
    )
    registry.put_manifest(place.repository, made, tag="v1")
    registry.close()
    return layer.digest


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "source") as server:
        yield server


@contextmanager
def serving(root: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """``serve`` as a process of its own."""
    command = [*PROGRAM, "serve", "--root", str(root), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "serves" in process.stdout.readline()
        try:
            yield process
        finally:
            process.terminate()
            process.wait(patient(30))


def copying(source: str, port: int) -> list[str]:
    return [*PROGRAM, "copy", f"{source}/big/app:v1", f"127.0.0.1:{port}/far/app"]


def complains(text: str, said: str) -> None:
    assert "Traceback" not in text and text.count("error: ") == 1, text
    assert re.search(said, text), text


def is_there(port: int) -> int:
    looked = subprocess.run([*PROGRAM, "inspect", f"127.0.0.1:{port}/far/app:v1"], capture_output=True, text=True)
    return looked.returncode


def stored(root: Path, layer: Digest) -> list[Path]:
    return [path for path in root.rglob(layer.hex) if path.is_file()]


@dataclass
class Torn:
    """A copy under way whose target was killed as soon as content arrived, when the layer can not be there yet."""

    copy: subprocess.Popen[str]
    command: list[str]
    layer: Digest
    root: Path
    port: int

    def is_whole(self) -> None:
        """The target, which serves again, has it all."""
        assert is_there(self.port) == 0
        [blob] = stored(self.root, self.layer)
        assert Digest.of(blob.read_bytes()) == self.layer


@pytest.fixture
def torn(source: EmbeddedServer, tmp_path: Path) -> Iterator[Torn]:
    layer, root, [port] = push(source.address, LAYER_BYTES), tmp_path / "target", free_ports(1)
    half_given = threading.Event()
    with ExitStack() as stack:
        faults = stack.enter_context(FaultRegistry(source.address))
        faults.play("GET", rf".*/blobs/{layer}", HoldContent(half_given, LAYER_BYTES // 2))
        command = copying(faults.address, port)
        copy = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        )
        stack.callback(half_given.set)
        with serving(root, port) as server:
            while not bytes_below(root):
                assert copy.poll() is None
                time.sleep(0.001)
            server.kill()
            server.wait(patient(30))
        assert stored(root, layer) == []
        half_given.set()
        yield Torn(copy, command, layer, root, port)


def test_a_server_that_was_killed_in_the_middle_and_comes_back_gets_the_rest(torn: Torn) -> None:
    with serving(torn.root, torn.port):
        _, text = torn.copy.communicate(timeout=patient(120))
        assert torn.copy.returncode == 0, text
        torn.is_whole()


def test_a_server_that_was_killed_in_the_middle_has_nothing_half_and_takes_the_copy_later(
    torn: Torn, tmp_path: Path
) -> None:
    """A person who does not want to wait for it interrupts the copy."""
    torn.copy.send_signal(signal.SIGINT)
    _, text = torn.copy.communicate(timeout=patient(60))
    assert torn.copy.returncode == 130 and "Traceback" not in text, text
    assert stored(torn.root, torn.layer) == []
    with serving(torn.root, torn.port):
        assert is_there(torn.port) == 4
        again = subprocess.run(torn.command, capture_output=True, text=True, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        torn.is_whole()
    assert bytes_below(torn.root) < LAYER_BYTES * 1.1, "what the killed push left was used or swept"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB in memory."""
    with mounted_disk(tmp_path / "small", 4) as folder:
        yield folder


def test_the_target_s_disk_is_full(source: EmbeddedServer, small_disk: Path, tmp_path: Path) -> None:
    push(source.address, 6 * 1024 * 1024)
    [port] = free_ports(1)
    with serving(small_disk, port):
        done = subprocess.run(copying(source.address, port), capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 6, (done.returncode, done.stderr)
        complains(done.stderr, "no space is left.*Free space at the registry .*, then run it again")
        assert is_there(port) == 4
        assert bytes_below(small_disk) < 1024 * 1024, "what was half written is gone"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["copy", "dry-run"])
def test_an_interrupt_while_a_target_hangs_ends_the_plan_at_once(
    dry: list[str], source: EmbeddedServer, tmp_path: Path
) -> None:
    """And not when it is given up, which takes minutes."""
    push(source.address, 1024)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [*PROGRAM, "copy", *dry, f"{source.address}/big/app:v1", f"{hanging}/app:v1"]
        running = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}
        )
        with running:
            try:
                asked, _ = silent.accept()
                with asked:
                    assert asked.recv(1)
                    running.send_signal(signal.SIGINT)
                    _, said = running.communicate(timeout=patient(30))
            finally:
                running.kill()
    assert running.returncode == 130
    assert said.strip().endswith("interrupted")
