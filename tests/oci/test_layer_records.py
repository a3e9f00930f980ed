"""What one pass finds of a layer, against the output of the official SOCI builder, Python's tarfile and zlib."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import random
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer import inflate, tar_bytes
from registry_pipelines.oci.layer.checkpoints import WINDOW_BYTES
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER, OCI_LAYER_GZIP
from tests.oci.test_layers import make_tar
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
    assert record.entry_count == len(list(record.entries())) == vector["entries"]
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


def naive_points(raw: bytes, span_bytes: int) -> list[tuple[int, int, int]]:
    """The official rule step by step, over the system's zlib: stop at every block, the window left aside."""
    library = inflate._load_zlib()
    inflater = inflate.Inflater(library, window_bits=inflate.GZIP_WINDOW)
    stream, source = inflater.stream, ctypes.create_string_buffer(raw, len(raw))
    target = ctypes.create_string_buffer(1 << 16)
    stream.next_in, stream.avail_in = ctypes.addressof(source), len(raw)
    points: list[tuple[int, int, int]] = []
    position, last = 0, 0
    while True:
        stream.next_out, stream.avail_out = ctypes.addressof(target), len(target)
        answer = inflater.inflate(inflater.pointer, inflate.Z_BLOCK)
        assert answer in (inflate.Z_OK, inflate.Z_STREAM_END, inflate.Z_BUF_ERROR)
        position += len(target) - stream.avail_out
        if answer == inflate.Z_STREAM_END:
            if not stream.avail_in:
                return points
            inflater.reset()
        elif stream.data_type & 128 and not stream.data_type & 64 and (position == 0 or position - last > span_bytes):
            if points and position == 0:
                points.pop()
            points.append((len(raw) - stream.avail_in, position, stream.data_type & 7))
            last = position


FLUSHES = [zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK]


PACKINGS = st.tuples(
    st.integers(0, 9),
    st.integers(1, 9),
    st.integers(0, 4),
    st.integers(700, 60_000),
    st.sampled_from(FLUSHES),
    st.booleans(),
)


def packed(tar: bytes, cuts: list[int], packings: list[tuple[int, int, int, int, int, bool]]) -> bytes:
    """The tar in gzip members that end at the cuts, each in its own way, with a flush behind every step."""
    raw, start = b"", 0
    for cut, (level, memory, strategy, step, flush, early) in zip([*sorted(cuts), len(tar)], packings, strict=True):
        packer = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
        if early:
            raw += packer.flush(flush) if flush else b""
        for at in range(start, cut, step):
            raw += packer.compress(tar[at : min(at + step, cut)]) + (packer.flush(flush) if flush else b"")
        raw += packer.flush()
        start = max(start, cut)
    return raw


def words(seed: int, size: int) -> bytes:
    picked = random.Random(seed)
    return b" ".join(picked.choice([b"layer", b"span", b"%d" % picked.randrange(10**9)]) for _ in range(size // 7))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 120_000),
    st.lists(st.tuples(st.integers(0, 1000), PACKINGS), max_size=3),
    PACKINGS,
    st.integers(1, 90_000),
    st.booleans(),
)
def test_points_are_those_of_the_rule_whatever_wrote_the_gzip(
    size: int,
    members: list[tuple[int, tuple[int, int, int, int, int, bool]]],
    last: tuple[int, int, int, int, int, bool],
    span_bytes: int,
    padded: bool,
) -> None:
    content = words(size, size)
    whole = make_tar(("a", content), ("b", b"x" * (size // 3))) + bytes(30_000 if padded else 0)
    raw = packed(whole, [share * len(whole) // 1000 for share, _ in members], [*(how for _, how in members), last])
    with tempfile.TemporaryDirectory() as folder:
        record = record_of(LayerStore(Path(folder)), raw, span_bytes=span_bytes)
        points = [point for point in naive_points(raw, span_bytes) if point[1] <= record.archive_end]
        assert [tuple(point) for point in record.checkpoints] == points
        ends = [*(point[0] for point in points[1:]), len(raw)]
        assert list(record.span_digests) == [
            Digest.of(raw[start - bool(bits) : end]) for (start, _, bits), end in zip(points, ends, strict=True)
        ]
        for number, (_, position, _) in enumerate(points):
            window = whole[max(0, position - WINDOW_BYTES) : position]
            assert record.window(number) == window.rjust(WINDOW_BYTES, b"\0")
        assert record.archive_end == sum(512 + some + -some % 512 for some in (len(content), size // 3)) + 1024


class Trickle:
    """Gives few bytes at a time, as a slow socket may."""

    def __init__(self, raw: bytes, most: int) -> None:
        self._raw, self._most = io.BytesIO(raw), most

    def readinto(self, buffer: memoryview, /) -> int:
        return self._raw.readinto(buffer[: self._most])


def padded() -> bytes:
    """Ends long before its tar does, with a block every 4 KiB; nothing is a checkpoint there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", bufsize=512) as tar:
        noise = random.Random(1).randbytes(200_000)
        info = tarfile.TarInfo("noise")
        info.size = len(noise)
        tar.addfile(info, io.BytesIO(noise))
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    raw = out.getvalue() + bytes(200_000)
    pieces = (raw[start : start + 4096] for start in range(0, len(raw), 4096))
    flushed = [compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return b"".join((*flushed, compressor.flush()))


@pytest.mark.parametrize(
    "layer", ["spans.tar.gz", "multi-member.tar.gz", "empty-first-member.tar.gz", "small-memlevel.tar.gz", "padded"]
)
def test_neither_short_reads_nor_threads_beside_change_the_record(
    layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = padded() if layer == "padded" else files()[f"layers/{layer}"]
    expected = record_of(LayerStore(tmp_path / "whole"), raw, span_bytes=16384)
    assert all(each.position <= expected.archive_end for each in expected.checkpoints)
    descriptor, diff_id = described(raw, unpacked(raw))
    monkeypatch.setattr(tar_bytes, "BUFFER_BYTES", 8192)
    for number, most in enumerate((29, 1000, 1 << 20)):
        with ThreadPoolExecutor(1) as beside, ThreadPoolExecutor(1) as ahead:
            for threads in ({"beside": beside}, {"ahead": ahead}, {"beside": beside, "ahead": ahead}):
                store = LayerStore(tmp_path / f"{number} {' '.join(threads)}")
                record = store.read(Trickle(raw, most), descriptor, diff_id, span_bytes=16384, **threads)
                assert same(record, expected), threads


def same(one: LayerRecord, other: LayerRecord) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in (
            "checkpoints",
            "span_digests",
            "archive_end",
            "tar_size",
            "size",
            "digest",
            "diff_id",
            "compression",
        )
    ) and list(one.entries()) == list(other.entries())


KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(TEXTS.filter(lambda text: text.strip("/"))))
    info.type = draw(st.sampled_from(KINDS))
    info.mode, info.mtime = draw(st.integers(0, 0o7777)), draw(st.integers(0, 2**33))
    info.uid, info.gid = draw(st.integers(0, 2**31)), draw(st.integers(0, 2**21))
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(TEXTS)
    if draw(st.booleans()):
        info.pax_headers = {"SCHILY.xattr.user." + draw(st.sampled_from("abc")): draw(TEXTS)}
    content = draw(st.binary(max_size=2000)) if info.type == tarfile.REGTYPE else b""
    info.size = len(content)
    return info, content


@settings(deadline=None, max_examples=60)
@given(
    st.lists(members(), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([bytes, gzip.compress, zstandard.compress]),
)
def test_entries_are_those_of_the_tar(
    content: list[tuple[tarfile.TarInfo, bytes]], format: int, compress: Callable[[bytes], bytes]
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, payload in content:
            tar.addfile(info, io.BytesIO(payload))
    whole = buffer.getvalue()
    raw = compress(whole)
    layer, diff_id = described(raw, whole)
    with tempfile.TemporaryDirectory() as folder:
        record = LayerStore(Path(folder)).read(io.BytesIO(raw), layer, diff_id)
        entries = list(record.entries())
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        expected = [(member.offset, member.offset_data, member.name, member.linkname, member.size) for member in tar]
    seen = []
    for entry in entries:
        with tarfile.open(fileobj=io.BytesIO(entry.blocks + bytes(entry.size + -entry.size % 512))) as tar:
            (member,) = tar
        seen.append((entry.position - len(entry.blocks), entry.position, member.name, member.linkname, entry.size))
    assert seen == expected
    assert [whole[entry.position - len(entry.blocks) : entry.position] for entry in entries] == [
        entry.blocks for entry in entries
    ]
    digests = [hashlib.sha256(payload).digest() if payload else b"" for _, payload in content]
    assert [entry.sha256 for entry in entries] == digests
    assert (record.compression, record.tar_size) == (
        {bytes: "plain", gzip.compress: "gzip", zstandard.compress: "zstd"}[compress],  # type: ignore[index]
        len(whole),
    )
    assert record.archive_end == (expected_end(expected) if expected else 1024)


def expected_end(members: list[tuple[int, int, str, str, int]]) -> int:
    _, position, _, _, size = members[-1]
    return position + size + -size % 512 + 1024


def test_a_plain_layer_is_cut_into_slices_and_a_zstd_layer_into_none(tmp_path: Path) -> None:
    tar = make_tar(("a", words(1, 100_000)))
    store = LayerStore(tmp_path)
    layer, diff_id = described(tar, tar, OCI_LAYER)
    plain = store.read(io.BytesIO(tar), layer, diff_id, span_bytes=30_000)
    assert list(plain.span_digests) == [Digest.of(tar[at : at + 30_000]) for at in range(0, len(tar), 30_000)]
    assert plain.checkpoints == () and plain.compression == "plain"
    raw = zstandard.compress(tar)
    layer, diff_id = described(raw, tar)
    record = store.read(io.BytesIO(raw), layer, diff_id)
    assert (record.span_digests, record.checkpoints, record.compression) == ((), (), "zstd")
    assert record.entry_count == 1


def test_zero_bytes_between_and_behind_members_are_said(tmp_path: Path) -> None:
    raw = files()["layers/err-trailing-zeros.tar.gz"]
    assert record_of(LayerStore(tmp_path), raw).padding_bytes == 512
    raw = gzip.compress(make_tar(("a", b"1"))[:512]) + bytes(7) + gzip.compress(make_tar(("a", b"1"))[512:])
    assert record_of(LayerStore(tmp_path), raw).padding_bytes == 7


@pytest.mark.parametrize(
    "vector", [v for v in vectors("error") if "zero" not in v["layer"] and "pax" not in v["layer"]], ids=ids
)
def test_what_the_official_builder_refuses_as_damaged_leaves_no_record(vector: dict[str, Any], tmp_path: Path) -> None:
    raw = files()[vector["layer"]]
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    diff_id = Digest.of(zlib.decompressobj(-15).decompress(raw[10:]))
    store = LayerStore(tmp_path)
    if any(word in vector["note"] for word in ("typeflag", "sparse")):
        assert store.read(io.BytesIO(raw), layer, diff_id).entry_count > 0
        return
    with pytest.raises(LayerInvalid):
        store.read(io.BytesIO(raw), layer, diff_id)
    assert store.get(diff_id, layer.digest) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_stream_of_empty_blocks_ends_instead_of_going_on_for_hours(tmp_path: Path) -> None:
    tar = make_tar(("a", b"1"))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    head, trailer = bytes.fromhex("1f8b08000000000000ff"), struct.pack("<II", zlib.crc32(tar), len(tar))
    behind = packer.compress(tar) + packer.flush() + trailer
    few, many = (head + count * b"\0\0\0\xff\xff" + behind for count in (1000, 70_000))
    assert [tuple(point) for point in record_of(LayerStore(tmp_path), few).checkpoints] == [(5010, 0, 0)]
    with pytest.raises(LayerInvalid, match="empty blocks"):
        record_of(LayerStore(tmp_path), many)
