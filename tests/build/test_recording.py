"""What a build writes down of a layer is what a reader of the layer finds."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from registry_pipelines.build.entries import file_entry, folder_entry, link_entry
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.stream.soci import ztoc_files
from registry_pipelines.stream.ztoc import record_spans, write_ztoc
from tests.build.test_splice import deflate, streams


def facts(record: LayerRecord) -> list[object]:
    """All that a record holds."""
    return [
        *(record.digest, record.size, record.diff_id, record.tar_size, record.archive_end, record.compression),
        *(record.padding_bytes, record.span_bytes, record.checkpoints, record.span_digests),
        [bytes(record.window(number)) for number in range(len(record.checkpoints))],
        list(record.entries()),
    ]


def compare(folder: Path, write: Callable[[LayerWriter], None], span_bytes: int) -> LayerRecord:
    """The record that the build made, after comparing it with that of who reads the layer."""
    built, read = LayerStore(folder / "built"), LayerStore(folder / "read")
    out = io.BytesIO()
    with built.writing(span_bytes=span_bytes) as record, LayerWriter(out.write, record) as writer:
        write(writer)
        digests = writer.finish()
    (folder / "layer").write_bytes(out.getvalue())
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=digests.digest, size=digests.size)
    out.seek(0)
    expected = read.read(out, layer, digests.diff_id, span_bytes=span_bytes)
    made = built.get(digests.diff_id, digests.digest, span_bytes=span_bytes)
    assert made is not None
    assert facts(made) == facts(expected)
    return made


def add(writer: LayerWriter, kind: str, name: str, content: bytes, how: tuple[int, int, int, int]) -> None:
    if kind == "folder":
        writer.header(folder_entry(name))
    elif kind == "link":
        writer.header(link_entry(name, "elsewhere/" * (len(content) % 30)))
    elif kind == "deflated":
        add_stream(writer, name, content, deflate(content, *how))
    else:
        writer.header(file_entry(name, len(content)))
        if kind == "stored":
            writer.stored(io.BytesIO(content), len(content), lambda piece: None, "test")
        else:
            writer.content(content)
        writer.hashed(hashlib.sha256(content).digest(), zlib.crc32(content))


def add_stream(writer: LayerWriter, name: str, content: bytes, stream: bytes) -> None:
    writer.header(file_entry(name, len(content)))
    writer.deflated(io.BytesIO(stream), len(stream), lambda piece: None, "test")
    writer.hashed(hashlib.sha256(content).digest(), zlib.crc32(content))


kinds = st.sampled_from(["deflated", "stored", "compressed", "folder", "link"])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(kinds, st.integers(1, 150), streams), min_size=0, max_size=8),
    st.sampled_from([1, 511, 512, 1024, 20_000, 65_536, 300_000, 1 << 22]),
)
def test_what_is_built_is_recorded_as_what_is_read(
    files: list[tuple[str, int, tuple[bytes, int, int, int, int]]], span_bytes: int
) -> None:
    def write(writer: LayerWriter) -> None:
        for number, (kind, length, (content, *how)) in enumerate(files):
            add(writer, kind, f"{number}/{'n' * length}", content, tuple(how))  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), write, span_bytes)


def words(seed: int, size: int) -> bytes:
    """Text that compresses to a third, so that it fills many pieces of input and of output."""
    source = random.Random(seed)
    known = [source.randbytes(source.randint(2, 12)).hex().encode() for _ in range(2000)]
    return b" ".join(source.choices(known, k=size // 12))[:size]


PLAIN = words(3, 1 << 20)


def write_all(writer: LayerWriter) -> None:
    """Streams that are longer than one read, what is compressed here, thousands of small files."""
    add(writer, "deflated", "stream", words(1, 2 << 20), (1, 0, 0, 0))
    add(writer, "compressed", "own", words(2, 2 << 20), (0, 0, 0, 0))
    for number in range(1000):
        add(writer, ("compressed", "deflated")[number % 2], f"small/{number}", PLAIN[number:][:400], (1, 0, 0, 0))
    start = zlib.compressobj(6, zlib.DEFLATED, -15)
    blocks = start.compress(PLAIN[:100_000]) + start.flush(zlib.Z_FULL_FLUSH)
    # The last block is longer than a read: others and its start are passed when it is known, so that the read is
    # inflated a second time.
    add_stream(writer, "long block", PLAIN[:100_000] + PLAIN, blocks + isal_zlib.compress(PLAIN, 0, -15))


@pytest.mark.parametrize("span_bytes", [1, 65_536, 1 << 20])
def test_checkpoints_fall_anywhere(tmp_path: Path, span_bytes: int) -> None:
    """Also between small files, where a window is made of many."""
    record = compare(tmp_path, write_all, span_bytes)
    assert record.entry_count == 1003
    assert len(record.checkpoints) > 4


@pytest.mark.long
@pytest.mark.parametrize("span_bytes", [65_536, 1 << 20])
def test_the_official_builder_makes_the_same_of_the_layer(
    tmp_path: Path, span_bytes: int, peer: Callable[[str], str]
) -> None:
    record = compare(tmp_path, write_all, span_bytes)
    write_ztoc(tmp_path / "ours", ztoc_files(record), record_spans(record))
    command = [peer("soci-ztoc"), str(tmp_path / "layer"), str(tmp_path / "theirs"), str(span_bytes)]
    subprocess.run(command, check=True, env={"TZ": "UTC"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
