"""A registry, keys, and an image to sign."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer, Exchange
from registry_pipelines.registry.interface import Place
from registry_pipelines.sign.keys import FileSigner, KeySet, generate_key, load_signer, load_verifier


@dataclass
class Key:
    """A key pair on disk and in memory."""

    path: Path
    public: Path
    signer: FileSigner
    verifier: KeySet


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Key]:
    """A key pair by name; the same name gives the same pair."""
    folder = tmp_path_factory.mktemp("keys")
    made: dict[str, Key] = {}

    def make(name: str) -> Key:
        if name not in made:
            files = generate_key(folder / f"{name}.key")
            made[name] = Key(files.private, files.public, load_signer(files.private), load_verifier([files.public]))
        return made[name]

    return make


@pytest.fixture
def key(make_key: Callable[[str], Key]) -> Key:
    """Our key."""
    return make_key("ours")


@pytest.fixture
def other_key(make_key: Callable[[str], Key]) -> Key:
    """A key nobody trusts."""
    return make_key("other")


@dataclass
class Counted:
    """A place in an embedded registry that remembers what changed it."""

    place: Place
    server: EmbeddedServer
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        """Requests that change content, so far."""
        return [item.method for item in self.exchanges if item.method in ("PUT", "POST", "PATCH", "DELETE")]


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    """An embedded registry with a repository."""
    exchanges: list[Exchange] = []
    with EmbeddedServer(tmp_path / "registry", on_exchange=exchanges.append) as server:
        yield Counted(Place(DistributionRegistry(server.address), "team/app"), server, exchanges)


@pytest.fixture
def place(counted: Counted) -> Place:
    """A repository of an embedded registry."""
    return counted.place


def push_image(place: Place, name: str = "app", *, architecture: str = "amd64", tag: str = "") -> Descriptor:
    """Push an image that is different for every name and architecture."""
    layer = push_blob(place, f"layer of {name}".encode(), media_type=media_types.OCI_LAYER)
    config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}}
    pushed = push_blob(place, json.dumps({**config, "name": name}).encode(), media_type=media_types.OCI_CONFIG)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=pushed, layers=(layer,))
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor


def push_index(place: Place, name: str = "app", *, tag: str = "") -> tuple[Descriptor, list[Descriptor]]:
    """Push an index with two platforms; the index and its children."""
    children = []
    for architecture in ("amd64", "arm64"):
        child = push_image(place, name, architecture=architecture)
        platform = Platform(os="linux", architecture=architecture)
        children.append(
            Descriptor(media_type=child.media_type, digest=child.digest, size=child.size, platform=platform)
        )
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(children)))
    place.registry.put_manifest(place.repository, index, tag=tag)
    return index.descriptor, children


@pytest.fixture
def image(place: Place) -> Descriptor:
    """An image in the place."""
    return push_image(place, tag="v1")


@pytest.fixture
def docker_registry(tmp_path: Path, peer: Callable[[str], str]) -> Iterator[str]:
    """The address of a real docker-registry, which has no referrers API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = tmp_path / "docker-registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'docker-registry'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        [peer("docker-registry"), "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(address)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{address} does not answer")


class Cosign:
    """The real program, with its own HOME and without a transparency log."""

    def __init__(self, program: str, home: Path) -> None:
        self.program, self.home = program, home
        (home / "sc.json").write_text('{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}')

    def __call__(self, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.home), "COSIGN_PASSWORD": password}
        return subprocess.run(
            [self.program, *arguments], env=environment, cwd=self.home, capture_output=True, text=True, timeout=60
        )

    def verify(self, key: Path, image: str) -> subprocess.CompletedProcess[str]:
        return self("verify", "--key", str(key), "--insecure-ignore-tlog", image)

    def verify_attestation(self, key: Path, kind: str, image: str) -> subprocess.CompletedProcess[str]:
        return self("verify-attestation", "--key", str(key), "--insecure-ignore-tlog", "--type", kind, image)


@pytest.fixture
def cosign(peer: Callable[[str], str], tmp_path: Path) -> Cosign:
    """cosign 3.1.1."""
    home = tmp_path / "cosign-home"
    home.mkdir()
    return Cosign(peer("cosign"), home)


@pytest.fixture
def cosign2(peer: Callable[[str], str], tmp_path: Path) -> Cosign:
    """cosign 2.5.0."""
    home = tmp_path / "cosign2-home"
    home.mkdir()
    return Cosign(peer("cosign2"), home)


def stored(place: Place, digest: Digest | str) -> ManifestBytes:
    """A manifest of the place."""
    return place.registry.get_manifest(place.repository, digest)
