"""The root file system of an image: made of the merged tree and the files that layers were taken apart into.

Directories come first, so each name is made in one that this process made, below a folder that only this user can
enter. Contents are moved, not copied. What only root may set is set where it can be, and counted where not. A build
that was killed goes on when it is called again with the same tree.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree
from registry_pipelines.stream.pull.unpacking import content_name

OWNERS, SET_ID, DEVICES, ATTRIBUTES = "owners", "set-ID bits", "devices", "attributes"
"""What may be left out, as it is counted."""

_SET_ID = stat.S_ISUID | stat.S_ISGID
_REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL}
_POSITION_BITS = 48


class RootBuilder:
    """Makes one root file system; :meth:`build` is called once. contents: for each layer a descriptor of the folder
    with its files; a layer that stands in the image twice has the same one twice."""

    def __init__(self, tree: Tree, root: int, contents: Sequence[int]) -> None:
        self._tree, self._root, self._contents = tree, root, contents
        self._twice = _read_twice(tree, contents)
        self._linked: dict[int, bytes] = {}
        self._owner = os.geteuid(), os.getegid()
        status = os.stat(root)
        self._inherits = status.st_gid != self._owner[1] or bool(status.st_mode & stat.S_ISGID)
        """Whether what is made has another group than ours; else it has its owner already, as most files of images."""
        self.left_out: Counter[str] = Counter()
        """How many files lack something, by what it is."""
        self.files = 0
        """Names made, without directories."""

    def build(self) -> Mapping[str, int]:
        """Make everything; what was left out. Raises OSError; LayerInvalid: a name that is none."""
        paths: dict[int, bytes] = {ROOT: b"."}
        folders: list[tuple[bytes, Inode]] = [(b".", self._tree.node(ROOT))]
        waiting = [ROOT]
        for number in waiting:
            above = paths.pop(number)
            for name, child in self._tree.children(number):
                if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                    raise LayerInvalid(f"{name[:100]!r} is no name of a file")
                path = above + b"/" + name
                inode = self._tree.node(child)
                if stat.S_ISDIR(inode.mode):
                    self._folder(path)
                    paths[child] = path
                    folders.append((path, inode))
                    waiting.append(child)
                else:
                    self._name(path, child, inode)
        for path, inode in reversed(folders):
            self._attributes(path, inode)
        return self.left_out

    def _folder(self, path: bytes) -> None:
        try:
            os.mkdir(path, 0o700, dir_fd=self._root)
        except FileExistsError:
            os.chmod(path, 0o700, dir_fd=self._root)

    def _name(self, path: bytes, number: int, inode: Inode) -> None:
        """A name for what is no directory; its second and further names are links."""
        if (first := self._linked.get(number)) is not None:
            self._anew(path)
            os.link(first, path, src_dir_fd=self._root, dst_dir_fd=self._root, follow_symlinks=False)
            self.files += 1
            return
        try:
            self._make(path, inode)
        except PermissionError:
            if not stat.S_ISCHR(inode.mode) and not stat.S_ISBLK(inode.mode):
                raise
            self.left_out[DEVICES] += 1
            return
        self._attributes(path, inode)
        self.files += 1
        if inode.nlink > 1:
            self._linked[number] = path

    def _make(self, path: bytes, inode: Inode) -> None:
        if stat.S_ISREG(inode.mode) and inode.size:
            self._content(path, inode)
            return
        self._anew(path)
        if stat.S_ISREG(inode.mode):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._root))
        elif stat.S_ISLNK(inode.mode):
            os.symlink(inode.target, path, dir_fd=self._root)
        else:
            os.mknod(path, stat.S_IFMT(inode.mode) | 0o600, inode.rdev, dir_fd=self._root)

    def _content(self, path: bytes, inode: Inode) -> None:
        source, name = self._contents[inode.layer], content_name(inode.position)
        if _key(source, inode) in self._twice:
            self._copy(source, name, path)
            return
        try:
            os.rename(name, path, src_dir_fd=source, dst_dir_fd=self._root)
        except FileNotFoundError:  # moved before a kill; else this raises
            os.stat(path, dir_fd=self._root, follow_symlinks=False)

    def _copy(self, source: int, name: str, path: bytes) -> None:
        self._anew(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with (
            os.fdopen(os.open(name, os.O_RDONLY, dir_fd=source), "rb") as content,
            os.fdopen(os.open(path, flags, 0o600, dir_fd=self._root), "wb") as copy,
        ):
            shutil.copyfileobj(content, copy, 1 << 20)

    def _anew(self, path: bytes) -> None:
        """Nothing stands there, not even from before a kill."""
        with suppress(FileNotFoundError):
            os.unlink(path, dir_fd=self._root)

    def _attributes(self, path: bytes, inode: Inode) -> None:
        """Owner, attributes, mode and times, in the order in which none undoes another."""
        mode = inode.mode & 0o7777
        if not self._give(path, inode):
            self.left_out[OWNERS] += 1
            if mode & _SET_ID and not stat.S_ISDIR(inode.mode):
                self.left_out[SET_ID] += 1
                mode &= ~_SET_ID
        if inode.xattrs:
            self._xattrs(path, inode)
        if not stat.S_ISLNK(inode.mode):
            os.chmod(path, mode, dir_fd=self._root)
        os.utime(path, ns=(inode.mtime_ns, inode.mtime_ns), dir_fd=self._root, follow_symlinks=False)

    def _give(self, path: bytes, inode: Inode) -> bool:
        """Whether it has the owner it should have."""
        owner = inode.uid, inode.gid
        if owner == self._owner and not self._inherits:
            return True
        try:
            os.chown(path, *owner, dir_fd=self._root, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return owner == self._owner
        return True

    def _xattrs(self, path: bytes, inode: Inode) -> None:
        # There are no such calls below a descriptor; no link stands on the way.
        there = f"/proc/self/fd/{self._root}/".encode() + path
        refused = False
        for name, value in inode.xattrs.items():
            try:
                os.setxattr(there, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                refused = True
        self.left_out[ATTRIBUTES] += refused


def _key(source: int, inode: Inode) -> int:
    return source << _POSITION_BITS | inode.position


def _read_twice(tree: Tree, contents: Sequence[int]) -> frozenset[int]:
    """Content that two files have which are not the same: a layer that comes twice, a link to a file of a layer below
    that still shows there."""
    keys = array("Q", (_key(contents[each.layer], each) for each in tree if stat.S_ISREG(each.mode) and each.size))
    ordered = sorted(keys)
    return frozenset(one for one, other in pairwise(ordered) if one == other)


__all__ = ["ATTRIBUTES", "DEVICES", "OWNERS", "SET_ID", "RootBuilder"]
