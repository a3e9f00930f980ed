"""What eStargz tables make of a lazy tree: the files of the tar, by no more of the blob than theirs; or our error."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, IndexInvalid
from registry_pipelines.stream.estargz import Options
from registry_pipelines.stream.estargz_toc import read_toc
from registry_pipelines.stream.lazy.chunked import chunk_pieces, toc_files
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.pieces import ChunkPieces
from registry_pipelines.stream.lazy.tree import ROOT, Tree
from tests.stream.layers import convert, members, pack, unpack
from tests.stream.test_estargz_toc import WRONG, changed, ranges_of, remade, without

FOLDER = Path(tempfile.gettempdir())


def opened(blob: bytes) -> tuple[Tree, ChunkPieces]:
    with read_toc(ranges_of(blob), len(blob)) as toc:
        return merge_layers([toc_files(toc)]), chunk_pieces(toc)


def contents(blob: bytes) -> dict[str, bytes]:
    """All regular files, by the pieces that hold them and no others."""
    tree, pieces = opened(blob)
    content = bytearray(pieces.tar_size)
    end = 0
    for piece in pieces.between(0, pieces.tar_size):
        start, stop = pieces.stored(piece)
        assert end <= start < stop
        end = stop
        first, last = pieces.unpacked(piece)
        for position, part in pieces.content(piece, io.BytesIO(blob[start:stop]), FOLDER):
            assert first <= position and position + len(part) <= last
            content[position : position + len(part)] = part
    found: dict[str, bytes] = {}
    waiting = [("", ROOT)]
    while waiting:
        above, directory = waiting.pop()
        for name, number in tree.children(directory):
            node, path = tree.node(number), above + name.decode()
            if stat.S_ISDIR(node.mode):
                waiting.append((f"{path}/", number))
            elif stat.S_ISREG(node.mode):
                found[path] = bytes(content[node.position : node.position + node.size])
    return found


@settings(max_examples=40, deadline=None)
@given(members())
def test_files_are_those_of_the_tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    blob, _ = convert(pack(entries), Options(chunk_bytes=4096))
    with tempfile.TemporaryDirectory() as folder:
        there = unpack(blob, Path(folder, "unpacked"))
    own = (".no.prefetch.landmark", "stargz.index.json")
    expected = {name: what[3] for name, what in there.items() if what[0] == stat.S_IFREG and name not in own}
    assert contents(blob) == expected


def test_a_chunk_that_is_not_what_the_table_says_is_shown_to_nobody() -> None:
    assert contents(remade(json.loads)) == {"folder/file": b"abc" * 3000, "other": b"0123456789"}
    for what in ("a chunk's digest", "a chunk elsewhere", "a chunk's place in the file", "a chunk that is too long"):
        with pytest.raises(ContentError):
            contents(remade(WRONG[what]))


@pytest.mark.parametrize(
    "edit",
    [
        changed(4, type="socket"),
        changed(4, size=-1),
        changed(4, size=1 << 70),
        changed(1, size=1 << 70),
        changed(4, chunkSize=-1),
        changed(4, chunkDigest="", digest=""),
        changed(4, chunkDigest="sha256:x", digest=""),
        changed(4, offset=1 << 70),
        changed(4, offset=0),
        changed(2, name="else"),
        changed(1, type="dir"),
        without(1),
        without(3),
    ],
)
def test_a_table_whose_chunks_make_no_files_is_refused(edit: Any) -> None:
    with pytest.raises(IndexInvalid):
        opened(remade(edit))


_NUMBERS = st.integers(-(1 << 70), 1 << 70) | st.sampled_from([0, 1, 9, 10, 512, 4096, 9000])
_MEMBERS = ("size", "mode", "uid", "gid", "offset", "innerOffset", "devMajor", "devMinor", "chunkOffset", "chunkSize")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(_MEMBERS), _NUMBERS), min_size=1, max_size=4), st.data())
def test_any_numbers_are_a_tree_or_our_error(edits: list[tuple[int, str, int]], data: st.DataObject) -> None:
    def edit(raw: bytes) -> Any:
        table = json.loads(raw)
        for number, member, value in edits:
            table["entries"][number][member] = value
        for row in table["entries"]:
            row["type"] = data.draw(st.sampled_from([row["type"], "char", "hardlink", "chunk", "symlink"]))
        return table

    try:
        found = contents(remade(edit))
    except ContentError:
        return
    assert set(found) <= {"folder/file", "other"}
    assert all(len(content) < 10_000 for content in found.values())
