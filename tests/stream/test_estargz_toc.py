"""Tables of contents: the official tools' are read, and whatever is wrong with one is found."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import deflate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.estargz_footer import footer, read_footer
from registry_pipelines.stream.estargz import Options
from registry_pipelines.stream.estargz_files import find_files, read_file
from registry_pipelines.stream.estargz_headers import own_header
from registry_pipelines.stream.estargz_toc import (
    TOC_NAME,
    LayerForm,
    Ranges,
    layer_form,
    read_toc,
)
from registry_pipelines.stream.estargz_verify import Verified, verify_layer
from tests.stream.layers import convert, members, pack

VECTORS = Path(__file__).parent.parent / "data" / "estargz-vectors.tar.gz"


@cache
def vectors() -> dict[str, bytes]:
    with tarfile.open(VECTORS) as tar:
        return {
            member.name.partition("/")[2]: file.read()
            for member in tar
            if member.isfile() and (file := tar.extractfile(member))
        }


OFFICIAL: list[dict[str, Any]] = json.loads(vectors()["index.json"])["vectors"]
ESTARGZ = [row for row in OFFICIAL if "zstd" not in row["blob"]]


def ranges_of(blob: bytes) -> Ranges:
    def opened(start: int, stop: int) -> AbstractContextManager[io.BytesIO]:
        assert 0 <= start <= stop <= len(blob)
        return nullcontext(io.BytesIO(blob[start:stop]))

    return opened  # type: ignore[return-value]


def verify(blob: bytes) -> Verified:
    with read_toc(ranges_of(blob), len(blob), where="layer") as toc:
        return verify_layer(io.BytesIO(blob), toc)


@pytest.mark.parametrize("row", ESTARGZ, ids=lambda row: row["blob"])
def test_official_blobs_are_what_their_tables_say(row: dict[str, Any]) -> None:
    blob, table = vectors()[row["blob"]], vectors()[row["toc"]]
    assert layer_form(len(blob), ranges_of(blob)) == "estargz"
    with read_toc(ranges_of(blob), len(blob), expected=row["toc_digest"]) as toc:
        assert (toc.offset, toc.size, toc.digest) == (row["toc_offset"], row["toc_size"], Digest.of(table))
        entries = json.loads(table)["entries"]
        assert [(entry.name, entry.offset, entry.digest) for entry in toc] == [
            (entry["name"], entry.get("offset", 0), entry.get("digest", "")) for entry in entries
        ]
        verified = verify_layer(io.BytesIO(blob), toc)
        assert (verified.digest, verified.diff_id) == (row["blob_digest"], row["diff_id"])
        assert verified.uncompressed_size == row["uncompressed_size"]
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            content = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
        del content[TOC_NAME]
        files = find_files(toc, content)
    assert {name: read_file(ranges_of(blob), file, limit=10**6) for name, file in files.items()} == content


@settings(max_examples=30)
@given(members())
def test_files_are_read_by_their_own_members_alone(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    blob, converted = convert(pack(entries), Options(chunk_bytes=4096))
    verified = verify(blob)
    assert (verified.digest, verified.size) == (converted.descriptor.digest, converted.descriptor.size)
    assert (verified.diff_id, verified.uncompressed_size) == (converted.diff_id, converted.uncompressed_size)
    assert (verified.toc_digest, verified.chunks) == (converted.toc_digest, converted.chunks + 1)
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
    del content[TOC_NAME]
    with read_toc(ranges_of(blob), len(blob)) as toc:
        files = find_files(toc, content)
    for name, file in files.items():
        for row, stop in file.chunks:
            # A gzip reader of its own takes exactly these bytes.
            assert gzip.decompress(blob[row.offset : stop])[: row.chunk_size or file.entry.size]
        assert read_file(ranges_of(blob), file, limit=10**6) == content[name]


FORMS: list[tuple[LayerForm, bytes]] = [
    ("plain", b""),
    ("plain", bytes(1024)),
    ("gzip", gzip.compress(b"x" * 100, mtime=0)),
    ("zstd", b"\x28\xb5\x2f\xfd" + bytes(100)),
    ("estargz", footer(85)),
    ("stargz", bytes.fromhex("1f8b08040000000000ff1600") + b"%016xSTARGZ" % 85 + footer(0)[-13:]),
    (
        "estargz without its table",
        bytes.fromhex("1f8b08040000000000ff15005347") + b"\x11\x00STARGZEXTERNALTOC" + footer(0)[-13:],
    ),
    ("zstd:chunked", vectors()["blobs/zstdchunked-ctr-remote-0.12.tar.zst"]),
]


@pytest.mark.parametrize(("form", "blob"), FORMS, ids=lambda part: part if isinstance(part, str) else "")
def test_a_layer_is_known_by_its_first_and_last_bytes(form: LayerForm, blob: bytes) -> None:
    assert layer_form(len(blob), ranges_of(blob)) == form
    if form.endswith("stargz"):
        assert gzip.decompress(blob) == b""
        found = read_footer(bytes(9) + blob)
        assert found is not None and (found.toc_offset, found.size) == (85, len(blob))


def remade(edit: Any, *, name: str = TOC_NAME) -> bytes:
    """A blob of ours with another table, which its footer and digest fit."""
    info = tarfile.TarInfo("folder/file")
    info.size, info.mtime, info.uname = 9000, 1_700_000_000, "root"
    info.pax_headers["SCHILY.xattr.user.note"] = "value"
    other = tarfile.TarInfo("other")
    other.size = 10
    blob, _ = convert(pack([(info, b"abc" * 3000), (other, b"0123456789")]), Options(chunk_bytes=4096))
    found = read_footer(blob)
    assert found is not None
    table = gzip.decompress(blob[found.toc_offset : -found.size])
    size = int(table[124:135], 8)
    edited = edit(table[512 : 512 + size])
    if not isinstance(edited, bytes):
        edited = json.dumps(edited).encode()
    tar = own_header(name, len(edited)) + edited + bytes(-len(edited) % 512 + 1024)
    return blob[: found.toc_offset] + bytes(deflate.gzip_compress(tar, 6)) + footer(found.toc_offset)


def changed(number: int, **members: Any) -> Any:
    def edit(raw: bytes) -> Any:
        table = json.loads(raw)
        table["entries"][number].update(members)
        return table

    return edit


def without(number: int) -> Any:
    def edit(raw: bytes) -> Any:
        table = json.loads(raw)
        del table["entries"][number]
        return table

    return edit


def twice(raw: bytes) -> Any:
    table = json.loads(raw)
    table["entries"].append(table["entries"][-1])
    return table


# Entries: landmark, file in three chunks, other.
WRONG = {
    "another name": changed(4, name="sh"),
    "another type": changed(4, type="symlink"),
    "another size": changed(4, size=9),
    "another mode": changed(4, mode=0o4755),
    "another time": changed(1, modtime="2023-11-14T22:13:21Z"),
    "another owner": changed(4, uid=1),
    "another owner's name": changed(1, userName="toor"),
    "another attribute": changed(1, xattrs={"user.note": "b3RoZXI="}),
    "a link": changed(4, linkName="folder/file"),
    "a digest": changed(4, digest="sha256:" + "0" * 64),
    "a chunk's digest": changed(2, chunkDigest="sha256:" + "0" * 64),
    "no chunk's digest": changed(2, chunkDigest=""),
    "no digest": changed(4, digest=""),
    "a chunk elsewhere": changed(2, offset=1),
    "a chunk within a member": changed(4, innerOffset=1),
    "a chunk's place in the file": changed(2, chunkOffset=4095),
    "a chunk that is too long": changed(3, chunkSize=5000),
    "a negative chunk": changed(3, chunkSize=-1),
    "a chunk less": without(3),
    "an entry less": without(4),
    "an entry more": twice,
    "a member twice": lambda raw: raw.replace(b'"name":"other"', b'"name":"other","name":"other"'),
    "a member in other letters": lambda raw: raw.replace(b'"name":"other"', b'"name":"other","Name":"x"'),
    "another version": lambda raw: raw.replace(b'"version":1', b'"version":2'),
    "a text for a number": changed(4, size="10"),
    "no number": lambda raw: raw.replace(b'"size":10,', b'"size":NaN,'),
    "no comma": lambda raw: raw.replace(b"},\n{", b"}\n{"),
    "two commas": lambda raw: raw.replace(b"},\n{", b"},,\n{"),
    "cut off": lambda raw: raw[:-10],
    "something behind it": lambda raw: raw + b"{}",
    "no UTF-8": lambda raw: raw.replace(b"other", b"oth\xff\xff"),
    "nested": lambda raw: b'{"version":1,"entries":[' + b"[" * 200_000,
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_table_that_says_something_else_than_the_tar_is_refused(what: str) -> None:
    assert verify(remade(json.loads)).entries == 3
    with pytest.raises(IndexInvalid, match="layer"):
        verify(remade(WRONG[what]))


UNREADABLE = ("a chunk's digest", "a chunk elsewhere", "a chunk's place in the file", "a chunk that is too long")


def test_a_file_whose_chunks_are_not_what_the_table_says_is_not_read() -> None:
    for what in ("right", "another digest", *UNREADABLE):
        edit = {"right": json.loads, "another digest": changed(1, digest="sha256:" + "0" * 64)}.get(what)
        blob = remade(edit or WRONG[what])
        with read_toc(ranges_of(blob), len(blob)) as toc:
            file = find_files(toc, ["folder/file"])["folder/file"]
        with pytest.raises(IndexInvalid, match="has 9000 bytes, at most 8999 are read"):
            read_file(ranges_of(blob), file, limit=8999)
        if what == "right":
            assert read_file(ranges_of(blob), file, limit=9000) == b"abc" * 3000
        else:
            with pytest.raises(IndexInvalid, match=r"'folder/file'|damaged near"):
                read_file(ranges_of(blob), file, limit=9000)


def test_a_table_under_another_name_is_refused() -> None:
    with pytest.raises(IndexInvalid, match="where its table should be"):
        verify(remade(json.loads, name="etc/passwd"))


def test_a_table_that_is_not_the_expected_one_is_refused() -> None:
    blob = remade(json.loads)
    with pytest.raises(IndexInvalid, match="expected sha256:00"):
        read_toc(ranges_of(blob), len(blob), expected=Digest("sha256:" + "00" * 32))


def test_a_table_that_unpacks_to_absurdly_much_is_refused() -> None:
    size = 100 * 1024 * 1024
    member = deflate.gzip_compress(own_header(TOC_NAME, size) + bytes(10**6), 1)
    blob = b"x" * 100 + bytes(member) + footer(100)
    with pytest.raises(IndexInvalid, match="has 104857600 bytes"):
        read_toc(ranges_of(blob), len(blob))


@settings(max_examples=150)
@given(st.data())
def test_damage_is_always_our_error(data: st.DataObject) -> None:
    blob = bytearray(vectors()[data.draw(st.sampled_from([row["blob"] for row in ESTARGZ[1:]]))])
    kind = data.draw(st.sampled_from(["byte", "cut", "insert", "footer"]))
    place = data.draw(st.one_of(st.integers(0, len(blob) - 1), st.integers(len(blob) - 2000, len(blob) - 1)))
    if kind == "byte":
        blob[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del blob[place:]
    elif kind == "insert":
        blob[place:place] = data.draw(st.binary(min_size=1, max_size=60))
    else:
        blob[-51:] = footer(data.draw(st.integers(0, 2**64 - 1)))
    try:
        verified = verify(bytes(blob))
    except ContentError:
        return
    # Only gzip headers, whose fields say nothing about content, can be other ones without being noticed.
    assert kind in ("byte", "footer") and verified.diff_id in {row["diff_id"] for row in ESTARGZ}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_table_or_our_error(value: Any) -> None:
    for raw in (json.dumps(value), '{"version":1,"entries":[' + json.dumps(value) + "]}"):
        blob = remade(lambda _, raw=raw: raw.encode())
        with pytest.raises(IndexInvalid):
            verify(blob)
