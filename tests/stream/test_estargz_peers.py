"""Programs of others with layers that we converted to eStargz, and we with theirs."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, TOC_ANNOTATION
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.estargz import Converted, Options
from registry_pipelines.stream.estargz_toc import TOC_NAME, read_toc
from registry_pipelines.stream.estargz_verify import verify_layer
from tests.doubles.containerd import Containerd, containerd
from tests.doubles.docker_daemon import own_docker
from tests.needs import missing
from tests.stream.layers import convert, pack
from tests.stream.test_estargz_toc import ranges_of, vectors

ANSWER = "the answer\n"


def program() -> list[tuple[tarfile.TarInfo, bytes]]:
    """``cat`` with its libraries, and something to show, that a hard link leads to."""
    libraries = subprocess.run(["ldd", "/bin/cat"], check=True, capture_output=True, text=True).stdout
    found = {path: Path(path).read_bytes() for path in re.findall(r"(/\S+) \(0x", libraries)}
    entries = []
    for name, content in {"/bin/cat": Path("/bin/cat").read_bytes(), **found, "/old": ANSWER.encode()}.items():
        info = tarfile.TarInfo(name[1:])
        info.size, info.mode = len(content), 0o755
        entries.append((info, content))
    hard = tarfile.TarInfo("answer")
    hard.type, hard.linkname = tarfile.LNKTYPE, "old"
    other = tarfile.TarInfo("old")
    other.size = 5
    return [*entries, (hard, b""), (other, b"other")]


def push(place: Place, layer: bytes, diff_id: Digest, tag: str, annotations: dict[str, str] | None = None) -> Manifest:
    shape = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/cat", "/answer"]},
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
    }
    config = push_blob(place, json.dumps(shape).encode(), media_type=OCI_CONFIG)
    stored = push_blob(place, layer, media_type=OCI_LAYER_GZIP)
    described = Descriptor(
        media_type=stored.media_type, digest=stored.digest, size=stored.size, annotations=annotations
    )
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(described,))
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=tag)
    return manifest


def entries_of(blob: bytes) -> list[dict[str, Any]]:
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        table = tar.extractfile(TOC_NAME)
        assert table
        entries: list[dict[str, Any]] = json.load(table)["entries"]
    return entries


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Converted, bytes]]:
    """A registry with an image as it was, ``v1``, and converted, ``esgz``."""
    source = pack(program())
    blob, converted = convert(gzip.compress(source), Options(prioritized=("bin/cat", "answer")))
    with EmbeddedServer(tmp_path_factory.mktemp("registry")) as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "some/app")
        push(place, gzip.compress(source), Digest.of(source), "v1")
        push(place, blob, converted.diff_id, "esgz", converted.descriptor.annotations)
        yield place, converted, blob


@pytest.fixture(scope="module")
def ctr(peer: Callable[[str], str]) -> Iterator[Containerd]:
    programs = peer("containerd"), peer("ctr-remote")
    if os.getuid() != 0:
        missing("containerd needs root")
    with tempfile.TemporaryDirectory(prefix="ctr-") as folder, containerd(*programs, Path(folder)) as client:
        yield client


@pytest.mark.peer("containerd", "ctr-remote")
def test_ctr_remote_finds_the_table_and_containerd_runs_it(
    image: tuple[Place, Converted, bytes], ctr: Containerd
) -> None:
    place, converted, blob = image
    name = f"{place.registry.name}/{place.repository}:esgz"
    # Unpacking holds the tar against the config's diffID.
    ctr("images", "pull", "--plain-http", "--platform", "linux/amd64", name)
    shown = ctr("images", "get-toc-digest", "--dump-toc", converted.descriptor.digest)
    assert json.loads(shown)["entries"] == entries_of(blob)
    assert ctr("images", "get-toc-digest", converted.descriptor.digest).strip() == converted.toc_digest
    assert ctr("run", "--rm", "--net-host", name, "one") == ANSWER


@pytest.mark.peer("containerd", "ctr-remote")
def test_what_ctr_remote_converts_is_what_its_table_says(
    image: tuple[Place, Converted, bytes], ctr: Containerd
) -> None:
    place, _, ours = image
    source, target = (f"{place.registry.name}/{place.repository}:{tag}" for tag in ("v1", "theirs"))
    ctr("images", "pull", "--plain-http", "--platform", "linux/amd64", source)
    ctr("images", "convert", "--estargz", "--oci", source, target)
    ctr("images", "push", "--plain-http", target)
    manifest = place.registry.get_manifest(place.repository, "theirs").content()
    assert isinstance(manifest, Manifest)
    [layer] = manifest.layers
    with place.registry.open_blob(place.repository, layer.digest) as reader:
        buffer = memoryview(bytearray(layer.size))
        have = 0
        while have < len(buffer):
            have += reader.readinto(buffer[have:])
    blob = bytes(buffer)
    assert layer.annotations
    with read_toc(ranges_of(blob), len(blob), expected=Digest(layer.annotations[TOC_ANNOTATION])) as toc:
        assert verify_layer(io.BytesIO(blob), toc).digest == layer.digest
    assert len(ours) <= len(blob) * 1.02


@pytest.mark.peer("skopeo")
def test_skopeo_copies_it_with_its_annotations(
    image: tuple[Place, Converted, bytes], peer: Callable[[str], str], tmp_path: Path
) -> None:
    place, converted, _ = image
    name = f"{place.registry.name}/{place.repository}:esgz"
    command = [peer("skopeo"), "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:esgz"]
    subprocess.run(command, check=True, capture_output=True)
    [index] = json.loads((tmp_path / "copy" / "index.json").read_text())["manifests"]
    blobs = tmp_path / "copy" / "blobs" / "sha256"
    [layer] = json.loads((blobs / index["digest"].partition(":")[2]).read_text())["layers"]
    assert layer["annotations"] == converted.descriptor.annotations
    assert Digest.of((blobs / converted.descriptor.digest.hex).read_bytes()) == converted.descriptor.digest


@pytest.mark.peer("dockerd", "docker")
def test_docker_pulls_and_runs_it(image: tuple[Place, Converted, bytes], peer: Callable[[str], str]) -> None:
    place, _, _ = image
    with own_docker(peer) as docker:
        name = f"{place.registry.name}/{place.repository}:esgz"
        docker("pull", "--quiet", name)
        assert docker("run", "--rm", "--network", "host", name) == ANSWER


def test_the_official_source_is_converted_like_theirs() -> None:
    """Same entries in the same order, but for owners' names, which depend on how many processors they had."""
    blob, _ = convert(vectors()["source.tar.gz"], Options(chunk_bytes=32768))
    theirs = json.loads(vectors()["tocs/ctr-remote-0.12-chunk32k.json"])["entries"]
    ours = entries_of(blob)
    for entry in (*ours, *theirs):
        for member in ("offset", "userName", "groupName"):
            entry.pop(member, None)
    assert ours == theirs
