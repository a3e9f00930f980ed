"""Real registries that count what they are asked, and graphs of images to copy between them."""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.http_server import Handler
from registry_pipelines.registry.protocol import Place
from tests.doubles.asked import Asked, noting
from tests.doubles.docker_registry import DockerRegistry


@dataclass
class Counted:
    """An embedded registry with what it was asked."""

    server: EmbeddedServer
    registry: DistributionRegistry
    exchanges: list[Asked] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.server.address

    def place(self, repository: str) -> Place:
        return Place(self.registry, repository)

    def forget(self) -> None:
        self.exchanges.clear()

    def count(self, method: str, piece: str = "") -> int:
        return sum(item.method == method and piece in item.target for item in self.exchanges)

    def blob_reads(self) -> Counter[str]:
        """Digest to how often the blob was fetched."""
        targets = [item.target for item in self.exchanges if item.method == "GET" and "/blobs/sha256:" in item.target]
        return Counter(target.rpartition("/")[2] for target in targets)

    def bytes_in(self) -> int:
        return sum(item.bytes_in for item in self.exchanges)


@pytest.fixture
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob is read over one connection, however long its receiver waits for bytes: where bytes are counted, or the
    answers to the first and to later requests differ, a slow machine must not ask for more."""
    monkeypatch.setattr("registry_pipelines.transfer.blob.growth.HUNGER_S", math.inf)


@pytest.fixture
def connect() -> Iterator[Callable[..., DistributionRegistry]]:
    """Make clients; they are closed at the end."""
    made: list[DistributionRegistry] = []

    def client(address: str, **options: object) -> DistributionRegistry:
        made.append(DistributionRegistry(address, **options))  # type: ignore[arg-type]
        return made[-1]

    yield client
    for registry in made:
        registry.close()


@pytest.fixture
def start_embedded(tmp_path: Path, connect: Callable[..., DistributionRegistry]) -> Iterator[Callable[..., Counted]]:
    """Start embedded registries; each call a new one."""
    running: list[EmbeddedServer] = []

    def start(wrap: Callable[[Handler], Handler] = lambda handler: handler, **options: object) -> Counted:
        exchanges: list[Asked] = []
        folder, note = tmp_path / f"registry-{len(running)}", noting(exchanges)
        server = EmbeddedServer(folder, wrap=lambda handler: note(wrap(handler)), **options)  # type: ignore[arg-type]
        running.append(server)
        server.start()
        return Counted(server, connect(server.address), exchanges)

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def source(start_embedded: Callable[..., Counted]) -> Counted:
    return start_embedded()


@pytest.fixture
def target(start_embedded: Callable[..., Counted]) -> Counted:
    return start_embedded()


@pytest.fixture
def start_docker_registry(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the CNCF registry; returns its address."""
    program = peer("docker-registry")
    with ExitStack() as running:

        def start() -> str:
            folder = tempfile.mkdtemp(prefix="docker-registry-", dir=tmp_path)
            return running.enter_context(DockerRegistry(program, Path(folder))).address

        yield start


class Graphs:
    """Pushes images and artifacts through the public client."""

    def noise(self, size: int, seed: int = 0) -> bytes:
        return random.Random(seed * 7919 + size).randbytes(size)

    def image(self, place: Place, *layers: bytes, tag: str = "", config: bytes = b"") -> ManifestBytes:
        """An image; layers need not be tars, a copier does not look inside."""
        platform = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":"%s"}' % config
        manifest = manifest_bytes(
            Manifest(
                schema_version=2,
                media_type=media_types.OCI_MANIFEST,
                config=push_blob(place, platform, media_type=media_types.OCI_CONFIG),
                layers=tuple(push_blob(place, layer, media_type=media_types.OCI_LAYER_GZIP) for layer in layers),
            )
        )
        place.registry.put_manifest(place.repository, manifest, tag=tag)
        return manifest

    def index(self, place: Place, *children: tuple[ManifestBytes, str], tag: str = "") -> ManifestBytes:
        """An index over (manifest, platform) pairs."""
        described = [
            Descriptor(
                media_type=child.media_type,
                digest=child.digest,
                size=len(child.raw),
                platform=Platform.parse(platform) if platform else None,
            )
            for child, platform in children
        ]
        manifest = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(described)))
        place.registry.put_manifest(place.repository, manifest, tag=tag)
        return manifest

    def artifact(
        self, place: Place, content: bytes, *, subject: Descriptor | None, kind: str = "test/evidence", tag: str = ""
    ) -> ManifestBytes:
        """An artifact, a referrer when it has a subject."""
        push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
        manifest = manifest_bytes(
            Manifest(
                schema_version=2,
                media_type=media_types.OCI_MANIFEST,
                artifact_type=kind,
                config=EMPTY,
                layers=(push_blob(place, content, media_type=kind),),
                subject=subject,
            )
        )
        place.registry.put_manifest(place.repository, manifest, tag=tag)
        return manifest

    def signed_index(self, place: Place, tag: str) -> ManifestBytes:
        """Two platforms, an attestation on a child, a signature chain on the index, a cosign tag."""
        amd64 = self.image(place, self.noise(5000, 1), self.noise(70_000, 2), config=b"amd64")
        arm64 = self.image(place, self.noise(5000, 1), self.noise(60_000, 3), config=b"arm64")
        top = self.index(place, (amd64, "linux/amd64"), (arm64, "linux/arm64"), tag=tag)
        signature = self.artifact(place, b"signature", subject=top.descriptor)
        self.artifact(place, b"countersignature", subject=signature.descriptor)
        self.artifact(place, b"sbom of a child", subject=amd64.descriptor)
        cosign = f"sha256-{top.digest.hex}.sig"
        self.artifact(place, b"cosign", subject=None, kind="cosign", tag=cosign)
        return top


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()
