"""The files of an image, all layers merged: what a lookup, a listing and a read need, in a few compact tables.

Nothing of the content is here: a file says in which layer's tar it lies, and where. What ``dump`` makes is kept by the
node, and loaded in a fraction of the time that merging takes.
"""

from __future__ import annotations

import hashlib
import operator
import stat
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec
import zstandard

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.decoding import ready

ROOT = 1
"""The number of the top directory; others follow without gaps, a directory's children one after the other."""

FOLDER_BYTES = 4096
"""What a directory says of its size."""

_ROW = struct.Struct("<IIIqQIQIQII")
"""Mode, uid, gid, mtime, device, links, size, layer, position, extra, parent."""

_LINKS, _SIZE = struct.Struct("<I"), struct.Struct("<Q")
_LINKS_AT, _SIZE_AT, _PARENT_AT = 28, 32, 56
"""Where in a row some of them stand."""
_REGULAR = stat.S_IFREG >> 8
"""Of a mode's second byte the upper half."""

_Row = tuple[int, int, int, int, int, int, int, int, int, int, int]

_MAGIC = b"rp-tree\x01"
"""Its last byte is the version."""

_PIECE_BYTES = 1 << 20
"""What is compressed at a time."""

_MAX_BYTES = 1 << 31
"""Of a dump, uncompressed; some 120 a file."""

_MAX_NAME_BYTES = 255
_NO_NAMES = frozenset((b".", b".."))
_KIND = 0o170000
"""Of a mode, what ``stat.S_IFMT`` gives."""
_KINDS = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK))

_NO_XATTRS: Mapping[bytes, bytes] = {}


class Inode(NamedTuple):
    """A file, directory or anything else that stands in a tree."""

    mode: int
    """Kind and rights, as ``st_mode``."""
    uid: int
    gid: int
    mtime_ns: int
    """Nanoseconds since 1970; never negative."""
    rdev: int
    """Of a device, as ``st_rdev``."""
    nlink: int
    size: int
    """Bytes of a regular file's content, or of a symbolic link's target."""
    layer: int
    """Of a regular file: which layer has its content, 0 for the base."""
    position: int
    """Of a regular file: where its content begins in the layer's tar, or in what stands for it
    (``LayerTable.pieces``)."""
    target: bytes
    """Of a symbolic link."""
    xattrs: Mapping[bytes, bytes]
    """By full name, as ``security.capability``."""


class _Extra(msgspec.Struct, frozen=True, array_like=True):
    """What few inodes have, and many share."""

    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What a dump begins with."""

    inodes: int
    children: int
    name_bytes: int
    layers: int
    content_bytes: int
    extras: tuple[_Extra, ...]


class Tree:
    """Inodes by number, from ``ROOT`` to ``nodes``. For many threads; made by ``merging.merge_layers`` or
    :meth:`load`."""

    def __init__(
        self,
        rows: bytes | bytearray,
        names: bytes | bytearray,
        name_ends: array[int],
        numbers: array[int],
        firsts: array[int],
        extras: tuple[_Extra, ...],
        layers: int,
        content_bytes: int,
    ) -> None:
        """rows: one ``_ROW`` for each inode. names, name_ends, numbers: of the children of all directories, sorted
        within each. firsts: for each inode where its children begin, and a last one where the list ends."""
        self._rows, self._names, self._name_ends, self._numbers = rows, names, name_ends, numbers
        self._firsts, self._extras = firsts, extras
        self.layers = layers
        """How many were merged."""
        self.nodes = len(rows) // _ROW.size
        """How many inodes there are."""
        self.any_xattrs = any(extra.xattrs for extra in extras)
        """Whether any inode has extended attributes."""
        self._maps = [dict(extra.xattrs) if extra.xattrs else _NO_XATTRS for extra in extras]
        self.content_bytes = content_bytes
        """Of all regular files, each once."""

    def __iter__(self) -> Iterator[Inode]:
        """All inodes, by number."""
        for mode, uid, gid, mtime, rdev, nlink, size, layer, position, extra, _ in _ROW.iter_unpack(self._rows):
            target, xattrs = self._extras[extra].target, self._maps[extra]
            yield Inode(mode, uid, gid, mtime, rdev, nlink, size, layer, position, target, xattrs)

    def node(self, number: int) -> Inode:
        """Raises LookupError."""
        mode, uid, gid, mtime, rdev, nlink, size, layer, position, extra, _ = self._row(number)
        target, xattrs = self._extras[extra].target, self._maps[extra]
        return Inode(mode, uid, gid, mtime, rdev, nlink, size, layer, position, target, xattrs)

    def lookup(self, directory: int, name: bytes) -> int | None:
        """The number of what stands under a name in a directory; None for nothing. Raises LookupError."""
        self._row(directory)
        low, high = self._firsts[directory - 1], self._firsts[directory]
        end = high
        while low < high:
            middle = (low + high) // 2
            if self._name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return self._numbers[low] if low < end and self._name(low) == name else None

    def children(self, directory: int) -> Sequence[tuple[bytes, int]]:
        """Names and numbers in a directory, sorted by name, without ``.`` and ``..``; none for what is no directory.
        Raises LookupError."""
        self._row(directory)
        there = range(self._firsts[directory - 1], self._firsts[directory])
        return [(self._name(child), self._numbers[child]) for child in there]

    def parent(self, directory: int) -> int:
        """The directory above; the top's is itself. Raises LookupError; for what is no directory it is the one with its
        first name."""
        return self._row(directory)[10]

    def find(self, path: bytes) -> int | None:
        """The number at a path from the top, links not followed; None for nothing. A convenience for who looks for one
        file."""
        found: int | None = ROOT
        for name in filter(None, path.split(b"/")):
            found = self.lookup(found, name) if found else None
        return found

    @cached_property
    def digest(self) -> str:
        """Of all that it says, in hex: trees with the same have the same numbers for the same files."""
        hashed = hashlib.sha256(msgspec.msgpack.encode((self.layers, self._extras)))
        for each in (self._rows, self._names, self._name_ends, self._numbers, self._firsts):
            hashed.update(memoryview(each).cast("B"))
        return hashed.hexdigest()

    def files_by_place(self, least: int) -> list[tuple[int, int, int, int]]:
        """Regular files of so many bytes or more: layer, position, size and number, sorted."""
        rows = enumerate(_ROW.iter_unpack(self._rows), ROOT)
        return sorted(
            (row[7], row[8], row[6], number) for number, row in rows if row[6] >= least and stat.S_ISREG(row[0])
        )

    def path(self, number: int) -> bytes:
        """From the top; of several the first. Raises LookupError."""
        names: list[bytes] = []
        while number != ROOT:
            above = self._row(number)[10]
            names.append(next(name for name, child in self.children(above) if child == number))
            number = above
        return b"/".join(reversed(names))

    def dump(self) -> bytes:
        """The whole tree, compressed; :meth:`load` reads it."""
        children = len(self._numbers)
        sizes = self.nodes, children, len(self._names), self.layers, self.content_bytes
        head = msgspec.msgpack.encode(_Head(*sizes, self._extras))
        tables = self._rows, self._names, self._name_ends, self._numbers, self._firsts
        parts = [memoryview(each).cast("B") for each in (len(head).to_bytes(8, "little"), head, *tables)]
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=sum(map(len, parts)))
        pieces = [compressor.compress(part[at : at + _PIECE_BYTES]) for part in parts for at in _starts(part)]
        return b"".join((_MAGIC, *pieces, compressor.flush()))

    @classmethod
    def load(cls, raw: bytes) -> Tree:
        """Read what ``dump`` made. Numbers in it are not checked: of what others wrote ask :meth:`check`, too.

        Raises IndexInvalid: damaged, or of another version.
        """
        try:
            if raw[: len(_MAGIC)] != _MAGIC:
                raise ValueError("it is of another version")
            if not 0 <= zstandard.frame_content_size(raw[len(_MAGIC) :]) <= _MAX_BYTES:
                raise ValueError("it is too large")
            content = zstandard.ZstdDecompressor().decompress(raw[len(_MAGIC) :], max_output_size=_MAX_BYTES)
            start = 8 + int.from_bytes(content[:8], "little")
            head = msgspec.msgpack.decode(content[8:start], type=ready(_Head))
            if min(head.inodes, head.children, head.name_bytes) < 0:
                raise ValueError("it has fewer than nothing")
            sizes = (head.inodes * _ROW.size, head.name_bytes, 8 * head.children, 4 * head.children)
            parts = []
            for size in (*sizes, 4 * (head.inodes + 1)):
                parts.append(content[start : start + size])
                start += size
            if start != len(content):
                raise ValueError("it is cut off")
        except (ValueError, zstandard.ZstdError, msgspec.MsgspecError) as error:
            raise IndexInvalid(f"the kept tree of an image cannot be read: {error}") from error
        ends, numbers, firsts = (array(code, part) for code, part in zip("QII", parts[2:], strict=True))
        return cls(parts[0], parts[1], ends, numbers, firsts, head.extras, head.layers, head.content_bytes)

    def check(self, sizes: Sequence[int]) -> None:
        """For a tree that others wrote: that its numbers lead nowhere else, and its names are names. sizes: of the
        layers, in bytes as positions go.

        Raises IndexInvalid.
        """
        try:
            self._check_numbers()
            self._check_names(self._check_inodes(sizes))
        except (ValueError, IndexError) as error:
            raise IndexInvalid(f"the tree of an image that came with its hot pack is wrong: {error}") from error

    def _check_numbers(self) -> None:
        firsts, ends, numbers = self._firsts, self._name_ends, self._numbers
        if not self.nodes or firsts[0] or firsts[-1] != len(numbers) or not all(map(operator.le, firsts, firsts[1:])):
            raise ValueError("its directories overlap")
        if not all(map(operator.lt, ends, ends[1:])) or (ends and (not ends[0] or ends[-1] != len(self._names))):
            raise ValueError("its names overlap")
        if numbers and not ROOT < min(numbers) <= max(numbers) <= self.nodes:
            raise ValueError("a name stands for nothing")
        if b"/" in self._names or b"\0" in self._names:
            raise ValueError("a name is a path")

    def _check_inodes(self, sizes: Sequence[int]) -> dict[int, int]:
        """Directories, each with the one above. A node waits for this, so it does as little for each as it can."""
        directories: dict[int, int] = {}
        extras, firsts = len(self._extras), self._firsts
        for number, row in enumerate(_ROW.iter_unpack(self._rows), ROOT):
            mode, _, _, mtime, _, _, size, layer, position, extra, parent = row
            kind = mode & _KIND
            if kind == stat.S_IFREG:
                if position + size > sizes[layer]:
                    raise ValueError("a file lies outside of its layer")
            elif kind == stat.S_IFDIR:
                directories[number] = parent
            elif kind not in _KINDS:
                raise ValueError("something is of no kind")
            if mode >> 16 or mtime < 0 or extra >= extras or not ROOT <= parent <= number or size >= 1 << 63:
                raise ValueError("a number is out of its range")
        if ROOT not in directories:
            raise ValueError("its top is no directory")
        if sum(firsts[number] - firsts[number - 1] for number in directories) != len(self._numbers):
            raise ValueError("something stands below a file")  # lists follow each other, and each name is in one
        return directories

    def _check_names(self, directories: Mapping[int, int]) -> None:
        names, ends, numbers, firsts = bytes(self._names), self._name_ends, self._numbers, self._firsts
        placed: set[int] = set()
        start = 0
        for directory in directories:  # by number, as their children are
            before = b""
            for child in range(firsts[directory - 1], firsts[directory]):
                end = ends[child]
                name = names[start:end]
                if not before < name or end - start > _MAX_NAME_BYTES or name in _NO_NAMES:
                    raise ValueError("names are not sorted, or are none")
                before, start = name, end
                number = numbers[child]
                if (above := directories.get(number)) is not None:
                    if above != directory or number <= directory or number in placed:
                        raise ValueError("a directory stands in two places")
                    placed.add(number)

    def _row(self, number: int) -> _Row:
        if not ROOT <= number <= self.nodes:
            raise LookupError(number)
        return _ROW.unpack_from(self._rows, (number - 1) * _ROW.size)

    def _name(self, child: int) -> bytes:
        start = self._name_ends[child - 1] if child else 0
        return bytes(self._names[start : self._name_ends[child]])


def _starts(part: memoryview) -> range:
    return range(0, len(part), _PIECE_BYTES)


class Rows:
    """Inodes as rows of bytes: objects take four times as much."""

    BYTES = _ROW.size

    def __init__(self) -> None:
        self.extras: dict[_Extra, int] = {_Extra(): 0}
        self._listed = [_Extra()]

    def row(self, inode: Inode, parent: int = 0) -> bytes:
        """An inode as a row."""
        extra = self._extra(inode.target, inode.xattrs) if inode.target or inode.xattrs else 0
        return _ROW.pack(*inode[:9], extra, parent)

    def inode(self, row: bytes | bytearray) -> Inode:
        """What a row says."""
        mode, uid, gid, mtime, rdev, nlink, size, layer, position, extra, _ = _ROW.unpack(row)
        target, xattrs = self._listed[extra].target, self._listed[extra].xattrs
        there = dict(xattrs) if xattrs else _NO_XATTRS
        return Inode(mode, uid, gid, mtime, rdev, nlink, size, layer, position, target, there)

    def _extra(self, target: bytes, xattrs: Mapping[bytes, bytes]) -> int:
        wanted = _Extra(target, tuple(sorted(xattrs.items())))
        number = self.extras.setdefault(wanted, len(self.extras))
        if number == len(self._listed):
            self._listed.append(wanted)
        return number


def file_row(mode: int, uid: int, gid: int, mtime_ns: int, size: int, layer: int, position: int) -> bytes:
    """A row of a regular file without attributes: most are."""
    return _ROW.pack(mode, uid, gid, mtime_ns, 0, 1, size, layer, position, 0, 0)


class TreeWriter:
    """Puts a tree together, directory by directory; see :meth:`children`. Number ``ROOT`` is asked for first."""

    def __init__(self, layers: int, rows: Rows | None = None) -> None:
        """rows: what made the rows that :meth:`add_row` will get."""
        self._layers = layers
        self._rows, self._made = bytearray(), rows or Rows()
        self._names, self._name_ends, self._numbers = bytearray(), array("Q"), array("I")
        self._firsts = array("I")
        self._content_bytes = 0

    def add(self, inode: Inode, parent: int) -> int:
        """The next inode; its number."""
        return self.add_row(self._made.row(inode._replace(nlink=1)), inode.nlink, parent)

    def add_row(self, row: bytes | bytearray, nlink: int, parent: int) -> int:
        """The same by its row, which says one link."""
        start = len(self._rows)
        self._rows += row
        if nlink != 1:
            _LINKS.pack_into(self._rows, start + _LINKS_AT, nlink)
        _LINKS.pack_into(self._rows, start + _PARENT_AT, parent)
        if row[1] & 0xF0 == _REGULAR:
            self._content_bytes += _SIZE.unpack_from(row, _SIZE_AT)[0]
        return start // _ROW.size + 1

    def children(self, directory: int, children: Sequence[tuple[bytes, int]]) -> None:
        """What a directory has, sorted by name. Directories come in the order of their numbers."""
        while len(self._firsts) < directory:
            self._firsts.append(len(self._numbers))
        for name, number in children:
            self._names += name
            self._name_ends.append(len(self._names))
            self._numbers.append(number)

    def finish(self) -> Tree:
        """The tree."""
        while len(self._firsts) <= len(self._rows) // _ROW.size:
            self._firsts.append(len(self._numbers))
        tables = self._rows, self._names, self._name_ends, self._numbers, self._firsts
        return Tree(*tables, tuple(self._made.extras), self._layers, self._content_bytes)


__all__ = ["FOLDER_BYTES", "ROOT", "Inode", "Rows", "Tree", "TreeWriter", "file_row"]
