"""Bundles written by plain means, without what makes ours: from the format's own words (``mirror.bundle.format``)."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from registry_pipelines.evidence.model import Signer
from registry_pipelines.mirror.bundle.format import (
    SCHEMA,
    Base,
    Bundle,
    BundleBlob,
    BundleImage,
    Need,
    Part,
    document_name,
    part_name,
    seal,
)
from registry_pipelines.mirror.bundle.receipt import SignedReceipt
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import discover

LINE = "a" * 32


@dataclass
class Line:
    """The near side: what it makes bundles of."""

    signer: Signer
    line: str = LINE
    mirror: str = "upstreams"
    number: int = 0
    brought: dict[Digest, int] = field(default_factory=dict)

    def write(
        self,
        folder: Path,
        images: Sequence[tuple[Place, str]],
        *,
        part_size: int = 20_000,
        receipt: SignedReceipt | None = None,
        made_at: str = "2026-11-29T10:00:00+00:00",
        prefix: str = "",
    ) -> Bundle:
        """The next bundle of these tags, in a folder. receipt: what the far side has."""
        self.number += 1
        held = receipt.receipt.holders() if receipt else {}
        found = [(place, tag, discover(place, tag)) for place, tag in images]
        stream, blobs, needs = _stream([(place, closure) for place, _, closure in found], held)
        needs = [msgspec.structs.replace(need, number=self.brought.get(need.digest, 0)) for need in needs]
        self.brought.update({blob.digest: self.number for blob in blobs})
        bundle = Bundle(
            schema=SCHEMA,
            mirror=self.mirror,
            line=self.line,
            number=self.number,
            made_at=made_at,
            stream_size=len(stream),
            part_size=part_size,
            parts=tuple(self._parts(folder, stream, part_size)),
            blobs=tuple(blobs),
            images=tuple(_image(place, tag, closure, prefix) for place, tag, closure in found),
            needs=tuple(needs),
            receipt=_base(receipt),
        )
        (folder / document_name(self.mirror, self.number)).write_bytes(seal(bundle, self.signer))
        return bundle

    def _parts(self, folder: Path, stream: bytes, part_size: int) -> list[Part]:
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for number, at in enumerate(range(0, len(stream), part_size), 1):
            piece, name = stream[at : at + part_size], part_name(self.mirror, self.number, number)
            (folder / name).write_bytes(piece)
            parts.append(Part(name=name, size=len(piece), sha256=hashlib.sha256(piece).hexdigest()))
        return parts


def _base(receipt: SignedReceipt | None) -> Base | None:
    if receipt is None:
        return None
    return Base(far=receipt.receipt.far, sequence=receipt.receipt.sequence, sha256=Digest(receipt.sha256).hex)


def _image(place: Place, tag: str, closure: Closure, prefix: str) -> BundleImage:
    return BundleImage(
        repository=f"{prefix}/{place.repository}" if prefix else place.repository,
        digest=closure.root.digest,
        media_type=closure.root.media_type,
        size=closure.root.size,
        tags=(tag,),
        source=str(place),
        manifests=tuple(each.digest for each in closure.manifests),
        digest_tags=dict(closure.digest_tags),
    )


def _stream(
    closures: Sequence[tuple[Place, Closure]], known: Mapping[str, str]
) -> tuple[bytes, list[BundleBlob], list[Need]]:
    manifests = {each.digest: each for _, closure in closures for each in closure.manifests}
    layers = {blob.digest: (place, blob) for place, closure in closures for blob in closure.blobs.values()}
    buffer = io.BytesIO()
    blobs: list[BundleBlob] = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(digest: Digest, content: bytes, media_type: str) -> None:
            info = tarfile.TarInfo(f"blobs/{digest.algorithm}/{digest.hex}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            padded = -(-len(content) // 512) * 512
            blobs.append(
                BundleBlob(digest=digest, size=len(content), offset=buffer.tell() - padded, media_type=media_type)
            )

        for digest, manifest in manifests.items():
            add(digest, manifest.raw, manifest.media_type)
        for digest, (place, blob) in layers.items():
            if digest not in known:
                add(digest, read_blob(place, blob, limit=blob.size), "")
    needs = [
        Need(digest=digest, size=blob.size, repository=known[digest])
        for digest, (_, blob) in layers.items()
        if digest in known
    ]
    return buffer.getvalue(), blobs, needs
