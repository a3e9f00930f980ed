"""SOCI's table of a layer: the official builder's bytes, and what a reader makes of bytes by others."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import IndexInvalid, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.checkpoints import Checkpoint
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.stream import ztoc
from registry_pipelines.stream.flatbuffer import Builder
from registry_pipelines.stream.mountable import ztoc_files
from registry_pipelines.stream.toc import FileMetadata, file_metadata
from registry_pipelines.stream.ztoc import Spans, read_ztoc, record_spans, write_ztoc
from tests.oci.test_layer_records import ids, record_of
from tests.ztoc_vectors import files, vectors

SMALL = "ztocs/links-devices-xattrs.tar.gz.4194304.ztoc"


def record(folder: Path, vector: dict[str, Any]) -> LayerRecord:
    return record_of(LayerStore(folder / "store"), files()[vector["layer"]], span_bytes=vector["span_size"])


def made(folder: Path, vector: dict[str, Any]) -> bytes:
    layer = record(folder, vector)
    digest, size = write_ztoc(folder / "out", ztoc_files(layer), record_spans(layer))
    raw = (folder / "out").read_bytes()
    assert (digest, size) == (Digest.of(raw), len(raw))
    return raw


@pytest.mark.parametrize("batch", [ztoc.BATCH, 3])
@pytest.mark.parametrize("vector", vectors("golden"), ids=ids)
def test_the_official_builders_bytes(
    vector: dict[str, Any], batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ztoc, "BATCH", batch)
    assert made(tmp_path, vector) == files()[vector["ztoc"]]


@pytest.mark.parametrize("vector", vectors("golden"), ids=ids)
def test_what_is_read_is_what_was_written(vector: dict[str, Any], tmp_path: Path) -> None:
    read = read_ztoc(files()[vector["ztoc"]])
    layer = record(tmp_path, vector)
    assert list(read) == list(ztoc_files(layer))
    assert len(read.header_starts()) == vector["entries"]
    assert (read.spans.points, read.spans.digests) == (record_spans(layer).points, layer.span_digests)
    assert (read.spans.size, read.spans.archive_end) == (vector["layer_size"], vector["uncompressed_archive_size"])
    assert [read.spans.window(n) for n in range(len(layer.checkpoints))] == [
        bytes(layer.window(n)) for n in range(len(layer.checkpoints))
    ]
    assert read.tool == "AWS SOCI CLI v0.2"


@pytest.mark.parametrize("vector", [v for v in vectors("quirk") if "sparse" not in v["layer"]], ids=ids)
def test_where_the_official_tables_are_refused_by_nodes_ours_are_not(vector: dict[str, Any], tmp_path: Path) -> None:
    read = read_ztoc(made(tmp_path, vector))
    assert [list(point) for point in read.spans.points] == vector.get("recommended_checkpoints", vector["checkpoints"])
    assert {entry.size for entry in read if entry.kind != b"reg"} <= {0}
    read.header_starts()
    with pytest.raises(IndexInvalid):
        read_ztoc(files()[vector["ztoc"]]).header_starts()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("pax-sparse-1.0", "real-name.* is a sparse file"),
        ("err-pax-global", "PAX global header"),
        ("err-type-7", "'cont' before byte 512: it is a contiguous file"),
        ("err-gnu-sparse", "'sp' before byte 512: it is a sparse file"),
        ("err-trailing-zeros", "zero bytes between or behind its gzip members"),
        ("err-truncated-gzip", "truncated"),
        ("err-bad-crc", "incorrect data check"),
        ("err-zero-then-data", "single zero block"),
        ("err-bad-checksum", "checksum"),
    ],
)
def test_what_no_table_can_be_made_of_is_refused_by_its_name(layer: str, reason: str, tmp_path: Path) -> None:
    raw = files()[f"layers/{layer}.tar.gz"]
    try:
        diff_id = Digest.of(gzip.decompress(raw))
    except (EOFError, gzip.BadGzipFile):
        diff_id = Digest.of(b"nobody knows")
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    with pytest.raises(LayerInvalid, match=reason):
        found = LayerStore(tmp_path / "store").read(io.BytesIO(raw), descriptor, diff_id)
        write_ztoc(tmp_path / "out", ztoc_files(found), record_spans(found))


def test_no_point_is_written_behind_the_end_of_the_archive(tmp_path: Path) -> None:
    """Go's gzip ends with an empty block: behind GNU tar's padding its point gives a span of negative length."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("f")
        info.size = 30_000
        tar.addfile(info, io.BytesIO(bytes(range(250)) * 120))
    plain = out.getvalue()
    assert len(plain) % 10240 == 0
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    raw = packer.compress(plain[:32_000]) + packer.flush(zlib.Z_FULL_FLUSH) + packer.compress(plain[32_000:])
    raw += packer.flush(zlib.Z_FULL_FLUSH) + packer.flush()
    assert gzip.decompress(raw) == plain
    layer = record_of(LayerStore(tmp_path / "store"), raw, span_bytes=100)
    write_ztoc(tmp_path / "out", ztoc_files(layer), record_spans(layer))
    spans = read_ztoc((tmp_path / "out").read_bytes()).spans
    assert spans.points[-1].position < spans.archive_end < len(plain)
    assert spans.stored(len(spans.points) - 1)[1] == len(raw)


DIGESTS = (Digest("sha256:" + "0" * 64), Digest("sha256:" + "1" * 64))
POINTS = (Checkpoint(10, 0, 0), Checkpoint(500, 1200, 3))
SPANS = Spans("gzip", 900, 3000, 1000, POINTS, DIGESTS, bytes(2 << 15))
ENTRY = FileMetadata(b"a", b"reg", 512, 100, b"", 0o644, 0, 0, b"", b"", b"1970-01-01T00:00:00Z", 0, 0, ())


def foreign(folder: Path, *, entry: FileMetadata = ENTRY, **change: Any) -> bytes:
    """A table with one thing that is not so."""
    write_ztoc(folder / "out", [entry], dataclasses.replace(SPANS, **change))
    return (folder / "out").read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": (Checkpoint(10, 0, 0), Checkpoint(10, 1200, 0))}, "do not grow"),
        ({"points": (Checkpoint(10, 0, 0), Checkpoint(500, 0, 0))}, "do not grow"),
        ({"points": (Checkpoint(10, 0, 0), Checkpoint(5000, 1200, 0))}, "outside"),
        ({"points": (Checkpoint(10, 0, 0), Checkpoint(500, 1200, 9))}, "outside"),
        ({"points": (Checkpoint(0, 0, 1), Checkpoint(500, 1200, 0))}, "outside"),
        ({"digests": DIGESTS[:1]}, "one digest for each span"),
        ({"digests": (DIGESTS[0], Digest("sha256:zz"))}, "digest is none"),
        ({"size": 0}, "no size"),
        ({"archive_end": -1}, "no size"),
        ({"entry": ENTRY._replace(kind=b"socket")}, "unknown type"),
        ({"entry": ENTRY._replace(position=2990)}, "outside"),
        ({"entry": ENTRY._replace(size=-1)}, "outside"),
        ({"size": 499}, "outside"),
    ],
)
def test_a_table_that_a_node_refuses_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(IndexInvalid, match=reason):
        list(read_ztoc(foreign(tmp_path, **change), where="here"))


def test_a_last_point_behind_the_archive_and_v1_points_are_read(tmp_path: Path) -> None:
    behind = (Checkpoint(10, 0, 0), Checkpoint(500, 3500, 3))
    spans = read_ztoc(foreign(tmp_path, points=behind)).spans
    assert spans.unpacked(1) == (3500, 3500)
    raw = foreign(tmp_path)
    point = raw.index((10).to_bytes(8, "little") + bytes(9 + 32768))
    size = 17 + 32768
    first, second, rest = raw[point : point + size], raw[point + size : point + 2 * size], raw[point + 2 * size :]
    # Version 1 has the same table without its first point; the vector's length stands before count and span size.
    head = (12 + size).to_bytes(4, "little") + raw[point - 12 : point]
    older = raw[: point - 16] + head + second + first + rest
    assert read_ztoc(older).spans.points == POINTS
    assert read_ztoc(older).spans.window(1) == bytes(32768)


@given(st.data())
def test_bytes_by_others_give_a_table_or_the_error_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(files()[SMALL])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.one_of(st.integers(0, 2700), st.integers(0, len(raw) - 1)))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    try:
        table = read_ztoc(bytes(raw[:cut]))
        assert len(list(table)) == len(table.header_starts())
    except IndexInvalid:
        pass


@given(st.binary(max_size=200))
def test_any_bytes_give_the_error(raw: bytes) -> None:
    with pytest.raises(IndexInvalid):
        list(read_ztoc(raw))


@pytest.mark.parametrize("attributes", [0, 5000])
def test_what_repeats_without_end_is_refused(attributes: int) -> None:
    """64 KiB that are named by each of some thousand entries would unpack to hundreds of megabytes, and attributes that
    all of them share, without a byte of text, would take minutes."""
    with Builder() as builder:
        raw = repeating(builder, attributes)
    with pytest.raises(IndexInvalid, match="repeat"):
        for _ in read_ztoc(raw):
            pass


def repeating(builder: Builder, attributes: int) -> bytes:
    name = builder.string(b"" if attributes else b"n" * 65536)
    kind = builder.string(b"reg")
    shared = builder.offsets([builder.table([(2, 8, 1)])] * attributes)
    entry = builder.table([(0, 4, name), (1, 4, kind), (13, 4, shared)], references=(0, 1, 13))
    toc = builder.table([(0, 4, builder.offsets([entry] * 5000))], references=(0,))
    blob = builder.string((1).to_bytes(4, "little") + bytes(8) + (10).to_bytes(8, "little") + bytes(9 + 32768))
    digests = builder.offsets([builder.string(DIGESTS[0].encode())])
    info = builder.table([(2, 4, digests), (3, 4, blob)], references=(2, 3))
    top = builder.table([(4, 4, toc), (2, 8, 900), (3, 8, 900), (5, 4, info)], references=(4, 5))
    out = io.BytesIO()
    builder.finish(top, out)
    return out.getvalue()


def header(**fields: Any) -> bytes:
    info = tarfile.TarInfo("name")
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ({"mtime": "-1.25"}, ("modified", b"1969-12-31T23:59:58.75Z")),
        ({"mtime": "1.1234567899"}, ("modified", b"1970-01-01T00:00:01.123456789Z")),
        ({"mtime": "253402300799"}, ("modified", b"9999-12-31T23:59:59Z")),
        ({"uid": "-1"}, ("uid", 0xFFFFFFFF)),
        ({"uid": "4294967297"}, ("uid", 1)),
        ({"path": ""}, ("name", b"name")),
        ({"path": "é/ü"}, ("name", "é/ü".encode())),
        ({"mtime": "253402300800"}, "years 1 to 9999"),
        ({"mtime": "1e3"}, "time is malformed"),
        ({"atime": "x"}, "time is malformed"),
        ({"uid": "99999999999999999999"}, "is no number"),
        ({"path": "a\0b"}, "record is malformed"),
        ({"path": "a/" * 2048}, "more than 4095 bytes"),
        ({"GNU.sparse.map": "0,1"}, "sparse"),
    ],
)
def test_pax_records_are_read_as_go_reads_them(records: dict[str, str], found: tuple[str, object] | str) -> None:
    blocks = header(pax_headers=records)
    if isinstance(found, str):
        with pytest.raises(LayerInvalid, match=found):
            file_metadata(1536, 0, blocks)
    else:
        entry = file_metadata(1536, 0, blocks)
        assert getattr(entry, found[0]) == found[1]
        assert entry.records == tuple(sorted((key.encode(), value.encode()) for key, value in records.items()))


@given(st.binary(min_size=512, max_size=512), st.integers(0, 511), st.integers(0, 255))
def test_any_header_block_gives_an_entry_or_the_error(block: bytes, at: int, value: int) -> None:
    real = bytearray(header())
    real[at] = value
    for blocks in (block, bytes(real), block + bytes(real), bytes(real) + block):
        with contextlib.suppress(LayerInvalid):
            file_metadata(512, 0, blocks)
