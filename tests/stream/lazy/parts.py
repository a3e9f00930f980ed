"""Layers in a registry, and what fetches them lazily."""

from __future__ import annotations

import io
import random
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.filling import Filler
from registry_pipelines.stream.lazy.pieces import SpanPieces
from registry_pipelines.stream.ztoc import record_spans
from tests.oci.test_layer_records import unpacked


def noise(seed: int, size: int) -> bytes:
    """Bytes that compress to about a half."""
    return bytes(random.Random(seed).choices(range(64), k=size))


class Layer:
    """A layer in a registry, with its record."""

    def __init__(self, place: Place, folder: Path, raw: bytes, *, span_bytes: int = 8192) -> None:
        self.raw, self.tar = raw, unpacked(raw)
        self.descriptor: Descriptor = push_blob(place, raw, media_type=OCI_LAYER_GZIP)
        store = LayerStore(folder / "records")
        self.record: LayerRecord = store.read(
            io.BytesIO(raw), self.descriptor, Digest.of(self.tar), span_bytes=span_bytes
        )

    @property
    def pieces(self) -> SpanPieces:
        return SpanPieces(record_spans(self.record), table=None, where="layer")


def filler(place: Place, folder: Path, *, log: list[str] | None = None, patience_s: float = 60) -> Filler:
    return Filler(place, BlockStore(folder), log=[].append if log is None else log.append, patience_s=patience_s)


def nothing_left(folder: Path, pattern: str) -> bool:
    """Whether nothing is there by that name, while somebody deletes."""
    try:
        return not list(folder.glob(pattern))
    except FileNotFoundError:  # just now
        return False
