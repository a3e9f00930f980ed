"""A digest of the files that a container sees, without their times: two images with the same one run alike.

Made of one line for each path, each directory before what it holds, the names in a directory sorted by their bytes, and
hashed with SHA-256. ``docs/rechunk.md`` is the definition for others:

    /PATH KIND MODE UID GID [CONTENT] [=/FIRST] [NAME=VALUE]...

KIND is ``d``, ``f``, ``l``, ``c``, ``b``, ``p`` or ``s``; MODE four octal digits. CONTENT: of a file its size and
sha256, of a symbolic link its target, of a device both its numbers. ``=/FIRST``: the first path of a file with several
names, behind the others. NAME=VALUE: extended attributes sorted by name, values in hexadecimal. Bytes outside of 0x21
to 0x7e, ``%`` and ``=`` are written ``%xx``.

A file all of whose names are ``*.pyc``, of 16 bytes or more, whose bytes 2 and 3 are CR LF is a compiled Python module:
its sha256 is taken without bytes 4 to 15, which say when its source was written or what it hashes to (PEP 552), and has
``pyc:`` before it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator

from registry_pipelines.anatomy.rechunk.merged import Content, Merged
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import BYTECODE_HEAD_BYTES
from registry_pipelines.stream.lazy.tree import Inode

_KINDS = {
    stat.S_IFDIR: b"d",
    stat.S_IFREG: b"f",
    stat.S_IFLNK: b"l",
    stat.S_IFCHR: b"c",
    stat.S_IFBLK: b"b",
    stat.S_IFIFO: b"p",
    stat.S_IFSOCK: b"s",
}
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"%=")
_ESCAPES = {byte: b"%%%02x" % byte for byte in range(256) if byte not in _PLAIN}
_ENDING, _LINE_END = b".pyc", b"\r\n"


def tree_digest(merged: Merged, *, without: Collection[bytes] = frozenset()) -> Digest:
    """without: paths that are left out."""
    hasher = hashlib.sha256()
    for line in tree_lines(merged, without=without):
        hasher.update(line)
    return Digest(f"sha256:{hasher.hexdigest()}")


def tree_lines(merged: Merged, *, without: Collection[bytes] = frozenset()) -> Iterator[bytes]:
    """The lines of which a tree digest is made."""
    firsts: dict[int, bytes] = {}
    other_names: Collection[int] | None = None
    for path, number, inode in merged.nodes():
        if path in without:
            continue
        first, content = b"", merged.content(inode) if stat.S_ISREG(inode.mode) else None
        if inode.nlink > 1 and not stat.S_ISDIR(inode.mode):
            first = firsts.setdefault(number, path)
            if content is not None and content.bytecode:
                other_names = _with_other_names(merged) if other_names is None else other_names
                content = content._replace(bytecode=b"") if number in other_names else content
        yield tree_line(path, inode, content, first)


def tree_line(path: bytes, inode: Inode, content: Content | None, first: bytes) -> bytes:
    """One line. content: of a regular file. first: of a file with several names the first path; empty else."""
    kind = _KINDS[stat.S_IFMT(inode.mode)]
    parts = [b"/" + _escaped(path), kind, b"%04o %d %d" % (stat.S_IMODE(inode.mode), inode.uid, inode.gid)]
    if content is not None:
        parts.append(b"%d %b" % (inode.size, _content(path, content)))
    elif kind == b"l":
        parts.append(_escaped(inode.target))
    elif kind in b"cb":
        parts.append(b"%d %d" % (os.major(inode.rdev), os.minor(inode.rdev)))
    if first and first != path:
        parts.append(b"=/" + _escaped(first))
    parts += [_escaped(name) + b"=" + value.hex().encode() for name, value in sorted(inode.xattrs.items())]
    return b" ".join(parts) + b"\n"


def _with_other_names(merged: Merged) -> set[int]:
    """Files that have a name which no compiled module has. A layer's record knows a file by its first name alone, so
    what it says of one with names of both kinds depends on their order."""
    node = merged.tree.node
    return {
        number
        for path, number in merged.paths()
        if not path.endswith(_ENDING) and node(number).nlink > 1 and stat.S_ISREG(node(number).mode)
    }


def is_bytecode(path: bytes, content: Content) -> bool:
    """Whether a file is a compiled Python module."""
    return path.endswith(_ENDING) and content.bytecode[2:4] == _LINE_END


def _content(path: bytes, content: Content) -> bytes:
    if is_bytecode(path, content):
        return b"pyc:" + content.bytecode[BYTECODE_HEAD_BYTES:].hex().encode()
    return content.sha256.hex().encode()


def _escaped(text: bytes) -> bytes:
    return text if not text.translate(None, _PLAIN) else b"".join(_ESCAPES.get(byte, bytes((byte,))) for byte in text)


__all__ = ["is_bytecode", "tree_digest", "tree_line", "tree_lines"]
