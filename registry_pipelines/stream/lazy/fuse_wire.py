"""Messages between the kernel and a FUSE server: what is on the wire (Linux, include/uapi/linux/fuse.h, protocol 7.31).

Numbers are in the machine's byte order. Each request begins with ``HEAD``, each reply with ``REPLY``.
"""

from __future__ import annotations

import struct
from enum import IntEnum

MAJOR, MINOR = 7, 31
"""Of the protocol that is spoken; every kernel since 5.4 speaks it."""

FOREVER_S = 10 * 365 * 86400
"""How long the kernel may believe an entry or an attribute: nothing in an image changes."""


REQUEST_BYTES = 1 << 16
"""Of the buffer for a request; the kernel refuses less than 8 KiB."""


class Op(IntEnum):
    """What the kernel asks."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44


ASYNC_READ = 1 << 0
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24
WANTED = (
    ASYNC_READ
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | NO_OPEN_SUPPORT
    | PARALLEL_DIROPS
    | CACHE_SYMLINKS
    | NO_OPENDIR_SUPPORT
)
"""Files and directories are not opened at the server: the kernel keeps what it has read of them."""

INIT_EXT = 1 << 30
"""There is a second word of flags."""
PASSTHROUGH_2 = 1 << 5
"""Of the second word: the kernel reads backing files by itself."""
ALLOW_IDMAP_2 = 1 << 8
"""Of the same: users of the tree may be mapped to others, as containers in user namespaces need (Linux 6.12)."""
HAS_RESEND_2 = 1 << 7
"""Of the second word: the kernel sends unanswered requests again when it is asked to."""

HEAD = struct.Struct("=IIQQIIIHH")
"""Length, operation, unique number, node, user, group, process, extensions, padding."""
REPLY = struct.Struct("=IiQ")
"""Length, error (negative), unique number of the request."""
INIT_IN = struct.Struct("=IIII")
"""Version, minor version, read-ahead in bytes, flags."""
INIT_IN_2 = struct.Struct("=I")
"""Behind that, where there is a second word: its flags."""
INIT_OUT = struct.Struct("=IIIIHHIIHHI7I")
"""Version, minor version, read-ahead, flags; background requests, congestion; bytes of a write, grain of times in ns,
pages of a request, alignment, more flags, how deep backing files may be stacked, and more that is of no use here."""
ATTR = struct.Struct("=6Q10I")
"""Inode, size, blocks, three times in s, their ns, mode, links, user, group, device, block size, flags."""
ENTRY = struct.Struct("=4QII")
"""Node, generation, how long the name and the attributes are valid in s, and in ns; attributes follow."""
ATTR_VALID = struct.Struct("=QII")
"""How long the attributes are valid in s, and in ns, padding; attributes follow."""
READ_IN = struct.Struct("=QQI")
"""Handle, offset, size, and more that is of no use here."""
DIRENT = struct.Struct("=QQII")
"""Inode, offset of the next entry, bytes of the name, kind; the name follows, padded to 8 bytes."""
XATTR_IN = struct.Struct("=II")
"""Size of the reader's buffer, padding; the name follows where one attribute is asked for."""
XATTR_OUT = struct.Struct("=II")
"""Size that a buffer needs, padding; where the reader's was 0."""
STATFS_OUT = struct.Struct("=5Q10I")
"""Blocks, free, free for users, inodes, free; block size, bytes of a name, fragment size, unused."""
NOTIFY_STORE = 4
"""In place of an error, in what is no reply: pages of a file for the kernel to keep."""
NOTIFY_RESEND = 7
"""The same: have all that was read and not answered asked again (Linux 6.9)."""
STORE_OUT = struct.Struct("=QQII")
"""Node, offset, size, padding; the content follows."""
INTERRUPT_IN = struct.Struct("=Q")
"""Unique number of the request that its process does not want to wait for any more."""
