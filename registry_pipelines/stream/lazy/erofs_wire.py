"""The parts of an EROFS image as they stand on the disk, with blocks of 512 bytes and nothing compressed: super block,
inodes, directories, extended attributes (Linux ``fs/erofs/erofs_fs.h``; the EROFS project's "Core on-disk format")."""

from __future__ import annotations

import os
import stat
import struct
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence

BLOCK_BITS = 9
BLOCK_BYTES = 1 << BLOCK_BITS
"""tar's own, so that a file's content can stay where it is."""

SUPER_OFFSET = 1024
INODE_BYTES = 64
"""Of an extended inode; a compact one has no time, and no room for large numbers of users."""
SLOT_BYTES = 32
"""Inodes are numbered by their place in these."""
MAX_BLOCKS = (1 << 32) - 1

MAX_VALUE_BYTES = 0xFFFF
"""Of an extended attribute; Linux itself takes one byte more."""
MAX_XATTR_BYTES = 12 + 4 * (0xFFFF - 1)
"""Of all attributes of an inode."""
MAX_SHARED = 255
"""Attributes of an inode that stand elsewhere."""

PLAIN, INLINE = 0, 2
"""Content in blocks of its own; behind its inode, in the same block."""

_MAGIC, _MASK = 0xE0F5E1E2, (1 << 64) - 1
_COMPAT_MTIME = 2
_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB3xIQQ")
_BLOCKS_AT = 9
_INODE = struct.Struct("<HHHHQIIIIQII16x")
_ENTRY = struct.Struct("<QHBx")
_XATTR_HEAD = struct.Struct("<IB7x")
_XATTR = struct.Struct("<BBH")

FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
"""What directories tell of their entries."""

_PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)


def super_block(*, root: int, inodes: int, blocks: int, shared_block: int) -> bytes:
    """The block that begins at ``SUPER_OFFSET``, without a checksum: it is optional, and not every reader can
    check one in blocks of 512 bytes. root: number of the top directory. shared_block: where shared attributes begin."""
    raw = _SUPER.pack(
        *(_MAGIC, 0, _COMPAT_MTIME, BLOCK_BITS, 0, root, inodes, 0, 0, blocks, 0, shared_block),
        *(b"", b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    )
    return raw.ljust(BLOCK_BYTES, b"\0")


def block_count(raw: bytes) -> int:
    """Of an image that begins with these bytes; -1: it is none of ours."""
    if len(raw) < SUPER_OFFSET + BLOCK_BYTES:
        return -1
    found = _SUPER.unpack_from(raw, SUPER_OFFSET)
    return found[_BLOCKS_AT] if (found[0], found[3]) == (_MAGIC, BLOCK_BITS) else -1


def inode(
    number: int,
    mode: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    nlink: int,
    size: int,
    value: int,
    *,
    layout: int = PLAIN,
    xattr_bytes: int = 0,
) -> bytes:
    """value: number of the first block, or of the device."""
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    count = 1 + (xattr_bytes - _XATTR_HEAD.size) // 4 if xattr_bytes else 0
    kind = 1 | layout << 1  # extended
    return _INODE.pack(kind, count, mode, 0, size, value, number, uid, gid, seconds & _MASK, nanoseconds, nlink)


def device(number: int) -> int:
    """An ``st_rdev`` as Linux writes it to disks."""
    major, minor = os.major(number), os.minor(number)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


class Directory:
    """The entries of a directory, in the blocks that they need: sorted by the bytes of their names, ``.`` and ``..``
    among them, each block with its own head."""

    def __init__(self, number: int, above: int, children: Iterable[tuple[bytes, int]]) -> None:
        """number, above: its own and that of the directory above. children: sorted."""
        self._entries = list(children)
        insort(self._entries, (b".", number))
        insort(self._entries, (b"..", above))
        self._starts = [0]
        room = BLOCK_BYTES
        for index, (name, _) in enumerate(self._entries):
            wanted = _ENTRY.size + len(name)
            if wanted > room:
                self._starts.append(index)
                room = BLOCK_BYTES
            room -= wanted
        self.size = len(self._starts) * BLOCK_BYTES - room
        """Bytes; only the last block is not whole."""

    def blocks(self, numbers: Sequence[int], types: Sequence[int]) -> Iterator[bytes]:
        """The blocks. numbers: of the inodes in EROFS, types: those of ``FILE_TYPES``; both by number."""
        ends = [*self._starts[1:], len(self._entries)]
        for start, end in zip(self._starts, ends, strict=True):
            entries = self._entries[start:end]
            offset = len(entries) * _ENTRY.size
            head = []
            for name, number in entries:
                head.append(_ENTRY.pack(numbers[number], offset, types[number]))
                offset += len(name)
            block = b"".join((*head, *(name for name, _ in entries)))
            yield block if end == len(self._entries) else block.ljust(BLOCK_BYTES, b"\0")


def xattr(name: bytes, value: bytes) -> bytes | None:
    """An attribute; None where the kernel's file systems have none of that name. The value has at most
    ``MAX_VALUE_BYTES``."""
    for prefix, index in _PREFIXES:
        own = name[len(prefix) :]
        if name.startswith(prefix) and (bool(own) is prefix.endswith(b".")) and len(name) <= MAX_SHARED:
            raw = _XATTR.pack(len(own), index, len(value)) + own + value
            return raw.ljust(-(-len(raw) // 4) * 4, b"\0")
    return None


def xattrs(shared: Sequence[int], own: Iterable[bytes]) -> bytes:
    """What stands behind an inode. shared: where attributes stand in the shared ones, in words. own: those of its
    own."""
    return b"".join((_XATTR_HEAD.pack(0, len(shared)), struct.pack(f"<{len(shared)}I", *shared), *own))
