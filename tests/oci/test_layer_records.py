"""What one pass finds of a layer, against the output of the official SOCI builder, Python's tarfile and zlib."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from tests.ztoc_vectors import checkpoints_blob, files, span_digests, vectors


def described(raw: bytes, tar: bytes, media_type: str = OCI_LAYER_GZIP) -> tuple[Descriptor, Digest]:
    return Descriptor(media_type=media_type, digest=Digest.of(raw), size=len(raw)), Digest.of(tar)


def unpacked(raw: bytes) -> bytes:
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def record_of(store: LayerStore, raw: bytes, *, span_bytes: int = 1 << 22, stream: Any = None) -> LayerRecord:
    layer, diff_id = described(raw, unpacked(raw), OCI_LAYER_GZIP)
    return store.read(stream or io.BytesIO(raw), layer, diff_id, span_bytes=span_bytes)


def ids(vector: dict[str, Any]) -> str:
    return f"{vector['layer'].removeprefix('layers/')}-{vector['span_size']}"


@pytest.mark.parametrize("vector", vectors("golden"), ids=ids)
def test_points_windows_and_span_digests_are_those_of_the_official_builder(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    raw, ztoc = files()[vector["layer"]], files()[vector["ztoc"]]
    record = record_of(LayerStore(tmp_path), raw, span_bytes=vector["span_size"])
    assert [list(point) for point in record.checkpoints] == vector["checkpoints"]
    assert list(record.span_digests) == span_digests(ztoc)
    assert record.archive_end == vector["uncompressed_archive_size"]
    assert len(record) == len(list(record.entries())) == vector["entries"]
    if record.compression == "gzip":
        blob = b"".join(
            struct.pack("<QQB", *point) + record.window(number) for number, point in enumerate(record.checkpoints)
        )
        assert blob == checkpoints_blob(ztoc)[12:]


@pytest.mark.parametrize("vector", [v for v in vectors("quirk") if "recommended_checkpoints" in v], ids=ids)
def test_of_points_at_the_beginning_only_the_last_is_kept(vector: dict[str, Any], tmp_path: Path) -> None:
    raw = files()[vector["layer"]]
    record = record_of(LayerStore(tmp_path), raw, span_bytes=vector["span_size"])
    assert [list(point) for point in record.checkpoints] == vector["recommended_checkpoints"]
    ends = [*(point.start for point in record.checkpoints[1:]), len(raw)]
    expected = [Digest.of(raw[point.first_byte : end]) for point, end in zip(record.checkpoints, ends, strict=True)]
    assert list(record.span_digests) == expected
