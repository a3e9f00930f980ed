from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.entries import file_entry
from registry_pipelines.build.splice import INPUT_BYTES, LayerWriter
from registry_pipelines.errors import WheelInvalid
from registry_pipelines.oci.layer import inflate
from registry_pipelines.oci.layer.walk import open_layer
from tests.build.layers import entries, written

STRATEGIES = [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


def deflate(content: bytes, level: int, strategy: int, flushes: int, mode: int) -> bytes:
    """A raw stream with extra block ends: flushes cut blocks at any bit."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    out = b""
    step = len(content) // (flushes + 1) + 1
    for start in range(0, len(content), step):
        out += compressor.compress(content[start : start + step])
        if flushes:
            out += compressor.flush(mode)
    return out + compressor.flush()


contents = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=40), st.integers(1, 20_000)),
    st.integers(0, 2**32 - 1).map(
        lambda seed: b"".join(zlib.crc32(bytes([i & 255]), seed + i).to_bytes(4, "big") for i in range(20_000))
    ),
)
streams = st.tuples(
    contents,
    st.integers(0, 9),
    st.sampled_from(STRATEGIES),
    st.integers(0, 5),
    st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK]),
)


def write_streams(writer: LayerWriter, packed: list[tuple[bytes, bytes]]) -> None:
    for number, (content, stream) in enumerate(packed):
        writer.header(file_entry(f"deflated/{number}", len(content)))
        seen = bytearray()
        writer.deflated(io.BytesIO(stream), len(stream), seen.extend, "test")
        assert bytes(seen) == content
        writer.header(file_entry(f"stored/{number}", len(content)))
        writer.stored(io.BytesIO(content), len(content), lambda piece: None, "test")
        writer.header(file_entry(f"compressed/{number}", len(content)))
        writer.content(content)


@settings(deadline=None, max_examples=60)
@given(st.lists(streams, min_size=1, max_size=4))
def test_any_deflate_streams_become_one_gzip_member_with_the_same_files(
    contents: list[tuple[bytes, int, int, int, int]],
) -> None:
    packed = [(content, deflate(content, *how)) for content, *how in contents]
    raw, _ = written(lambda writer: write_streams(writer, packed))

    decompressor = zlib.decompressobj(31)
    decompressor.decompress(raw)
    assert decompressor.eof
    assert not decompressor.unused_data

    there = entries(raw)
    for number, (content, _) in enumerate(packed):
        for kind in ("deflated", "stored", "compressed"):
            assert there[f"{kind}/{number}"][1] == content


def fixed_block(content: bytes, *, last: bool) -> tuple[int, int]:
    """Letters below 144 with the fixed code, as a number that holds the bits from the lowest on, and how many."""
    reverse = bytes(int(f"{(0x30 + letter) & 255:08b}"[::-1], 2) for letter in range(256))
    return int.from_bytes(content.translate(reverse), "little") << 3 | 2 | last, 3 + 8 * len(content) + 7


@pytest.mark.parametrize("behind", [0, 1, INPUT_BYTES // 2, INPUT_BYTES, 2 * INPUT_BYTES + 5])
@pytest.mark.parametrize("before", [INPUT_BYTES - 5, 2 * INPUT_BYTES - 5])
def test_a_last_block_may_begin_anywhere_and_be_of_any_length(before: int, behind: int) -> None:
    """Around the end of a piece that is read, at every second bit."""
    for shift in range(20):
        content, tail = b"\x0f" * before, b"q" * behind
        bits, size = fixed_block(content, last=False)
        for piece, last in (*[(b"", False)] * shift, (tail, True)):
            more, count = fixed_block(piece, last=last)
            bits, size = bits | more << size, size + count
        stream = bits.to_bytes(-(-size // 8), "little")
        raw, _ = written(lambda writer, packed=[(content + tail, stream)]: write_streams(writer, packed))
        assert zlib.decompress(raw, 31)
        assert entries(raw)["deflated/0"][1] == content + tail

        with pytest.raises(WheelInvalid, match="ends early"):
            written(lambda writer, cut=stream[:-1]: writer.deflated(io.BytesIO(cut), len(cut), len, "test"))
        with pytest.raises(WheelInvalid, match="follow the end"):
            written(lambda writer, more=stream + b"x": writer.deflated(io.BytesIO(more), len(more), len, "test"))


@settings(deadline=None, max_examples=60)
@given(streams, st.data())
def test_a_stream_cut_anywhere_is_refused(deflated: tuple[bytes, int, int, int, int], data: st.DataObject) -> None:
    content, *how = deflated
    stream = deflate(content, *how)
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(WheelInvalid, match="ends"):
        written(lambda writer: writer.deflated(io.BytesIO(stream[:cut]), len(stream), lambda piece: None, "test"))
    with pytest.raises(WheelInvalid, match=r"ends early|in the middle"):
        written(lambda writer: writer.deflated(io.BytesIO(stream), cut, lambda piece: None, "test"))


@settings(deadline=None, max_examples=80)
@given(st.binary(min_size=1, max_size=400))
def test_random_bytes_are_inflated_or_refused(stream: bytes) -> None:
    seen = bytearray()
    try:
        written(lambda writer: writer.deflated(io.BytesIO(stream), len(stream), seen.extend, "test"))
    except (WheelInvalid, gzip.BadGzipFile):
        return
    reference = zlib.decompressobj(-15)
    assert reference.decompress(stream) == bytes(seen)
    assert reference.eof
    assert not reference.unused_data


def test_bytes_behind_the_end_are_refused() -> None:
    stream = deflate(b"content", 6, 0, 0, 0) + b"x"
    with pytest.raises(WheelInvalid, match="follow the end"):
        written(lambda writer: writer.deflated(io.BytesIO(stream), len(stream), lambda piece: None, "test"))


def test_a_flood_of_empty_blocks_is_refused() -> None:
    stream = b"\x00\x00\x00\xff\xff" * 200_000 + b"\x03\x00"
    with pytest.raises(WheelInvalid, match="too many blocks"):
        written(lambda writer: writer.deflated(io.BytesIO(stream), len(stream), lambda piece: None, "test"))


def test_a_stored_file_that_ends_early_is_refused() -> None:
    with pytest.raises(WheelInvalid, match="in the middle"):
        written(lambda writer: writer.stored(io.BytesIO(b"abc"), 4, lambda piece: None, "test"))


@pytest.mark.parametrize("loader", [inflate._load_zlib_ng, inflate._load_zlib])
def test_both_libraries_give_the_same_layer(
    loader: Callable[[], inflate.Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"".join(str(i).encode() for i in range(200_000))
    packed = [(content, deflate(content, level, 0, 3, zlib.Z_PARTIAL_FLUSH)) for level in (1, 6, 9)]
    expected, _ = written(lambda writer: write_streams(writer, packed))
    library = loader()
    assert inflate._probe(library)
    monkeypatch.setattr(inflate, "load", lambda: library)
    assert written(lambda writer: write_streams(writer, packed))[0] == expected


@pytest.mark.peer("gzip", "pigz")
def test_independent_programs_read_the_layer(tmp_path: Path, peer: Callable[[str], str]) -> None:
    content = bytes(range(256)) * 5000
    packed = [
        (content, deflate(content, level, strategy, 2, zlib.Z_PARTIAL_FLUSH))
        for level in (1, 6)
        for strategy in STRATEGIES
    ]
    raw, digests = written(lambda writer: write_streams(writer, packed))
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(raw)
    for program in (peer("gzip"), peer("pigz")):
        subprocess.run([program, "-t", layer], check=True)
        tar = subprocess.run([program, "-dc", layer], check=True, capture_output=True).stdout
        assert len(tar) == digests.tar_size
    listing = subprocess.run(["tar", "tf", layer], check=True, capture_output=True, text=True).stdout.split()
    assert len(listing) == 3 * len(packed)


def test_our_own_layer_reader_agrees() -> None:
    raw, digests = written(lambda writer: write_streams(writer, [(b"x" * 5000, deflate(b"x" * 5000, 6, 0, 0, 0))]))

    class Source:
        def __init__(self) -> None:
            self.file = io.BytesIO(raw)

        def readinto(self, buffer: memoryview, /) -> int:
            return self.file.readinto(buffer)

    walk = open_layer(Source(), "application/vnd.oci.image.layer.v1.tar+gzip")
    assert [entry.name for entry in walk] == ["deflated/0", "stored/0", "compressed/0"]
    facts = walk.finish()
    assert (facts.digest, facts.diff_id, facts.size) == (digests.digest, digests.diff_id, digests.size)
    assert facts.terminated


def test_tar_time_and_owner_are_fixed() -> None:
    raw, _ = written(lambda writer: write_streams(writer, [(b"a", deflate(b"a", 6, 0, 0, 0))]))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in tar} == {(315532800, 0, 0, "", "")}
