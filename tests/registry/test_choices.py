"""Which entry of an index a client starts: the table says what the real programs do."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.choices import CLIENTS, choices, differing
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from tests.conftest import find_peer
from tests.doubles.containerd import containerd
from tests.doubles.docker_daemon import Docker, own_docker
from tests.needs import missing
from tests.patience import patient
from tests.scan.images import make_tar

AMD64 = Platform(os="linux", architecture="amd64")
INDEXES: dict[str, Sequence[str]] = {
    "plain first": ("linux/amd64", "linux/amd64/v2"),
    "a variant first": ("linux/amd64/v3", "linux/amd64/v2", "linux/amd64"),
    "only a variant": ("linux/amd64/v3",),
    "v1 is none": ("linux/amd64/v2", "linux/amd64/v1"),
    "the same twice": ("linux/amd64", "linux/amd64"),
    "without a platform first": ("", "linux/amd64"),
    "without a platform last": ("linux/amd64", ""),
    "without a platform only": ("",),
    "for another, then without": ("linux/arm64", ""),
    "x86_64 first": ("linux/x86_64", "linux/amd64"),
    "a nested index first": ("[linux/amd64", "linux/amd64"),
    "a nested index last": ("linux/amd64", "[linux/amd64"),
    "a nested index without a platform": ("[", "linux/amd64"),
    "for nobody": ("unknown/unknown",),
}
"""Platforms of the lines, in order; ``[`` before one: an index with an image for linux/amd64 stands there."""

Starts = Callable[[str], Digest | None]
"""A reference to the digest of the config of what is started; None: nothing."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path / "registry") as server:
        yield Place(DistributionRegistry(server.address, plain_http=True), "some/app")


def image(place: Place, number: int) -> Descriptor:
    tar = make_tar({"who": b"%d" % number})
    layer = push_blob(place, tar, media_type=media_types.OCI_LAYER)
    shape = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [str(layer.digest)]}}
    config = push_blob(place, json.dumps(shape).encode(), media_type=media_types.OCI_CONFIG)
    made = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
    )
    place.registry.put_manifest(place.repository, made)
    return made.descriptor


def line(descriptor: Descriptor, platform: str) -> Descriptor:
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    named = Platform(os=system, architecture=architecture, variant=variant) if platform else None
    return Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size, platform=named)


def index(place: Place, *lines: Descriptor, tag: str = "") -> Descriptor:
    made = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=lines))
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made.descriptor


def push(place: Place, platforms: Sequence[str], tag: str) -> None:
    lines = []
    for number, text in enumerate(platforms):
        descriptor = image(place, number)
        if text.startswith("["):
            descriptor = index(place, line(descriptor, "linux/amd64"))
        lines.append(line(descriptor, text.removeprefix("[")))
    index(place, *lines, tag=tag)


def told(place: Place, tag: str, client: str) -> Digest | None:
    """The config of what the table says that the client starts."""
    entries = read_entries(place, place.registry.get_manifest(place.repository, tag))
    [chosen] = [each.entry for each in choices(entries, AMD64) if each.client.name == client]
    return chosen.manifest.config.digest if chosen else None


def check(place: Place, client: str, starts: Starts) -> None:
    address = place.registry.name
    wrong = {}
    for number, (name, platforms) in enumerate(INDEXES.items()):
        push(place, platforms, f"t{number}")
        real, ours = starts(f"{address}/{place.repository}:t{number}"), told(place, f"t{number}", client)
        if real != ours:
            wrong[name] = (real, ours)
    assert not wrong


def output(*command: str) -> bytes | None:
    done = subprocess.run(command, capture_output=True, timeout=patient(60))
    return done.stdout if done.returncode == 0 else None


def _config(raw: bytes | None) -> Digest | None:
    return Digest.of(raw) if raw else None


@pytest.mark.peer("crane")
def test_crane(place: Place, peer: Callable[[str], str]) -> None:
    crane = peer("crane")
    check(place, "crane", lambda at: _config(output(crane, "config", "--insecure", "--platform", "linux/amd64", at)))


@pytest.mark.peer("oras")
def test_oras(place: Place, peer: Callable[[str], str]) -> None:
    oras = [peer("oras"), "manifest", "fetch-config", "--plain-http", "--platform", "linux/amd64"]
    check(place, "oras", lambda at: _config(output(*oras, at)))


@pytest.mark.peer("skopeo")
def test_skopeo(place: Place, peer: Callable[[str], str], tmp_path: Path) -> None:
    """As it copies; `skopeo inspect` alone opens an index below an index."""
    flags = ["--override-os", "linux", "--override-arch", "amd64", "copy", "--src-tls-verify=false"]
    skopeo, numbers = [peer("skopeo"), *flags], iter(range(100))

    def starts(at: str) -> Digest | None:
        folder = tmp_path / f"copy-{next(numbers)}"
        if output(*skopeo, f"docker://{at}", f"dir:{folder}") is None:
            return None
        return Digest.parse(json.loads((folder / "manifest.json").read_bytes())["config"]["digest"])

    check(place, "skopeo, Podman, CRI-O", starts)


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    def find(program: str) -> str:
        return find_peer(program) or missing(f"{program} is not installed")

    with own_docker(find) as client:
        yield client


@pytest.mark.peer("dockerd")
def test_docker(place: Place, docker: Docker) -> None:
    if not docker("version", "--format", "{{.Server.Version}}").startswith("20.10."):
        missing("the table's row is about Docker 20.10, which Debian 12 has")

    def starts(at: str) -> Digest | None:
        try:
            docker("pull", "--quiet", at)
        except AssertionError:
            return None
        try:
            return Digest.parse(docker("image", "inspect", "--format", "{{.Id}}", at).strip())
        finally:
            docker("rmi", "--force", at)

    check(place, "Docker 20.10", starts)


@contextmanager
def short_folder() -> Iterator[Path]:
    """Sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="ctr-") as folder:
        yield Path(folder)


@pytest.mark.peer("containerd")
def test_containerd(place: Place, peer: Callable[[str], str]) -> None:
    """What it unpacks; it fetches others as well."""
    with short_folder() as folder, containerd(peer("containerd"), peer("ctr-remote"), folder) as ctr:
        numbers = iter(range(100))

        def starts(at: str) -> Digest | None:
            space = ("--namespace", f"n{next(numbers)}")
            try:
                ctr(*space, "images", "pull", "--plain-http", "--platform", "linux/amd64", at)
            except AssertionError:
                return None
            [_, row] = ctr(*space, "snapshots", "ls").strip().splitlines()
            [number] = [n for n in range(5) if Digest.of(make_tar({"who": b"%d" % n})) == row.split()[0]]
            return image_config(place, number)

        check(place, "containerd", starts)


def image_config(place: Place, number: int) -> Digest:
    content = place.registry.get_manifest(place.repository, image(place, number).digest).content()
    assert isinstance(content, Manifest)
    return content.config.digest


def test_only_what_clients_take_differently_is_listed(place: Place) -> None:
    push(place, ("linux/amd64", "linux/arm64", "linux/arm/v5", "linux/arm/v7"), "plain")
    push(place, ("linux/amd64/v3", "linux/amd64", "linux/arm64"), "variants")
    entries = {
        tag: read_entries(place, place.registry.get_manifest(place.repository, tag)) for tag in ("plain", "variants")
    }
    assert differing(entries["plain"]) == []
    assert differing(entries["plain"][1:2]) == []
    [row] = differing(entries["variants"])
    first, plain = entries["variants"][1:3]
    assert {each.client.name: each.entry for each in row} == {
        "Docker 20.10": plain,
        "Docker 28, classic store": first,
        "Docker 28, containerd store": plain,
        "containerd": plain,
        "skopeo, Podman, CRI-O": plain,
        "crane": first,
        "oras": first,
    }


def test_every_row_has_its_source() -> None:
    assert all("2026" in client.source for client in CLIENTS)
