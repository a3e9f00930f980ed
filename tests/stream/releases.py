"""Releases to index and to convert, as others push them."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.evidence.keys import FileSigner
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.derive import convert_release
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.publish import index_release
from registry_pipelines.stream.results import ConversionResult, IndexResult
from tests.stream.layers import pack

SPAN = 64 << 10
INDEXED = Stream(span_size=Size(SPAN), min_layer_size=Size(1000))
SOCI = Stream(format="soci-v2", span_size=Size(SPAN), min_layer_size=Size(1000))
ESTARGZ = Stream(format="estargz")


@dataclass(frozen=True)
class Layer:
    """A layer as it is pushed, and what it unpacks to."""

    blob: bytes
    tar: bytes
    media_type: str = media_types.OCI_LAYER_GZIP
    more: dict[str, Any] = field(default_factory=dict)


def entries(name: str, size: int = 200_000, **contents: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A large file, different for every name, and others."""
    # Half of it compresses: noise alone makes deflate blocks of no use.
    noise = random.Random(name).randbytes(size // 2).hex().encode()
    made = []
    for path, content in {f"data/{name}": noise, **contents}.items():
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(content), 0o755
        made.append((info, content))
    return made


def files(name: str, size: int = 200_000, **contents: bytes) -> bytes:
    """The same as a tar."""
    return pack(entries(name, size, **contents))


def layer(name: str, size: int = 200_000, **more: Any) -> Layer:
    tar = files(name, size)
    return Layer(gzip.compress(tar, mtime=0), tar, **more)


def push(
    place: Place,
    *layers: Layer,
    architecture: str = "amd64",
    tag: str = "",
    docker: bool = False,
    config: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    created: str = "2026-11-28T00:00:00Z",
) -> Descriptor:
    """An image of one platform."""
    lines = []
    for each in layers:
        if not each.more.get("urls"):
            push_blob(place, each.blob, media_type=each.media_type)
        digest = f"sha256:{hashlib.sha256(each.blob).hexdigest()}"
        lines.append({"mediaType": each.media_type, "digest": digest, "size": len(each.blob), **each.more})
    described = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {"Env": ["A=b"], "Cmd": ["/data/x"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(each.tar).hexdigest()}" for each in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
    }
    kind = media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG
    pushed = push_blob(place, json.dumps(described).encode(), media_type=kind)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST,
        "config": {"mediaType": kind, "digest": pushed.digest, "size": pushed.size},
        "layers": lines,
        **({"annotations": annotations} if annotations else {}),
    }
    return put(place, document, tag=tag)


def put(place: Place, document: dict[str, Any], *, tag: str = "") -> Descriptor:
    raw = json.dumps(document).encode()
    manifest = ManifestBytes(raw, document["mediaType"], Digest.of(raw))
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest.descriptor


def push_index(place: Place, images: dict[str, Descriptor], *, tag: str, attested: bool = False) -> Descriptor:
    """An index over images by architecture; with BuildKit's attestation of each, if told."""
    lines: list[dict[str, Any]] = []
    for architecture, image in images.items():
        platform = {"architecture": architecture, "os": "linux"}
        lines.append({"mediaType": image.media_type, "digest": image.digest, "size": image.size, "platform": platform})
    for image in images.values() if attested else ():
        lines.append(_attestation(place, image))
    return put(place, {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": lines}, tag=tag)


def _attestation(place: Place, image: Descriptor) -> dict[str, Any]:
    statement = push_blob(place, b'{"_type":"of %s"}' % image.digest.encode(), media_type=media_types.IN_TOTO)
    config = push_blob(place, b'{"architecture":"unknown","os":"unknown"}', media_type=media_types.OCI_CONFIG)
    lines = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in (config, statement)]
    made = put(
        place,
        {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": lines[0], "layers": lines[1:]},
    )
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest}
    platform = {"architecture": "unknown", "os": "unknown"}
    return {
        "mediaType": made.media_type,
        "digest": made.digest,
        "size": made.size,
        "annotations": notes,
        "platform": platform,
    }


@dataclass
class Streamer:
    """Indexes and converts with a state folder and a key."""

    place: Place
    state: Path
    signer: FileSigner

    def index(self, release: Descriptor, stream: Stream = INDEXED) -> IndexResult:
        return index_release(
            self.place,
            release,
            stream,
            state=self.state,
            store=LayerStore(self.state / "layers"),
            signer=self.signer,
        )

    def convert(self, release: Descriptor, stream: Stream, *, tag: str = "v1") -> ConversionResult:
        return convert_release(
            self.place,
            release,
            tag,
            stream,
            state=self.state,
            store=LayerStore(self.state / "layers"),
            signer=self.signer,
        )


def hows(rows: Sequence[Any]) -> list[str]:
    return [row.how for row in rows]


def program(text: bytes) -> bytes:
    """A static ELF for amd64 Linux that writes a text and ends: what a container starts without any other file."""
    code = bytes.fromhex("b801000000 bf01000000 488d3510000000 ba".replace(" ", "")) + len(text).to_bytes(4, "little")
    return _elf(code + bytes.fromhex("0f05 b83c000000 31ff 0f05".replace(" ", "")) + text)


def waiting_program() -> bytes:
    """The same, which waits for ever (``pause``)."""
    return _elf(bytes.fromhex("b822000000 0f05 ebf7".replace(" ", "")))


def _elf(code: bytes) -> bytes:
    entry = 64 + 56
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400000 + entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, entry + len(code), entry + len(code), 0x1000)
    return head + code
