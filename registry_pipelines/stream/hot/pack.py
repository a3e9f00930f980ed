"""The head of a hot pack: the tree of an image, and where the pages that its start reads are in the pack's blobs.

A head is eight bytes that name the format, and one msgpack document. Its numbers are checked when it is read, so that
nothing in it leads outside of a layer or of a blob; that the bytes of a frame are right says its digest, and who
believes the head says a signature (``packs``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import zstandard

from registry_pipelines.errors import DigestInvalid, IndexInvalid
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.stream.lazy.tree import Tree

PACK_TYPE = "application/vnd.registry-pipelines.hot-pack.v1+json"
"""Artifact type of its manifest, whose ``subject`` is the manifest of one platform."""
HEAD_TYPE = "application/vnd.registry-pipelines.hot-pack.head.v1"
METADATA_TYPE = "application/vnd.registry-pipelines.hot-pack.erofs.v1"
FRAMES_TYPE = "application/vnd.registry-pipelines.hot-pack.frames.v1"

MAX_HEAD_BYTES = 256 << 20
"""An image of ten million files has some 150 MB of tree."""
MAX_METADATA_BYTES = 2 << 30
"""Unpacked; an image of ten million files has some 1.5 GB."""
MAX_FRAME_BYTES = 2 << 20
"""Of content; one is in memory for each connection."""
MAX_PACK_BYTES = 2 << 30
"""Of content of all frames."""
MAX_EXTENTS = 4_000_000
MAX_PARTS = 4096

_MAGIC = b"rp-pack\x01"
"""Its last byte is the version."""


class Frame(NamedTuple):
    """Some pages of one layer, compressed as one."""

    stored: int
    """Bytes in the blob; frames follow each other without a gap."""
    sha256: bytes
    """Of the content."""
    extents: tuple[tuple[int, int], ...]
    """Position and bytes in the layer, in the order of the content."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(size for _, size in self.extents)


class PackLayer(NamedTuple):
    """A layer of the image, as the pack counts positions."""

    digest: Digest
    table: Digest | None
    """Digest of the eStargz table whose layout positions are in (``lazy.chunked``); None: they are those of the tar."""
    size: int
    """Bytes of that space."""


class Part(NamedTuple):
    """A blob of frames, all of one layer."""

    layer: int
    digest: Digest
    size: int
    frames: tuple[Frame, ...]
    """In the order in which a start needed them when they were cut."""


class MetadataBlob(NamedTuple):
    """The tree as EROFS (``lazy.erofs``), as one zstd frame: making it takes a node longer than fetching it."""

    format: int
    """``erofs.FORMAT`` of who made it; a node with another one makes its own."""
    digest: Digest
    stored: int
    """Bytes of the blob."""
    size: int
    """Bytes of the metadata."""
    left_out: tuple[str, ...] = ()
    """See ``erofs.Layout``."""


class Head(NamedTuple):
    """See the module."""

    image: Digest
    """The manifest of one platform."""
    window: int
    """Bytes to which pages are rounded out: what a mount reads ahead."""
    layers: tuple[PackLayer, ...]
    """All of the image, base first, as the tree counts them."""
    parts: tuple[Part, ...]
    order: tuple[tuple[int, int], ...]
    """Part and frame, as they are needed; a frame that is not named is not needed."""
    tree: bytes
    """``Tree.dump``."""
    metadata: MetadataBlob | None = None
    """None: the image cannot be EROFS, or the pack is of a build before 2026-12."""

    def open_tree(self) -> Tree:
        """The tree, checked: every file lies in its layer. Raises IndexInvalid."""
        tree = Tree.load(self.tree)
        tree.check([layer.size for layer in self.layers])
        return tree


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """As it is stored; digests as text."""

    image: str
    window: int
    layers: list[tuple[str, str, int]]
    parts: list[tuple[int, str, int, list[tuple[int, bytes, list[int]]]]]
    """Extents: positions and sizes in turn."""
    order: list[tuple[int, int]]
    tree: bytes
    metadata: tuple[int, str, int, int, list[str]] | None = None


def encode_head(head: Head) -> bytes:
    """The same head makes the same bytes."""
    parts = [
        (
            *(part.layer, str(part.digest), part.size),
            [(frame.stored, frame.sha256, [n for extent in frame.extents for n in extent]) for frame in part.frames],
        )
        for part in head.parts
    ]
    layers = [(str(layer.digest), str(layer.table or ""), layer.size) for layer in head.layers]
    told: list[object] = [str(head.image), head.window, layers, parts, head.order, head.tree]
    if head.metadata:
        form, digest, *rest = head.metadata
        told.append([form, str(digest), *rest])
    return _MAGIC + msgspec.msgpack.encode(told)


def decode_head(raw: bytes, *, where: str = "") -> Head:
    """Read what :func:`encode_head` made, its tree aside. Raises IndexInvalid: damaged, of another version, or with
    numbers that lead outside."""
    try:
        if len(raw) > MAX_HEAD_BYTES or raw[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it is of another version, or too large")
        return _checked(msgspec.msgpack.decode(memoryview(raw)[len(_MAGIC) :], type=ready(_Head)))
    except (ValueError, DigestInvalid, msgspec.MsgspecError, RecursionError) as error:
        raise IndexInvalid(
            f"the head of the hot pack cannot be used: {error}", where=where, do="Cut it again"
        ) from error


def _checked(found: _Head) -> Head:
    layers = tuple(
        PackLayer(Digest.parse(digest), Digest.parse(table) if table else None, size)
        for digest, table, size in found.layers
    )
    if any(not 0 <= layer.size < 1 << 62 for layer in layers):
        raise ValueError("a layer has no size")
    if len(found.parts) > MAX_PARTS:
        raise ValueError(f"it has {count_text(len(found.parts), 'part')}")
    extents, content, parts = 0, 0, []
    for number, digest, size, stored in found.parts:
        if not 0 <= number < len(layers):
            raise ValueError("a part is of no layer")
        extents += sum(len(numbers) // 2 for _, _, numbers in stored)
        if extents > MAX_EXTENTS:  # before they are made into larger things
            raise ValueError("it is too large")
        frames = tuple(_frame(each, layers[number].size) for each in stored)
        if size != sum(frame.stored for frame in frames):
            raise ValueError("a blob is longer or shorter than its frames")
        content += sum(frame.size for frame in frames)
        if content > MAX_PACK_BYTES:
            raise ValueError("it is too large")
        parts.append(Part(number, Digest.parse(digest), size, frames))
    named = set(found.order)
    if len(named) != len(found.order) or any(
        not 0 <= part < len(parts) or not 0 <= frame < len(parts[part].frames) for part, frame in named
    ):
        raise ValueError("its order names what is not there, or a frame twice")
    if not 0 < found.window <= MAX_FRAME_BYTES:
        raise ValueError("its window is no size")
    metadata = _metadata(*found.metadata) if found.metadata else None
    return Head(Digest.parse(found.image), found.window, layers, tuple(parts), tuple(found.order), found.tree, metadata)


def _metadata(form: int, digest: str, stored: int, size: int, left_out: list[str]) -> MetadataBlob:
    if not (0 < stored <= MAX_METADATA_BYTES and 0 < size <= MAX_METADATA_BYTES):
        raise ValueError("its metadata has no size")
    return MetadataBlob(form, Digest.parse(digest), stored, size, tuple(left_out))


def _frame(found: tuple[int, bytes, list[int]], end: int) -> Frame:
    stored, sha256, numbers = found
    extents = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    for start, size in extents:
        if not (start >= 0 < size and start + size <= end):
            raise ValueError("a frame has bytes outside of its layer")
    frame = Frame(stored, sha256, extents)
    if not 0 < frame.size <= MAX_FRAME_BYTES or not 0 < stored <= 2 * MAX_FRAME_BYTES or len(sha256) != 32:
        raise ValueError("a frame has no size or no digest")
    return frame


def pack_frame(contents: Sequence[bytes], level: int) -> tuple[bytes, bytes]:
    """Content as it is stored, and its SHA-256."""
    content = b"".join(contents)
    return zstandard.ZstdCompressor(level=level).compress(content), hashlib.sha256(content).digest()


def open_frame(frame: Frame, stored: Any, *, where: str = "") -> memoryview:
    """The content of a frame, verified. Raises IndexInvalid."""
    size = frame.size
    try:
        if zstandard.frame_content_size(stored) != size:  # what it says is what is allocated
            raise zstandard.ZstdError("it has another size")
        content: bytes = zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
    except zstandard.ZstdError as error:
        raise IndexInvalid(f"a frame of the hot pack cannot be unpacked: {error}", where=where) from error
    if len(content) != size or hashlib.sha256(content).digest() != frame.sha256:
        raise IndexInvalid("a frame of the hot pack has another digest", where=where)
    return memoryview(content)


__all__ = [
    "FRAMES_TYPE",
    "HEAD_TYPE",
    "MAX_FRAME_BYTES",
    "MAX_HEAD_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_PACK_BYTES",
    "METADATA_TYPE",
    "PACK_TYPE",
    "Frame",
    "Head",
    "MetadataBlob",
    "PackLayer",
    "Part",
    "decode_head",
    "encode_head",
    "open_frame",
    "pack_frame",
]
