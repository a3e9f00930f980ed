"""Layers merged to the tree that a container sees: what unpacking them one above the other makes (OCI image-spec 1.1,
``layer.md``), with containerd's answers where that says nothing.

- A whiteout hides what is below, never what its own layer has, wherever it stands in the tar. A character device 0/0
  hides as one, as overlayfs has it.
- A name that comes again replaces what stood there; a directory that comes again keeps its children. Below a directory
  in place of a file of its own layer the layers below show, as in overlayfs.
- A directory that no entry tells of has the owner and mode of the one below, else root's and 0755.
- A hard link gives its own owner, mode and time to the file. Its target is in its layer, or else below, and then the
  file becomes one of this layer under both names; further names that it has below stay what they were (overlayfs,
  ``ovl_link``: what is linked is copied up under the name that was given).
- Attributes named ``trusted.*`` are left out; times outside 1970 to 2262 become 0.
"""

from __future__ import annotations

import gc
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache

from registry_pipelines.allocator import return_memory
from registry_pipelines.errors import LayerInvalid
from registry_pipelines.stream.lazy.tree import FOLDER_BYTES, Inode, Rows, Tree, TreeWriter, file_row
from registry_pipelines.stream.mountable import clean_path
from registry_pipelines.stream.toc import FileMetadata

MAX_LINKS = 255
"""Symbolic links that are followed to where an entry stands; containerd's number."""

MAX_DEPTH = 1024
"""Directories in each other: a path of the kernel's 4,096 bytes has no more than twice as many, and no real image a
hundred."""

MAX_NAME_BYTES = 255
"""Of one name; the kernel takes no longer one."""

MAX_ENTRIES = 10_000_000
"""Of one image; a million need some 250 MB while they are merged."""

_RETURN_EVERY = 50_000
_LINK_KIND = stat.S_IFLNK >> 8
"""As the upper half of the second byte of a row."""

_WHITEOUT, _OPAQUE, _AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
_XATTR = b"SCHILY.xattr."
_KIND_BITS = {
    b"reg": stat.S_IFREG,
    b"dir": stat.S_IFDIR,
    b"symlink": stat.S_IFLNK,
    b"char": stat.S_IFCHR,
    b"block": stat.S_IFBLK,
    b"fifo": stat.S_IFIFO,
}
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_LAST_TIME_NS = (1 << 63) - 1
_REMEMBERED = 1 << 14
_NO_XATTRS: dict[bytes, bytes] = {}


class _Folder:
    """A directory while trees are merged."""

    __slots__ = ("children", "gone", "opaque", "row")

    def __init__(self, row: bytes | None = None) -> None:
        self.row = row
        """Its inode; None: no entry told of it."""
        self.children: dict[bytes, _Folder | int] = {}
        """What else there is by its number in ``_Files``."""
        self.opaque = False
        """Nothing below it shows."""
        self.gone: set[bytes] | None = None
        """What below it does not show."""

    def hide(self, name: bytes) -> None:
        self.gone = self.gone or set()
        self.gone.add(name)


class _Files:
    """All that is no directory, of all layers; names that are hard links of one another share a number."""

    def __init__(self) -> None:
        self.made = Rows()
        self.links, self.numbers = array("I"), array("I")
        """How many names show, and the number in the tree."""
        self._rows = bytearray()

    def add(self, row: bytes | bytearray) -> int:
        """The next file; its number here."""
        self._rows += row
        self.links.append(0)
        self.numbers.append(0)
        return len(self.links) - 1

    def row(self, file: int) -> bytearray:
        """Its inode, as ``made`` packs it."""
        return self._rows[file * Rows.BYTES : (file + 1) * Rows.BYTES]

    def inode(self, file: int) -> Inode:
        """Its inode."""
        return self.made.inode(self.row(file))

    def change(self, file: int, inode: Inode) -> None:
        """Give it another inode."""
        self._rows[file * Rows.BYTES : (file + 1) * Rows.BYTES] = self.made.row(inode)

    def link_target(self, file: int) -> bytes | None:
        """Where a symbolic link leads; None: it is none."""
        return self.inode(file).target if self._rows[file * Rows.BYTES + 1] & 0xF0 == _LINK_KIND else None


def merge_layers(layers: Sequence[Iterable[FileMetadata]]) -> Tree:
    """Merge the entries of layers, the base first.

    Raises LayerInvalid, with the entry's name, for what cannot be unpacked either: a hard link to nothing, symbolic
    links in a circle above an entry, a name that no file system takes; and for more than ``MAX_ENTRIES``. What the
    iterables raise.
    """
    with _uncollected():
        merged, files_of_all = _Folder(), _Files()
        count = 0
        for number, files in enumerate(layers):
            layer = _Layer(number, merged, files_of_all)
            for each in files:
                count += 1
                if count > MAX_ENTRIES:
                    raise LayerInvalid(f"the image has more than {MAX_ENTRIES} files, and no more can be mounted")
                layer.add(each)
            layer.finish()
            _lay_over(merged, layer.root)
        return _written(merged, files_of_all, len(layers))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles, of which there are none here: for it is half of the time."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


class _Layer:
    """The tree of one layer alone."""

    def __init__(self, number: int, below: _Folder, files: _Files) -> None:
        self.root = _Folder()
        self._number, self._below, self._files = number, below, files
        self._last: tuple[bytes, _Folder] = (b"", self.root)
        self._raised: dict[bytes, int] = {}
        """Files of layers below that this one links to, by the path it names."""

    def add(self, entry: FileMetadata) -> None:
        """The next entry of the tar."""
        path = clean_path(entry.name)
        if not path:
            if entry.kind == b"dir":
                self.root.row = self._row(entry)
            return
        above, _, name = path.rpartition(b"/")
        if name.startswith(_AUFS) and name != _OPAQUE:
            return  # AUFS's own, as containerd takes them
        folder = self._folder(above, entry)
        if name == _OPAQUE:
            folder.opaque = True
        elif name.startswith(_WHITEOUT):
            folder.hide(name[len(_WHITEOUT) :])
        else:
            self._put(folder, name, entry)

    def _put(self, folder: _Folder, name: bytes, entry: FileMetadata) -> None:
        if len(name) > MAX_NAME_BYTES or b"\0" in name:
            raise _refused(entry, f"its name has {len(name)} bytes")
        there = folder.children.get(name)
        if entry.kind == b"dir":
            if isinstance(there, _Folder):
                there.row = self._row(entry)
                return
            made: _Folder | int = _Folder(self._row(entry))
        elif entry.kind == b"hardlink":
            made = self._linked(entry)
        elif entry.kind == b"char" and not entry.device_major and not entry.device_minor:
            folder.hide(name)
            folder.children.pop(name, None)
            self._forget()
            return
        else:
            made = self._files.add(self._row(entry))
        folder.children[name] = made
        if isinstance(there, _Folder) or entry.kind == b"symlink":
            self._forget()

    def _linked(self, entry: FileMetadata) -> int:
        target = clean_path(entry.link)
        above, _, name = target.rpartition(b"/")
        parent = self._existing(above, entry)
        file = parent.children.get(name) if parent else None
        if file is None and (file := self._raised.get(target)) is None:
            below = _find(self._below, target)
            if isinstance(below, int):
                file = self._raised[target] = self._files.add(self._files.row(below))
        if not isinstance(file, int):
            shown = entry.link[:200].decode("utf-8", "replace")
            raise _refused(entry, f"it is a hard link to {shown!r}, which is no file before it")
        own, there = self._inode(entry), self._files.inode(file)
        kind = stat.S_IFMT(there.mode)
        # A link has no mode of its own.
        mode = there.mode if kind == stat.S_IFLNK else kind | stat.S_IMODE(own.mode)
        xattrs = {**there.xattrs, **own.xattrs} if own.xattrs else there.xattrs
        changed = there._replace(mode=mode, uid=own.uid, gid=own.gid, mtime_ns=own.mtime_ns, xattrs=xattrs)
        self._files.change(file, changed)
        return file

    def finish(self) -> None:
        """After the last entry: files of layers below that were linked to stand in this one, too, unless it has
        something else there, or hides them."""
        for path, file in self._raised.items():
            folder: _Folder | int | None = self.root
            *above, name = path.split(b"/")
            for each in above:
                if not isinstance(folder, _Folder) or folder.opaque or each in (folder.gone or ()):
                    folder = None
                    break
                folder = folder.children.setdefault(each, _Folder())
            if isinstance(folder, _Folder) and not folder.opaque and name not in (folder.gone or ()):
                folder.children.setdefault(name, file)

    def _row(self, entry: FileMetadata) -> bytes:
        if entry.kind == b"reg" and not entry.records:
            mode, modified = stat.S_IFREG | entry.mode & 0o7777, _nanoseconds(entry.modified)
            return file_row(mode, entry.uid, entry.gid, modified, entry.size, self._number, entry.position)
        return self._files.made.row(self._inode(entry))

    def _inode(self, entry: FileMetadata) -> Inode:
        kind = _KIND_BITS.get(entry.kind, stat.S_IFREG)
        rights = 0o777 if kind == stat.S_IFLNK else entry.mode & 0o7777
        regular, device = kind == stat.S_IFREG, kind in (stat.S_IFCHR, stat.S_IFBLK)
        target = entry.link if kind == stat.S_IFLNK else b""
        return Inode(
            *(kind | rights, entry.uid, entry.gid, _nanoseconds(entry.modified)),
            _device(entry) if device else 0,
            1,
            entry.size if regular else FOLDER_BYTES if kind == stat.S_IFDIR else len(target),
            *((self._number, entry.position) if regular else (0, 0)),
            target,
            _xattrs(entry.records) if entry.records else _NO_XATTRS,
        )

    def _folder(self, path: bytes, entry: FileMetadata) -> _Folder:
        """Where an entry stands, made where it is not there; symbolic links of the layer are followed."""
        if path == self._last[0]:
            return self._last[1]
        found = self._walk(path, entry, make=True)
        assert found is not None  # noqa: S101 - it was made
        self._last = path, found
        return found

    def _existing(self, path: bytes, entry: FileMetadata) -> _Folder | None:
        return self._walk(path, entry, make=False)

    def _walk(self, path: bytes, entry: FileMetadata, *, make: bool) -> _Folder | None:
        way = [self.root]
        left = path.split(b"/")[::-1] if path else []
        links = 0
        while left:
            name = left.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                way = way[:-1] or way
                continue
            there = way[-1].children.get(name)
            if isinstance(there, int) and (target := self._files.link_target(there)) is not None:
                links += 1
                if links > MAX_LINKS:
                    raise _refused(entry, "symbolic links above it lead in a circle")
                if target.startswith(b"/"):
                    way = way[:1]
                left += target.split(b"/")[::-1]
                continue
            if not isinstance(there, _Folder):
                if not make:
                    return None
                if len(name) > MAX_NAME_BYTES or b"\0" in name or len(way) >= MAX_DEPTH:
                    raise _refused(entry, "a directory above it has a name that is too long, or there are too many")
                there = way[-1].children[name] = _Folder()
            way.append(there)
        return way[-1]

    def _forget(self) -> None:
        """Paths may lead elsewhere now."""
        self._last = b"", self.root


def _refused(entry: FileMetadata, why: str) -> LayerInvalid:
    name = entry.name[:200].decode("utf-8", "replace")
    return LayerInvalid(
        f"the image cannot be unpacked because of {name!r}: {why}", do="Build the layer again without such an entry"
    )


def _find(folder: _Folder, path: bytes) -> _Folder | int | None:
    found: _Folder | int | None = folder
    for name in path.split(b"/"):
        found = found.children.get(name) if isinstance(found, _Folder) else None
    return found


def _lay_over(below: _Folder, above: _Folder) -> None:
    """Merge the tree of a layer into what is below it."""
    waiting = [(below, above)]
    while waiting:
        lower, upper = waiting.pop()
        lower.row = upper.row or lower.row
        if upper.opaque:
            lower.children = {}
        for name in upper.gone or ():
            lower.children.pop(name, None)
        for name, child in upper.children.items():
            there = lower.children.get(name)
            if isinstance(child, _Folder) and isinstance(there, _Folder):
                waiting.append((there, child))
            else:
                lower.children[name] = child


def _written(root: _Folder, files: _Files, layers: int) -> Tree:
    """Numbers for what shows, breadth first."""
    links, numbers = files.links, files.numbers
    _count_links(root, links)
    writer = TreeWriter(layers, files.made)
    untold = files.made.row(_UNTOLD)
    number = writer.add_row(root.row or untold, _folder_links(root), 1)
    waiting, returned = [(root, number)], number
    while waiting:
        following: list[tuple[_Folder, int]] = []
        for folder, directory in waiting:
            children: list[tuple[bytes, int]] = []
            for name in sorted(folder.children):
                child = folder.children[name]
                if isinstance(child, _Folder):
                    number = writer.add_row(child.row or untold, _folder_links(child), directory)
                    following.append((child, number))
                elif not (number := numbers[child]):
                    number = numbers[child] = writer.add_row(files.row(child), links[child], directory)
                children.append((name, number))
            writer.children(directory, children)
            folder.children = {}
            if number > returned + _RETURN_EVERY:
                returned = number
                return_memory()  # the tree grows while its parts go
        waiting = following
    return writer.finish()


def _count_links(root: _Folder, links: array[int]) -> None:
    waiting = [root]
    while waiting:
        for child in waiting.pop().children.values():
            if isinstance(child, _Folder):
                waiting.append(child)
            else:
                links[child] += 1


def _folder_links(folder: _Folder) -> int:
    return 2 + sum(isinstance(child, _Folder) for child in folder.children.values())


_UNTOLD = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, FOLDER_BYTES, 0, 0, b"", _NO_XATTRS)


def _device(entry: FileMetadata) -> int:
    """Kernels have 12 bits for the first number and 20 for the second."""
    return os.makedev(entry.device_major & 0xFFF, entry.device_minor & 0xFFFFF)


def _xattrs(records: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
    names = ((key[len(_XATTR) :], value) for key, value in records if key.startswith(_XATTR))
    return {name: value for name, value in names if name and not name.startswith(b"trusted.")} or _NO_XATTRS


@lru_cache(_REMEMBERED)
def _nanoseconds(text: bytes) -> int:
    """Since 1970, of a time as tables have it; 0 for none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    zone = match[3].replace(b"Z", b"+00:00")
    try:
        seconds = int(datetime.fromisoformat((match[1] + zone).decode()).timestamp())
    except (ValueError, OverflowError):
        return 0
    found = seconds * 10**9 + int((match[2] or b"").ljust(9, b"0"))
    return found if 0 <= found <= _LAST_TIME_NS else 0


__all__ = ["merge_layers"]
