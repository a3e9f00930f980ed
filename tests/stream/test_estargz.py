"""Conversion to eStargz, against GNU tar, Python's tarfile, the official tool's blobs and ctr-remote."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings

from registry_pipelines.errors import ContentError, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.stream.estargz import Conversion, Options
from registry_pipelines.stream.estargz_toc import NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, RESERVED, TOC_NAME
from tests.stream.layers import COMPRESSIONS, convert, members, opener, pack, unpack

Entries = list[tuple[tarfile.TarInfo, bytes]]


def without_own(tree: dict[str, object]) -> dict[str, object]:
    return {name: found for name, found in tree.items() if name not in RESERVED}


@settings(max_examples=25)
@given(members())
def test_a_converted_layer_unpacks_to_the_same_tree(entries: Entries) -> None:
    source = pack(entries)
    for options in (
        Options(chunk_bytes=4096),
        Options(chunk_bytes=4096, prioritized=("a/one", "./c/ü", "/two", "/no")),
    ):
        blob, converted = convert(source, options)
        assert converted.descriptor.digest == Digest.of(blob)
        assert converted.diff_id == Digest.of(gzip.decompress(blob))
        names = {info.name for info, _ in entries}
        absent = [path for path in options.prioritized if path.lstrip("./") not in names]
        assert converted.missing == tuple(absent)
        with tempfile.TemporaryDirectory() as folder:
            want, have = unpack(source, Path(folder, "want")), unpack(blob, Path(folder, "have"))
            assert without_own(have) == want


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_bytes_depend_on_the_tar_alone(compression: str) -> None:
    names = [f"folder{number % 7}/file{number}" for number in range(300)]
    entries = []
    for number, name in enumerate(names):
        info = tarfile.TarInfo(name)
        info.size = number * 500
        entries.append((info, hashlib.sha256(name.encode()).digest() * (number * 500 // 32 + 1)))
    source = pack(entries)
    expected, _ = convert(source, Options(threads=1))
    blob, converted = convert(COMPRESSIONS[compression](source), Options(threads=3))
    assert blob == expected
    assert converted.source.compression == compression
    assert subprocess.run(["gzip", "-t"], input=blob).returncode == 0


def file(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def link(name: str, target: str, type: bytes = tarfile.LNKTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, target
    return info, b""


def names(blob: bytes) -> list[tuple[str, str]]:
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        return [(member.name, member.linkname) for member in tar if member.name not in RESERVED]


# Name, new target.
REPLACED: dict[str, tuple[Entries, list[tuple[str, str]]]] = {
    "the link becomes the file": (
        [file("a", b"old"), link("b", "a"), file("a", b"new")],
        [("b", ""), ("a", "")],
    ),
    "other links lead to the one that became the file": (
        [file("a", b"old"), link("b", "a"), link("c", "a"), link("d", "c"), file("a", b"new"), file("c", b"newer")],
        [("b", ""), ("d", "b"), ("a", ""), ("c", "")],
    ),
    "a link to a link that was replaced leads to the file": (
        [file("a", b"old"), link("b", "a"), link("c", "b"), file("b", b"new")],
        [("a", ""), ("c", "a"), ("b", "")],
    ),
    "a link that was replaced takes nothing with it": (
        [file("a", b"old"), link("b", "a"), file("b", b"new")],
        [("a", ""), ("b", "")],
    ),
    "a file and its links that were all replaced are gone": (
        [file("a", b"old"), link("b", "a"), file("b", b"new"), file("a", b"newer")],
        [("b", ""), ("a", "")],
    ),
    "a link that takes its target's place": (
        [file("a", b"old"), link("b", "a"), link("a", "b")],
        [("b", ""), ("a", "b")],
    ),
    "links to a symbolic link": (
        [link("a", "x", tarfile.SYMTYPE), link("b", "a"), link("c", "a"), file("a", b"new")],
        [("b", "x"), ("c", "b"), ("a", "")],
    ),
    "long names": (
        [file("a" * 150, b"old"), link("b" * 150, "a" * 150), link("c", "b" * 150), file("a" * 150, b"new")],
        [("b" * 150, ""), ("c", "b" * 150), ("a" * 150, "")],
    ),
}


@pytest.mark.parametrize("what", REPLACED)
def test_hard_links_keep_content_whose_name_was_taken(what: str, tmp_path: Path) -> None:
    entries, expected = REPLACED[what]
    source = pack(entries)
    blob, converted = convert(source)
    assert names(blob) == expected
    assert len(converted.left_out_names) == converted.left_out
    assert without_own(unpack(blob, tmp_path / "have")) == unpack(source, tmp_path / "want")


def pax(**records: str) -> tuple[tarfile.TarInfo, bytes]:
    info, content = file("sparse", b"x")
    info.pax_headers = {key.replace("_", "."): value for key, value in records.items()}
    return info, content


CANNOT: dict[str, tuple[Entries | bytes, str]] = {
    "a hard link into another layer": ([link("b", "usr/bin/a")], "'b' is a hard link to a file that does not stand"),
    "a hard link to what comes later": (
        [link("b", "a"), file("a")],
        "'b' is a hard link to a file that does not stand",
    ),
    "a hard link to a folder": ([link("a", "", tarfile.DIRTYPE), link("b", "a")], "'b' is a hard link to a folder"),
    "a file below a file": ([file("a/b"), file("a")], "'a' has entries below it"),
    "a file below a symbolic link": (
        [link("lib", "usr", tarfile.SYMTYPE), file("lib/x")],
        "'lib' has entries below it",
    ),
    "a sparse file in PAX": ([pax(GNU_sparse_major="1", GNU_sparse_minor="0")], "'sparse'.*sparse file"),
    "a contiguous file": ([link("a", "", tarfile.CONTTYPE)], "'a'.*type 7"),
    "a name that is not UTF-8": ([file("\udcff")], "not UTF-8"),
}


def test_what_the_format_cannot_carry_is_said_with_its_name() -> None:
    for entries, message in CANNOT.values():
        with pytest.raises(LayerInvalid, match=message):
            convert(pack(entries, tarfile.GNU_FORMAT if "UTF" in message else tarfile.PAX_FORMAT))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "made by git archive"}) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with pytest.raises(LayerInvalid, match="global header"):
        convert(buffer.getvalue())


def test_gnu_sparse_files_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as sparse:
        sparse.seek(10**6)
        sparse.write(b"end")
    for form in ("gnu", "posix"):
        command = ["tar", "-S", "-H", form, "-c", "-C", str(tmp_path), "holes"]
        tar = subprocess.run(command, check=True, capture_output=True).stdout
        with pytest.raises(LayerInvalid, match="sparse file"):
            convert(tar)


def test_one_pass_is_enough_where_names_stand_once(tmp_path: Path) -> None:
    once, twice = pack([file("a", b"1"), file("b")]), pack([file("a", b"1"), file("b"), file("a", b"2")])
    store = LayerStore(tmp_path)
    for source, passes in ((once, 1), (twice, 2)):
        opened: list[int] = []

        def open_blob(source: bytes = source, opened: list[int] = opened) -> AbstractContextManager[io.BytesIO]:
            opened.append(1)
            return nullcontext(io.BytesIO(source))

        blob, _ = convert(source, open_blob=open_blob)
        assert len(opened) == passes
        with store.writing() as writer:
            facts = open_layer(io.BytesIO(source), OCI_LAYER, writer=writer).finish()
        assert facts.diff_id and facts.digest
        record = store.get(facts.diff_id, facts.digest)
        assert record
        opened.clear()
        assert convert(source, open_blob=open_blob, entries=record.entries())[0] == blob
        assert len(opened) == 1
    with pytest.raises(LayerInvalid, match="has 2 entries, an earlier pass found 3"):
        convert(once, entries=record.entries())


def test_what_was_converted_is_converted_to_itself() -> None:
    source = pack([file("a", b"x" * 9000), file("b"), link("c", "a")])
    blob, _ = convert(source)
    again, converted = convert(blob)
    assert again == blob
    assert set(converted.left_out_names) == {TOC_NAME, NO_PREFETCH_LANDMARK}
    with_landmark, _ = convert(source, Options(prioritized=("c",)))
    assert convert(with_landmark)[1].left_out_names == (PREFETCH_LANDMARK, TOC_NAME)
    assert [name for name, _ in names(with_landmark)] == ["a", "c", "b"]


def test_a_damaged_layer_or_another_one_is_an_error_before_the_end_is_written() -> None:
    source = gzip.compress(pack([file("a", b"x" * 9000)]))
    written: list[bytes] = []
    for blob, more in (
        (source[:-5], {}),
        (source, {"diff_id": Digest.of(b"other")}),
        (source, {"expected": Descriptor(media_type=OCI_LAYER, digest=Digest.of(b"other"), size=len(source))}),
    ):
        conversion = Conversion(opener(blob), where="layer", **more)  # type: ignore[arg-type]
        with pytest.raises(ContentError):
            conversion.run(lambda piece: written.append(bytes(piece)))
        assert not any(b"STARGZ" in piece for piece in written)


def test_an_empty_layer(tmp_path: Path) -> None:
    blob, converted = convert(bytes(1024))
    assert names(blob) == [] and converted.files == 0
    assert without_own(unpack(blob, tmp_path / "have")) == {}
