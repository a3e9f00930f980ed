"""A tree as EROFS, without content: metadata in front, and behind it room for the layers' tars as they are.

The kernel mounts the file (mount(2) of a plain file, Linux 6.12 and later) and finds content where tar left it, in
blocks of 512 bytes: nothing is unpacked. Directories and links stand in the metadata, which is there whole before
anything is mounted; only content may be a hole. There is no device table, and each file is one run of blocks
(``FLAT_PLAIN``), which every reader of EROFS knows, containerd's too.
"""

from __future__ import annotations

import stat
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

from registry_pipelines.errors import IndexInvalid, LayerInvalid
from registry_pipelines.progress import size_text
from registry_pipelines.stream.lazy import erofs_wire as wire
from registry_pipelines.stream.lazy.erofs_wire import BLOCK_BYTES, INODE_BYTES, SLOT_BYTES
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree

FORMAT = 1
"""Raised when the same tree becomes other bytes."""

ALIGNMENT = 4096
"""Of regions: what file systems share blocks by, and pages."""

MAX_TARGET_BYTES = 4095
"""Of a symbolic link's target; the kernel follows no longer one."""

_FIRST = 1536
"""Where inodes begin: the first block behind the super block."""
_WRITE_BYTES = 1 << 20
_KIND = 0o170000
"""Of a mode, as ``stat.S_IFMT`` has it."""


class Output(Protocol):
    """What metadata is written to, from front to end; a file is one."""

    def write(self, content: bytearray, /) -> object:
        """Take all of it."""
        ...


class Region(NamedTuple):
    """Where a layer's tar lies in the file, a multiple of ``ALIGNMENT``, and its bytes."""

    offset: int
    size: int


class Part(NamedTuple):
    """Bytes of the file that are bytes of a layer."""

    offset: int
    layer: int
    position: int
    size: int


@dataclass(frozen=True)
class Layout:
    """What lies where in the file."""

    metadata_bytes: int
    """From 0 on; a multiple of ``ALIGNMENT``."""
    regions: tuple[Region, ...]
    """Of the layers, the base first."""
    left_out: tuple[str, ...] = ()
    """Names of extended attributes that no file system of the kernel has, and so neither a mount: unpacking leaves them
    out as well."""

    @classmethod
    def of(cls, metadata_bytes: int, layer_sizes: Sequence[int], left_out: Sequence[str] = ()) -> Layout:
        """The layers one behind the other. layer_sizes: bytes of their tars, as positions of a tree go."""
        regions, offset = [], metadata_bytes
        for size in layer_sizes:
            regions.append(Region(offset, size))
            offset += _aligned(size)
        return cls(metadata_bytes, tuple(regions), tuple(left_out))

    @property
    def size(self) -> int:
        """Bytes of the file."""
        last = self.regions[-1] if self.regions else Region(self.metadata_bytes, 0)
        return last.offset + _aligned(last.size)

    def find(self, offset: int) -> tuple[int, int] | None:
        """The layer and the position in its tar that lie at an offset; None for metadata, and behind a layer's end."""
        index = bisect_right(self.regions, offset, key=lambda region: region.offset) - 1
        while index >= 0:
            region = self.regions[index]
            if region.size:
                position = offset - region.offset
                return (index, position) if position < region.size else None
            index -= 1  # an empty layer begins where another does
        return None

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """What of the file between two offsets is of layers: the rest is metadata, or nothing that a reader sees."""
        first = max(bisect_right(self.regions, start, key=lambda region: region.offset) - 1, 0)
        for layer, region in enumerate(self.regions[first:], first):
            if region.offset >= stop:
                return
            begin, end = max(start, region.offset), min(stop, region.offset + region.size)
            if begin < end:
                yield Part(begin, layer, begin - region.offset, end - begin)


def write_erofs(tree: Tree, layer_sizes: Sequence[int], out: Output) -> Layout:
    """Write a tree's metadata, ``Layout.metadata_bytes``; the layers' tars belong behind it. See :class:`Metadata`."""
    metadata = Metadata(tree, layer_sizes)
    metadata.write(out)
    return metadata.layout


class Metadata:
    """A tree's metadata, before it is written: ``layout`` says what will lie where. Inodes stand in the order of their
    numbers, content of directories and links behind them. Memory: some 9 bytes a file beside the tree, and a directory
    at a time."""

    def __init__(self, tree: Tree, layer_sizes: Sequence[int]) -> None:
        """layer_sizes: bytes of the layers' tars, the base first.

        Raises, with the path, LayerInvalid: EROFS cannot hold it (an extended attribute of 64 KiB, a symbolic link of
        more than ``MAX_TARGET_BYTES``, layers of together more than 2 TiB); IndexInvalid: a file does not lie in its
        layer's tar, or not as tar puts it.
        """
        self._tree, self._sizes = tree, layer_sizes
        self._xattrs = _Xattrs(tree)
        self._slots, self._types = array("Q", [0]), bytearray(1)
        self._blocks: dict[int, tuple[int, int]] = {}
        """Directories and links that do not fit behind their inode: first block, counted from the first such one, and
        bytes."""
        at, blocks = _FIRST, 0
        for number, inode in enumerate(tree, ROOT):
            kind, wanted = inode.mode & _KIND, INODE_BYTES
            tail = self._check(number, inode) if kind == stat.S_IFREG else self._tail(number, inode)
            if inode.xattrs:
                wanted += len(self._xattrs.of(inode))
            if tail and wanted + tail <= BLOCK_BYTES:
                wanted += tail
                if at % BLOCK_BYTES + wanted > BLOCK_BYTES:
                    at += -at % BLOCK_BYTES
            elif tail:
                self._blocks[number] = blocks, tail
                blocks += -(-tail // BLOCK_BYTES)
            self._slots.append(at // SLOT_BYTES)
            self._types.append(wire.FILE_TYPES[kind])
            at += wanted + -wanted % INODE_BYTES
        self._first_block = -(-at // BLOCK_BYTES)
        self._shared_block = self._first_block + blocks
        end = self._shared_block * BLOCK_BYTES + len(self._xattrs.shared)
        self.layout = Layout.of(_aligned(end), layer_sizes, self._xattrs.left_out)
        if self.layout.size > wire.MAX_BLOCKS * BLOCK_BYTES:
            raise LayerInvalid(
                f"the image cannot be mounted as EROFS: its layers unpack to {size_text(sum(layer_sizes))}, "
                f"more than {size_text((wire.MAX_BLOCKS + 1) * BLOCK_BYTES)}"
            )

    def write(self, out: Output) -> None:
        """The metadata, from the first byte to the last."""
        written, ready = 0, bytearray()
        for offset, piece in self._pieces():
            if offset > written + len(ready):
                ready += bytes(offset - written - len(ready))
            ready += piece
            if len(ready) >= _WRITE_BYTES:
                written += len(ready)
                out.write(ready)
                ready = bytearray()
        ready += bytes(self.layout.metadata_bytes - written - len(ready))
        out.write(ready)

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """What stands where, one behind the other."""
        yield (
            wire.SUPER_OFFSET,
            wire.super_block(
                root=self._slots[ROOT],
                inodes=self._tree.nodes,
                blocks=self.layout.size // BLOCK_BYTES,
                shared_block=self._shared_block,
            ),
        )
        starts = [region.offset // BLOCK_BYTES for region in self.layout.regions]
        for number, inode in enumerate(self._tree, ROOT):
            mode, uid, gid, mtime, _, nlink, size, layer, position, _, xattrs = inode
            if mode & _KIND == stat.S_IFREG and not xattrs:
                block = starts[layer] + position // BLOCK_BYTES if size else 0
                piece = wire.inode(number, mode, uid, gid, mtime, nlink, size, block)
            else:
                piece = self._inode(number, inode, starts)
            yield self._slots[number] * SLOT_BYTES, piece
        for number, (block, _) in self._blocks.items():
            yield (self._first_block + block) * BLOCK_BYTES, b"".join(self._content(number))
        yield self._shared_block * BLOCK_BYTES, bytes(self._xattrs.shared)

    def _tail(self, number: int, inode: Inode) -> int:
        """Bytes of what a directory or link has."""
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFDIR:
            return self._directory(number).size
        if kind == stat.S_IFLNK:
            if len(inode.target) > MAX_TARGET_BYTES:
                _refuse(self._tree, number, f"as a symbolic link its target has {len(inode.target)} bytes")
            return len(inode.target)
        return 0

    def _check(self, number: int, inode: Inode) -> int:
        size, layer, position = inode[6:9]
        end = self._sizes[layer] if layer < len(self._sizes) else 0
        if size and (position % BLOCK_BYTES or position + size > end):
            raise IndexInvalid(
                f"the image cannot be mounted: the index of layer {inode.layer + 1} says that "
                f"{_path(self._tree, number)!r} begins at byte {inode.position}, where it cannot be",
                do="Make the index again",
            )
        return 0

    def _directory(self, number: int) -> wire.Directory:
        return wire.Directory(number, self._tree.parent(number), self._tree.children(number))

    def _content(self, number: int) -> Iterator[bytes]:
        inode = self._tree.node(number)
        if stat.S_ISDIR(inode.mode):
            return self._directory(number).blocks(self._slots, self._types)
        return iter((inode.target,))

    def _inode(self, number: int, inode: Inode, starts: Sequence[int]) -> bytes:
        mode, uid, gid, mtime, rdev, nlink, size, layer, position = inode[:9]
        kind, layout, value, tail = mode & _KIND, wire.PLAIN, 0, b""
        if kind == stat.S_IFREG:
            value = starts[layer] + position // BLOCK_BYTES if size else 0
        elif number in self._blocks:
            block, size = self._blocks[number]
            value = self._first_block + block
        elif kind in (stat.S_IFDIR, stat.S_IFLNK):
            layout, tail = wire.INLINE, b"".join(self._content(number))
            size = len(tail)
        else:
            value, size = wire.device(rdev), 0
        xattrs = self._xattrs.of(inode)
        head = wire.inode(*(number, mode, uid, gid, mtime, nlink, size, value), layout=layout, xattr_bytes=len(xattrs))
        return head + xattrs + tail


class ReadyMetadata:
    """Metadata that was made elsewhere, by :class:`Metadata` of the same ``FORMAT``, by who is believed."""

    def __init__(self, raw: bytes, layer_sizes: Sequence[int], left_out: Sequence[str]) -> None:
        """Raises IndexInvalid: it is none of layers of these sizes."""
        self._raw = raw
        self.layout = Layout.of(len(raw), layer_sizes, left_out)
        """See :class:`Metadata`."""
        if len(raw) % ALIGNMENT or wire.block_count(raw) != self.layout.size // BLOCK_BYTES:
            raise IndexInvalid("the metadata that came with a hot pack is of other layers")

    def write(self, out: Output) -> None:
        """See :class:`Metadata`."""
        for start in range(0, len(self._raw), _WRITE_BYTES):
            out.write(bytearray(self._raw[start : start + _WRITE_BYTES]))


class _Xattrs:
    """The extended attributes of a tree: those that several inodes have stand once."""

    def __init__(self, tree: Tree) -> None:
        self.shared = bytearray()
        """What stands once."""
        self._bodies: dict[int, bytes] = {}
        self._found: dict[int, tuple[Mapping[bytes, bytes], int]] = {}
        uses: dict[int, int] = {}
        if tree.any_xattrs:
            for number, inode in enumerate(tree, ROOT):
                if inode.xattrs:  # a tree has equal ones once
                    uses[id(inode.xattrs)] = uses.get(id(inode.xattrs), 0) + 1
                    self._found.setdefault(id(inode.xattrs), (inode.xattrs, number))
        left_out: set[bytes] = set()
        lists: dict[int, list[bytes]] = {}
        often: dict[bytes, int] = {}
        for key, (xattrs, number) in self._found.items():
            for name, value in xattrs.items():
                raw = self._raw(tree, number, name, value)
                if raw is None:
                    left_out.add(name)
                    continue
                lists.setdefault(key, []).append(raw)
                often[raw] = often.get(raw, 0) + uses[key]
        self.left_out = sorted(name.decode("utf-8", "replace") for name in left_out)
        places = self._share(often)
        for key, raws in lists.items():
            there = [raw for raw in raws if raw in places][: wire.MAX_SHARED]
            own = [raw for raw in raws if raw not in places] + [raw for raw in raws if raw in places][wire.MAX_SHARED :]
            body = wire.xattrs([places[raw] for raw in there], own)
            if len(body) > wire.MAX_XATTR_BYTES:
                _refuse(tree, self._found[key][1], f"its extended attributes have {len(body)} bytes")
            self._bodies[key] = body

    def of(self, inode: Inode) -> bytes:
        """What stands behind an inode."""
        return self._bodies.get(id(inode.xattrs), b"") if inode.xattrs else b""

    def _share(self, often: Mapping[bytes, int]) -> dict[bytes, int]:
        """Where each that pays for it stands, in words from the first."""
        places = {}
        for raw, uses in often.items():
            if uses > 1 and len(raw) > 4:
                places[raw] = len(self.shared) // 4
                self.shared += raw
        return places

    def _raw(self, tree: Tree, number: int, name: bytes, value: bytes) -> bytes | None:
        if len(value) > wire.MAX_VALUE_BYTES:
            shown = name[:100].decode("utf-8", "replace")
            _refuse(tree, number, f"its extended attribute {shown!r} has {len(value)} bytes")
        return wire.xattr(name, value)


def _refuse(tree: Tree, number: int, why: str) -> NoReturn:
    """Raises LayerInvalid: EROFS cannot hold an inode."""
    raise LayerInvalid(
        f"the image cannot be mounted as EROFS because of {_path(tree, number)!r}: {why}",
        do="Mount it by FUSE (`--carrier fuse`), or build the layer again without it",
    )


def _path(tree: Tree, number: int) -> str:
    names = []
    while number != ROOT:
        above = tree.parent(number)
        names.append(next(name for name, child in tree.children(above) if child == number))
        number = above
    return b"/".join(reversed(names)).decode("utf-8", "replace") or "/"


def _aligned(size: int) -> int:
    return size + -size % ALIGNMENT


__all__ = ["ALIGNMENT", "FORMAT", "Layout", "Metadata", "Part", "ReadyMetadata", "Region", "write_erofs"]
