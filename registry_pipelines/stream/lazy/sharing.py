"""Blocks that two files of a disk share, where its file system can (btrfs, XFS, bcachefs): they stand there once, and a
file that is written to gets its own (ioctl_ficlonerange(2); Linux ``Documentation/filesystems/fiemap``)."""

from __future__ import annotations

import errno
import fcntl
import struct

_FICLONERANGE, _FIEMAP = 0x4020940D, 0xC020660B
_RANGE = struct.Struct("=qQQQ")
_MAP, _EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQ16xI12x")
_EXTENTS = 500
_LAST, _SHARED = 1, 0x2000


def shares_blocks(source: int, target: int) -> bool:
    """Whether two open files may share blocks."""
    try:
        fcntl.ioctl(target, _FICLONERANGE, _RANGE.pack(source, 1, 1, 1))
    except OSError as error:  # where it can, it does not like ends within blocks
        return error.errno == errno.EINVAL
    return True


def share_blocks(source: int, start: int, size: int, target: int, offset: int) -> bool:
    """Have bytes of a file stand in another without a copy; start, size and offset are multiples of 4096. False: the
    file system cannot, or its blocks are larger. Raises OSError: its disk is full, or fails."""
    try:
        fcntl.ioctl(target, _FICLONERANGE, _RANGE.pack(source, start, size, offset))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY):
            return False
        raise
    return True


def shared_bytes(descriptor: int) -> int:
    """Of a file, those that it shares with others. Raises OSError: the file system does not say."""
    found, position = 0, 0
    while True:
        request = bytearray(_MAP.pack(position, (1 << 63) - position, 0, 0, _EXTENTS, 0))
        request += bytes(_EXTENTS * _EXTENT.size)
        fcntl.ioctl(descriptor, _FIEMAP, request)
        count = _MAP.unpack_from(request)[3]
        flags = _LAST
        for index in range(count):
            logical, _, length, flags = _EXTENT.unpack_from(request, _MAP.size + index * _EXTENT.size)
            position = logical + length
            if flags & _SHARED:
                found += length
        if flags & _LAST:
            return found


__all__ = ["share_blocks", "shared_bytes", "shares_blocks"]
