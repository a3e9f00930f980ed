"""Heads of packs, and the trees in them, from whoever wrote them."""

from __future__ import annotations

import random
import stat
from contextlib import suppress

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.hot.pack import (
    Frame,
    Head,
    MetadataBlob,
    PackLayer,
    Part,
    decode_head,
    encode_head,
    open_frame,
    pack_frame,
)
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree, TreeWriter
from registry_pipelines.stream.toc import FileMetadata

DIGESTS = st.binary(max_size=3).map(Digest.of)

METADATA = st.builds(
    MetadataBlob,
    st.integers(1, 9),
    DIGESTS,
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
)


def entry(name: bytes, kind: bytes = b"reg", position: int = 512, size: int = 1000) -> FileMetadata:
    return FileMetadata(name, kind, position, size, b"a", 0o755, 0, 0, b"", b"", b"", 0, 0, ())


def tree() -> Tree:
    names = [b"a", b"b/c", b"b/d/e", b"f"]
    files = [entry(name, position=512 + 1024 * number) for number, name in enumerate(names)]
    return merge_layers([[*files, entry(b"link", b"symlink"), entry(b"empty", b"dir")]])


@st.composite
def heads(draw: st.DrawFn) -> Head:
    sizes = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=3))
    layers = tuple(PackLayer(draw(DIGESTS), draw(st.none() | DIGESTS), size) for size in sizes)
    parts, order = [], []
    for number in range(draw(st.integers(0, 3))):
        layer = draw(st.integers(0, len(sizes) - 1))
        frames = []
        for frame in range(draw(st.integers(0, 3))):
            starts = draw(st.lists(st.integers(0, sizes[layer] - 1), min_size=1, max_size=3))
            extents = tuple((start, draw(st.integers(1, min(1000, sizes[layer] - start)))) for start in starts)
            frames.append(Frame(draw(st.integers(1, 10**6)), draw(st.binary(min_size=32, max_size=32)), extents))
            order.append((number, frame))
        parts.append(Part(layer, draw(DIGESTS), sum(each.stored for each in frames), tuple(frames)))
    chosen = tuple(draw(st.permutations(order))[: draw(st.integers(0, len(order)))])
    window = draw(st.sampled_from([4096, 32768]))
    return Head(draw(DIGESTS), window, layers, tuple(parts), chosen, draw(st.binary()), draw(st.none() | METADATA))


@given(heads())
def test_a_head_is_read_as_it_was_written(head: Head) -> None:
    assert decode_head(encode_head(head)) == head


@given(heads(), st.data())
def test_of_a_changed_head_nothing_leads_outside(head: Head, data: st.DataObject) -> None:
    raw = bytearray(encode_head(head))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_head(bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw))
    except IndexInvalid:
        return
    for part in found.parts:
        assert part.size == sum(frame.stored for frame in part.frames)
        for frame in part.frames:
            assert all(0 <= start < start + size <= found.layers[part.layer].size for start, size in frame.extents)
    assert all(found.parts[part].frames[frame] for part, frame in found.order)


@given(st.binary(min_size=1, max_size=500), st.data())
def test_a_frame_is_its_content_or_nothing(content: bytes, data: st.DataObject) -> None:
    stored, sha256 = pack_frame([content[:3], content[3:]], 3)
    frame = Frame(len(stored), sha256, ((0, len(content)),))
    assert open_frame(frame, stored) == content
    changed = bytearray(stored)
    changed[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(IndexInvalid):
        assert open_frame(frame, changed) == content  # zstd does not use every bit


def test_a_frame_that_says_it_were_huge_is_refused_before_it_is_unpacked() -> None:
    stored, sha256 = pack_frame([bytes(100 << 20)], 3)
    with pytest.raises(IndexInvalid, match="another size"):
        open_frame(Frame(len(stored), sha256, ((0, 1000),)), stored)


def test_a_right_tree_is_right() -> None:
    tree().check([10_000])
    with pytest.raises(IndexInvalid, match="outside of its layer"):
        tree().check([4000])


@given(st.data())
def test_of_a_changed_tree_every_walk_ends_and_every_file_lies_in_its_layer(data: st.DataObject) -> None:
    known = tree()
    rows, names = bytearray(known._rows), bytearray(known._names)
    arrays = [known._name_ends[:], known._numbers[:], known._firsts[:]]
    draw = random.Random(data.draw(st.integers(0, 1 << 30)))
    for _ in range(draw.randint(1, 3)):
        what = draw.choice([rows, names, *arrays])
        limit = 255 if isinstance(what, bytearray) else draw.choice([10, 100, (1 << 32) - 1])
        what[draw.randrange(len(what))] = draw.randint(0, limit)
    changed = Tree(bytes(rows), bytes(names), *arrays, known._extras, known.layers, known.content_bytes)
    try:
        changed.check([10_000])
    except IndexInvalid:
        return
    waiting, seen = [ROOT], set()
    while waiting:
        directory = waiting.pop()
        assert directory not in seen
        seen.add(directory)
        assert stat.S_ISDIR(changed.node(directory).mode) and changed.parent(directory) in seen
        for name, number in changed.children(directory):
            node = changed.node(number)
            assert name and b"/" not in name and changed.lookup(directory, name) == number
            if stat.S_ISDIR(node.mode):
                waiting.append(number)
            elif stat.S_ISREG(node.mode):
                assert node.layer == 0 and 0 <= node.position <= node.position + node.size <= 10_000


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"x" * 256, b"a\0"])
def test_a_tree_with_a_name_that_is_none_is_refused(name: bytes) -> None:
    writer = TreeWriter(1)
    folder = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, 0, 0, 0, b"", {})
    writer.add(folder, 1)
    writer.add(Inode(stat.S_IFREG | 0o644, 0, 0, 0, 0, 1, 5, 0, 0, b"", {}), 1)
    writer.children(1, [(name, 2)])
    with pytest.raises(IndexInvalid):
        writer.finish().check([1000])


def test_a_tree_with_fewer_than_nothing_is_refused() -> None:
    """So that its tables lie in each other, and all bytes are used up: rows that end in the middle of one."""
    head = msgspec.msgpack.encode([2, -2, 11, 1, 0, [[b"", []]]])
    raw = len(head).to_bytes(8, "little") + head + bytes(119)
    with pytest.raises(IndexInvalid):
        Tree.load(tree().dump()[:8] + zstandard.ZstdCompressor().compress(raw)).check([10_000])
