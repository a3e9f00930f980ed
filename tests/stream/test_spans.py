"""Files of a layer by ranges: what comes out of spans is what tarfile unpacks, whatever made the layer."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deflate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from registry_pipelines.errors import IndexInvalid, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.blobs import BytesSource, push_blob
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.mountable import clean_path, ztoc_files
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.soci import find_files
from registry_pipelines.stream.spans import LayerFiles
from registry_pipelines.stream.ztoc import Ztoc, read_ztoc, record_spans, write_ztoc
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import NoRange
from tests.oci.test_layer_records import ids, unpacked
from tests.stream.layers import members, pack
from tests.ztoc_vectors import files, vectors


def in_members(tar: bytes, cut: int) -> bytes:
    return b"".join(gzip.compress(tar[at : at + cut], 1) for at in range(0, len(tar), cut))


def flushed(tar: bytes, cut: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    parts = [packer.compress(tar[at : at + cut]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(tar), cut)]
    return b"".join(parts) + packer.flush()


def short_blocks(tar: bytes, cut: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31, memLevel=1)
    return packer.compress(tar) + packer.flush()


def fixed_codes(tar: bytes, cut: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31, memLevel=1, strategy=zlib.Z_FIXED)
    return packer.compress(tar) + packer.flush()


COMPRESSORS: dict[str, Callable[[bytes, int], bytes]] = {
    "zlib": lambda tar, cut: gzip.compress(tar, 6),
    "isal": lambda tar, cut: igzip.compress(tar, 2),
    "libdeflate": lambda tar, cut: bytes(deflate.gzip_compress(tar, 6)),
    "stored": lambda tar, cut: gzip.compress(tar, 0),
    "members": in_members,
    "flushed": flushed,
    "short-blocks": short_blocks,
    "fixed-codes": fixed_codes,
    "plain": lambda tar, cut: tar,
}


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    return pack(draw(members()), draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])))


def indexed(folder: Path, raw: bytes, span_bytes: int) -> Ztoc:
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    record = LayerStore(folder / "store").read(io.BytesIO(raw), layer, Digest.of(unpacked(raw)), span_bytes=span_bytes)
    write_ztoc(folder / "ztoc", ztoc_files(record), record_spans(record))
    return read_ztoc((folder / "ztoc").read_bytes(), where="the layer")


def reader(table: Ztoc, raw: bytes) -> LayerFiles:
    @contextmanager
    def ranges(start: int, stop: int) -> Iterator[Any]:
        yield BytesSource(raw[start:stop])

    return LayerFiles(table.spans, ranges)


def whole(table: Ztoc, raw: bytes) -> bytes:
    return b"".join(reader(table, raw).pieces(0, table.spans.archive_end))


@settings(max_examples=60)
@given(tars(), st.sampled_from(sorted(COMPRESSORS)), st.integers(200, 60_000), st.integers(3000, 30_000))
def test_every_file_by_spans_is_the_one_that_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory, tar: bytes, compressor: str, span_bytes: int, cut: int
) -> None:
    raw = COMPRESSORS[compressor](tar, cut)
    table = indexed(tmp_path_factory.mktemp("layer"), raw, span_bytes)
    by_range = reader(table, raw)
    with tarfile.open(fileobj=io.BytesIO(tar)) as expected:
        for entry, start, member in zip(table, table.header_starts(), expected, strict=True):
            assert entry.name.rstrip(b"/") == member.name.encode("utf-8", "surrogateescape")
            assert (entry.position, entry.mode, entry.uid) == (member.offset_data, member.mode, member.uid)
            assert entry.link == member.linkname.encode("utf-8", "surrogateescape")
            by_range.check_entry(entry, start)
            if member.isreg():
                content = expected.extractfile(member)
                assert content and by_range.content(entry, limit=1 << 20) == content.read()
    assert whole(table, raw) == tar[: table.spans.archive_end]


@settings(max_examples=40)
@given(tars(), st.sampled_from(sorted(COMPRESSORS)), st.integers(0, 1 << 20), st.integers(1, 255))
def test_damage_is_found_whatever_byte_it_hits(
    tmp_path_factory: pytest.TempPathFactory, tar: bytes, compressor: str, at: int, flip: int
) -> None:
    raw = COMPRESSORS[compressor](tar, 5000)
    table = indexed(tmp_path_factory.mktemp("layer"), raw, 4000)
    spans = table.spans
    last = max(number for number, point in enumerate(spans.points) if point.position < spans.archive_end)
    first, end = spans.stored(0)[0], spans.stored(last)[1]
    at = first + at % (end - first)
    with pytest.raises(IndexInvalid):
        whole(table, raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
    with pytest.raises(IndexInvalid):
        whole(table, raw[:at])


def test_a_table_of_another_layer_is_found(tmp_path: Path) -> None:
    raw, other = (files()[f"layers/spans{kind}.tar.gz"] for kind in ("", "-pigz"))
    table = indexed(tmp_path, raw, 16384)
    with pytest.raises(IndexInvalid, match="index is of another one"):
        whole(table, other)
    entry = next(iter(table))
    with pytest.raises(IndexInvalid, match="other things of"):
        reader(table, raw).check_entry(entry._replace(name=b"etc/shadow"), 0)
    with pytest.raises(IndexInvalid, match="no room"):
        reader(table, raw).check_entry(entry, 100)
    with pytest.raises(IndexInvalid, match="at most 10 are read"):
        reader(table, raw).content(max(table, key=lambda each: each.size), limit=10)
    with pytest.raises(IndexInvalid, match="does not begin as gzip"):
        whole(table, b"\0" + raw[1:])


@pytest.mark.parametrize("vector", vectors("golden"), ids=ids)
def test_the_official_builders_tables_are_read(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = files()[vector["layer"]]
    table = read_ztoc(files()[vector["ztoc"]])
    assert whole(table, raw) == unpacked(raw)[: table.spans.archive_end]
    monkeypatch.setattr("registry_pipelines.stream.spans.KEPT_BYTES", 0)
    for entry, start in zip(table, table.header_starts(), strict=True):
        reader(table, raw).check_entry(entry, start)
        assert reader(table, raw).content(entry, limit=1 << 20) == unpacked(raw)[entry.position :][: entry.size]


def test_a_time_zone_in_a_table_of_the_official_builder_is_no_difference(tmp_path: Path) -> None:
    raw = files()["layers/plain.tar.gz"]
    table = indexed(tmp_path, raw, 1 << 20)
    entry = next(iter(table))
    assert entry.modified == b"2023-11-14T22:13:20Z"
    reader(table, raw).check_entry(entry._replace(modified=b"2023-11-14T17:13:20-05:00"), 0)
    with pytest.raises(IndexInvalid):
        reader(table, raw).check_entry(entry._replace(modified=b"2023-11-14T17:13:20Z"), 0)


def test_ranges_come_from_a_registry_or_the_lack_of_them_is_said(tmp_path: Path) -> None:
    raw = files()["layers/spans.tar.gz"]
    table = indexed(tmp_path, raw, 16384)
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        place = Place(DistributionRegistry(faults.address, plain_http=True), "app")
        layer = push_blob(place, raw, media_type=OCI_LAYER_GZIP)
        faults.reset_counts()
        by_range = LayerFiles(table.spans, blob_ranges(place, layer.digest))
        assert b"".join(by_range.pieces(100_000, 9)) == unpacked(raw)[100_000:100_009]
        assert [each.range for each in faults.seen] == ["bytes=0-9", "bytes=28552-51257"]
        faults.play("GET", ".*/blobs/.*", NoRange())
        with pytest.raises(Unsupported, match="whole blob"):
            whole_of = LayerFiles(table.spans, blob_ranges(place, layer.digest))
            b"".join(whole_of.pieces(100_000, 9))


def test_files_are_found_through_hard_links_and_under_any_spelling(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, link in (("./a/b", ""), ("c", "a/b"), ("d", "./c"), ("e", "f"), ("f", "e"), ("./a/b", "")):
            info = tarfile.TarInfo(name)
            info.linkname, info.type = link, tarfile.LNKTYPE if link else tarfile.REGTYPE
            info.size = 0 if link else 3
            tar.addfile(info, io.BytesIO(b"abc"))
    raw = gzip.compress(out.getvalue())
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    record = LayerStore(tmp_path).read(io.BytesIO(raw), layer, Digest.of(out.getvalue()))
    last = max(each.position for each in ztoc_files(record))
    names = {clean_path(name) for name in (b"/a/./b", b"c/", b"d", b"e", b"nowhere")}
    assert find_files(record, names) == dict.fromkeys((b"a/b", b"c", b"d"), (last, 3))
