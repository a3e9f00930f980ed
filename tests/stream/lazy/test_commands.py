"""``stream mount``, ``run`` and ``status`` as they are typed, over an indexed image in a registry."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.lazy.fuse import WHOLE_READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse, mounts
from registry_pipelines.stream.lazy.notes import read_notes
from registry_pipelines.stream.model import Stream
from tests.answers import answered, document
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt
from tests.evidence.parts import Key
from tests.patience import patient, until
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_erofs, need_fuse
from tests.stream.lazy.starts import file, image
from tests.stream.releases import ESTARGZ, Layer, Streamer, push, put

COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "stream"]
BLOBS = r"/v2/team/app/blobs/.*"


@dataclass
class Node:
    """A machine with an image in a registry, and commands on it."""

    faults: FaultRegistry
    place: Place
    folder: Path
    key: Key

    def image(self, tag: str, *, estargz: bool = False) -> str:
        """A reference to a new image, indexed by the key; or to what was converted of it."""
        release = image(self.place, tag=tag)
        streamer = Streamer(self.place, self.folder / "indexer", self.key.signer)
        if estargz:
            streamer.convert(release, ESTARGZ, tag=tag)
            return f"{self.faults.address}/team/app:{tag}-estargz"
        streamer.index(release, Stream(span_size=Size(256 << 10), min_layer_size=Size(1000)))
        return f"{self.faults.address}/team/app:{tag}"

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command; it is killed when the block ends."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "HOME": str(self.folder)}
        with subprocess.Popen(
            [*COMMAND, *words],
            env=environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        with self.start(*words) as process:
            output, errors = process.communicate(timeout=patient(60))
        return process.returncode, output, errors

    def status(self) -> list[dict[str, Any]]:
        _, output, _ = self.run("status", "--json")
        found: list[dict[str, Any]] = answered(output)["mounts"]
        return found

    @property
    def believed(self) -> tuple[str, str]:
        return "--key", str(self.key.public)


@pytest.fixture
def node(tmp_path: Path, key: Key) -> Iterator[Node]:
    need_fuse()
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(server.address)
        yield Node(faults, Place(registry, "team/app"), tmp_path, key)
        registry.close()
    for each in [each for each in mounts() if each.folder.is_relative_to(tmp_path)]:
        end_mount(each.folder)


def test_a_program_runs_before_its_image_is_there(node: Node) -> None:
    reference = node.image("v1")
    script = (
        "echo $WORD in $(pwd); cat /motd; cat /etc/gone; ls /data; sha256sum /data/3; echo new >/etc/motd; cat /motd"
    )
    before = node.faults.bytes_down
    code, output, errors = node.run("run", reference, *node.believed, "--no-fill", "--", "sh", "-c", script)
    [line] = [line for line in output.splitlines() if line.endswith("/data/3")]
    assert output.splitlines()[:2] == ["lazily in /etc", "hello"] and output.splitlines()[-1] == "new"
    assert code == 0 and "No such file" in errors and "STARTED" in errors and "lazy: yes, 2 of 2 layers" in errors
    # Eight files of 1 MiB that do not compress, one of which was read; and the programs.
    assert node.faults.bytes_down - before < 6 << 20
    code, whole, _ = node.run("run", reference, *node.believed, "--", "sha256sum", "/data/3")
    assert (code, whole) == (0, f"{line}\n")


def test_a_program_of_an_estargz_image_runs_before_it_is_there_and_nobody_is_believed(node: Node) -> None:
    reference = node.image("v1", estargz=True)
    before = node.faults.bytes_down
    code, output, errors = node.run("run", reference, "--no-fill")
    assert (code, output) == (0, "hello\n") and "lazy: yes, 2 of 2 layers" in errors
    assert node.faults.bytes_down - before < 6 << 20


def test_how_a_program_ends_is_how_the_command_ends(node: Node) -> None:
    reference = node.image("v1")
    assert node.run("run", reference, *node.believed, "--", "sh", "-c", "exit 7")[0] == 7
    code, _, errors = node.run("run", reference, *node.believed, "--", "nothing")
    assert code == 8 and "nothing: there is no such program in the image" in errors
    code, _, errors = node.run("run", reference, *node.believed, "--", "/usr/bin/own")
    assert code == 9 and "is for another platform, or a script without `#!`" in errors
    code, output, errors = node.run("run", reference, *node.believed, "--json")
    found = document(output)["result"]
    assert code == 0 and "hello" in errors and 0 < found["started_s"] <= found["result_s"]
    assert found["mount"]["lazy"] and found["program_exit_code"] == 0
    assert not node.status() and not any((node.folder / "state" / "registry-pipelines" / "lazy" / "runs").iterdir())


def test_a_mount_and_what_is_told_of_it(node: Node) -> None:
    reference = node.image("v1")
    with node.start("mount", reference, "top", *node.believed, "--no-fill") as server:
        assert server.stdout is not None and "/top; lazy: yes" in server.stdout.readline()
        top = node.folder / "top"
        assert (top / "motd").read_text() == "hello\n" and not (top / "etc" / "gone").exists()
        assert sorted(each.name for each in (top / "data").iterdir()) == [str(number) for number in range(8)]
        notes = node.folder / "state" / "registry-pipelines" / "lazy" / "mounts"
        until(lambda: any(each.alive and each.note.stalls and each.note.fetched_bytes for each in read_notes(notes)))
        _, output, _ = node.run("status", "--json")
        told = answered(output)
        assert told["layers_disk_bytes"] > 1000 and not told["files_disk_bytes"]
        assert "on the disk: " in node.run("status")[1]
        server.send_signal(signal.SIGTERM)
        assert server.wait(patient(20)) == 0
    assert not list(top.iterdir()) and not node.status()


def test_attributes_that_the_kernel_does_not_have_are_named(node: Node) -> None:
    need_erofs()
    info, content = file("motd", b"hello\n")
    info.pax_headers["SCHILY.xattr.odd.name"] = "x"
    tar = pack([(info, content)])
    push(node.place, Layer(gzip.compress(tar), tar), tag="odd")
    with node.start("mount", f"{node.faults.address}/team/app:odd", "top", "--carrier", "fanotify") as server:
        assert server.stdout is not None and "is mounted on" in server.stdout.readline()
        assert not os.listxattr(node.folder / "top" / "motd")
        server.terminate()
        assert "are left out, as unpacking does: odd.name" in server.communicate(timeout=patient(20))[1]


def test_a_detached_mount_that_is_killed_is_mounted_again(node: Node) -> None:
    reference, top = node.image("v1"), node.folder / "top"
    code, output, _ = node.run("mount", reference, "top", *node.believed, "--detach", "--json")
    mount = answered(output)["mount"]
    assert code == 0 and mount["lazy"] and (top / "motd").read_text() == "hello\n"
    code, _, errors = node.run("mount", reference, "top", *node.believed)
    assert code == 8 and "mounted there already" in errors and "`umount top`" in errors
    os.kill(mount["process"], signal.SIGKILL)
    with pytest.raises(OSError) as raised:
        (top / "data" / "0").read_bytes()
    assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    [told] = node.status()
    assert not told["alive"] and told["folder"] == str(top)
    assert node.run("mount", reference, "top", *node.believed, "--detach")[0] == 0
    assert (top / "motd").read_text() == "hello\n" and len((top / "data" / "0").read_bytes()) == 1 << 20
    [told] = node.status()
    assert told["alive"] and told["process"] != mount["process"]
    device = top.stat().st_dev  # once all is here the kernel reads ahead as on a disk
    read_ahead = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    until(lambda: int(read_ahead.read_text()) == WHOLE_READ_AHEAD_BYTES >> 10)
    subprocess.run(["umount", str(top)], check=True)


def test_wrong_bytes_are_never_shown(node: Node) -> None:
    reference, top = node.image("v1"), node.folder / "top"
    with node.start("mount", reference, "top", *node.believed, "--no-fill") as server:
        assert server.stdout is not None and server.stderr is not None and server.stdout.readline()
        good = (top / "data" / "0").read_bytes()
        node.faults.play("GET", BLOBS, Corrupt(1000))
        with pytest.raises(OSError) as raised:
            (top / "data" / "6").read_bytes()
        assert raised.value.errno == errno.EIO and "span" in server.stderr.readline()
        assert (top / "data" / "0").read_bytes() == good
        server.terminate()
        server.communicate(timeout=patient(20))


LARGE = random.Random(1).randbytes(2 << 10) + bytes(98 << 10)
"""Zeros alone would be taken for a bomb."""


def large_layer(place: Place, number: int) -> tuple[dict[str, Any], str]:
    """10,000 files of 1 GB together, each the same: its line of the manifest, and its diffID."""
    compressor, content, plain, packed = zlib.compressobj(1, wbits=31), LARGE, hashlib.sha256(), bytearray()
    for each in range(10_000):
        info = tarfile.TarInfo(f"usr/lib/layer{number}/folder{each // 50}/file_{each}")
        info.size = len(content)
        for piece in (info.tobuf(), content):
            plain.update(piece)
            packed += compressor.compress(piece)
    plain.update(bytes(1024))
    packed += compressor.compress(bytes(1024)) + compressor.flush()
    pushed = push_blob(place, bytes(packed), media_type=OCI_LAYER_GZIP)
    line = {"mediaType": OCI_LAYER_GZIP, "digest": pushed.digest, "size": pushed.size}
    return line, f"sha256:{plain.hexdigest()}"


@pytest.mark.long
def test_ten_gigabytes_are_mounted_in_bounded_memory(node: Node) -> None:
    layers = [large_layer(node.place, number) for number in range(10)]
    diff_ids = [each[1] for each in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    pushed = push_blob(node.place, json.dumps(config).encode(), media_type=OCI_CONFIG)
    line = {"mediaType": OCI_CONFIG, "digest": pushed.digest, "size": pushed.size}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": line, "layers": [each[0] for each in layers]}
    release = put(node.place, manifest, tag="v1")
    Streamer(node.place, node.folder / "indexer", node.key.signer).index(release, Stream(min_layer_size=Size(1000)))
    top, reference = node.folder / "top", f"{node.faults.address}/team/app:v1"
    code, output, _ = node.run("mount", reference, "top", *node.believed, "--detach", "--json", "--no-fill")
    assert code == 0, output
    mount = answered(output)["mount"]
    assert mount["layers_lazy"] == 10
    names = [path for path in top.rglob("*") if path.name.startswith("file_")]
    for name in names[::500]:
        assert name.read_bytes() == LARGE
    status = Path(f"/proc/{mount['process']}/status").read_text()
    [anonymous] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
    end_mount(top)
    assert len(names) == 100_000 and anonymous < 120 << 10


def test_a_machine_without_fuse_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_pipelines.stream.lazy.mounting.DEVICE", tmp_path / "fuse")
    with pytest.raises(LocalError, match="so images cannot be mounted"):
        mount_fuse(tmp_path, "x")
