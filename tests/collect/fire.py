"""Pushers that go on while a registry is collected, and somebody independent who looks afterwards what is whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from tests.registry.wire import ask

SIGNATURE = "application/vnd.example.signature.v1+json"
OLD_DAYS = 90


def created(days_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()


def put_image(place: Place, days_ago: float, layers: list[bytes], *, name: str) -> ManifestBytes:
    """As clients push: what a HEAD finds is not sent again. The manifest without a tag."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "name": name, "created": created(days_ago)}).encode()
    below = [
        put_blob(place, content, kind)
        for content, kind in [(config, media_types.OCI_CONFIG), *((each, media_types.OCI_LAYER) for each in layers)]
    ]
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=below[0], layers=tuple(below[1:]))
    )
    place.registry.put_manifest(place.repository, manifest)
    return manifest


def put_blob(place: Place, content: bytes, kind: str) -> Descriptor:
    blob = Descriptor(media_type=kind, digest=Digest.of(content), size=len(content))
    if place.registry.blob_size(place.repository, blob.digest) is None:
        place.registry.upload_blob(place.repository, blob, Bytes(content))
    return blob


class Bytes:
    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def index_of(children: list[ManifestBytes]) -> ManifestBytes:
    entries = tuple(
        Descriptor(
            media_type=one.media_type,
            digest=one.digest,
            size=len(one.raw),
            platform=Platform(os="linux", architecture=f"arch{number}"),
        )
        for number, one in enumerate(children)
    )
    return manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries))


def sign(place: Place, subject: ManifestBytes, text: str) -> Digest:
    return attach(
        place, subject=subject.descriptor, artifact_type=SIGNATURE, content=text.encode(), media_type="text/plain"
    ).digest


@dataclass
class Old:
    """What is there before and goes by the rules: layers, and manifests with their layers, that pushers use again."""

    layers: list[bytes] = field(default_factory=list)
    litter: list[bytes] = field(default_factory=lambda: [b"litter"])
    images: list[tuple[ManifestBytes, list[bytes], str]] = field(default_factory=list)


def grow_old(root: Path) -> None:
    then = time.time() - 2 * 86400
    for path in root.rglob("blobs/*/*"):
        os.utime(path, (then, then))


def fill(place: Place, root: Path, count: int) -> Old:
    """Old images, signed, some of them platforms of old indexes alone; all of it was last used two days ago."""
    old = Old()
    for number in range(count):
        layers = [f"old layer {number}".encode(), f"shared layer {number % 7}".encode()]
        image = put_image(place, OLD_DAYS, layers, name=f"old {number}")
        old.layers += layers
        old.images.append((image, layers, f"old {number}"))
        top = image
        if number % 3 == 2:
            top = index_of([each[0] for each in old.images[-2:]])
        place.registry.put_manifest(place.repository, top, tag=f"old-{number}")
        sign(place, top, f"signature of {number}")
    grow_old(root)
    return old


def litter(folder: Path, old: Old, turn: int) -> None:
    """Blobs that nobody needs and nobody used for two days, of layers that pushers want from now on: where a pusher was
    faster, his stays."""
    then = time.time() - 2 * 86400
    old.litter = [f"litter {turn} {number}".encode() for number in range(40)]
    for content in old.litter[:20]:
        target = folder / "blobs/sha256" / Digest.of(content).hex
        made = folder / "litter"
        made.write_bytes(content)
        os.utime(made, (then, then))
        with suppress(FileExistsError):
            os.link(made, target)
        made.unlink()


class Pusher(threading.Thread):
    """Pushes until told to stop: images with old and new layers, signed; indexes of new and old platforms; a tag that
    moves. live: what must be there afterwards, by tag, with its signature."""

    def __init__(self, place: Place, old: Old, number: int, going: Callable[[], bool]) -> None:
        super().__init__()
        self._place, self._old, self._number, self._going = place, old, number, going
        self._random = random.Random(number)
        self.live: dict[str, Digest] = {}
        self.signed: dict[Digest, Digest] = {}
        self.platforms: set[Digest] = set()
        self.pushed = self.reused = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._push()  # once in any case: the time may be over before a busy machine begins
            while self._going():
                self._push()
        except BaseException as error:
            self.error = error

    def _push(self) -> None:
        place, name = self._place, f"live-{self._number}-{self.pushed}"
        layers = [
            f"{name} layer".encode(),
            self._random.choice(self._old.layers),
            self._random.choice(self._old.litter),
        ]
        top = put_image(place, 0, layers, name=name)
        if self.pushed % 2:
            child, its_layers, its_name = self._random.choice(self._old.images)
            if digest_at(place, child.digest) is None:
                child = put_image(place, OLD_DAYS, its_layers, name=its_name)
            else:
                self.reused += 1
            self.platforms.add(child.digest)
            top = index_of([top, child])
            place.registry.put_manifest(place.repository, top)
        self.signed[top.digest] = sign(place, top, f"signature of {name}")
        for tag in (name, f"latest-{self._number}"):
            place.registry.put_manifest(place.repository, top, tag=tag)
            self.live[tag] = top.digest
        self.pushed += 1


def broken(server: EmbeddedServer, repository: str, live: dict[str, Digest], signed: dict[Digest, Digest]) -> list[str]:
    """What of the live tags cannot be pulled, by plain requests: every manifest, layer and signature, hashed."""
    problems: list[str] = []
    seen: set[str] = set()

    def get(kind: str, digest: str, why: str) -> bytes | None:
        answer = ask(server, "GET", f"/v2/{repository}/{kind}/{digest}")
        if answer.status != 200 or f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != digest:
            problems.append(f"{why}: {kind} {digest}: {answer.status}")
            return None
        return answer.body

    def whole(digest: str, why: str) -> None:
        if digest in seen:
            return
        seen.add(digest)
        raw = get("manifests", digest, why)
        if raw is None:
            return
        content = json.loads(raw)
        for child in content.get("manifests", ()):
            whole(child["digest"], why)
        for blob in (*content.get("layers", ()), *([content["config"]] if "config" in content else ())):
            if blob["digest"] not in seen:
                seen.add(blob["digest"])
                get("blobs", blob["digest"], why)
        if digest in signed:
            listed = ask(server, "GET", f"/v2/{repository}/referrers/{digest}").json["manifests"]
            if signed[Digest.parse(digest)] not in [each["digest"] for each in listed]:
                problems.append(f"{why}: signature of {digest} is not listed")
            whole(signed[Digest.parse(digest)], f"{why}'s signature")

    for tag, digest in sorted(live.items()):
        named = ask(server, "HEAD", f"/v2/{repository}/manifests/{tag}").headers["Docker-Content-Digest"]
        if named != digest:
            problems.append(f"{tag} names {named}, not {digest}")
        whole(digest, tag)
    return problems


def registry_of(server: EmbeddedServer) -> DistributionRegistry:
    return DistributionRegistry(server.address)
