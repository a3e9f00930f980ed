"""Compiled Python modules that name the time of their source (PEP 552, "Specification"): with one date for all files
they would be out of date, and every start would compile.

A module that is up to date in the image becomes "unchecked hash-based": Python loads it without a look at the source,
as it did. One that is out of date stays so. One of a Python before 3.7, or of another interpreter, cannot be changed:
there the source keeps its time.
"""

from __future__ import annotations

import _imp
import posixpath
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.anatomy.rechunk.merged import Merged
from registry_pipelines.anatomy.rechunk.tree_digest import is_bytecode
from registry_pipelines.build.entries import FIXED_TIME
from registry_pipelines.stream.lazy.tree import ROOT, Tree

_FIRST_WITH_FLAGS, _LAST_MAGIC = 3394, 19999
"""Magic numbers of CPython 3.7 and of those to come; PyPy's and Python 2's lie outside."""

_FIRST_SIPHASH_13 = 3495
"""CPython 3.11's. Older ones hash sources with SipHash-2-4, which nothing here has; nothing reads an unchecked module's
hash but ``--check-hash-based-pycs always``, which then compiles."""

_UNCHECKED, _CHECKED = (1).to_bytes(4, "little"), (3).to_bytes(4, "little")
_NO_HASH = bytes(8)
_NS = 10**9
_FOLDER = b"__pycache__"
_MAX_LINKS = 40
"""The kernel follows as many."""


class Rewrite(NamedTuple):
    """A module that gets another head. source: number of its source in the tree; None: it only stays out of date."""

    magic: bytes
    source: int | None


@dataclass
class Bytecode:
    """By numbers of the tree."""

    rewrites: dict[int, Rewrite] = field(default_factory=dict)
    kept_times: set[int] = field(default_factory=set)
    """Sources that keep their time."""


class _Module(NamedTuple):
    """What one name of a compiled module says."""

    magic: bytes
    source: int | None
    """Number of the file that it was compiled of; None: a symbolic link that is not followed here."""
    is_fresh: bool
    """Whether it is of that very file."""
    has_fixed_time: bool
    """Whether it would be up to date as soon as its source has the one date."""


def plan_bytecode(merged: Merged) -> Bytecode:
    """What to do with the compiled modules of an image whose files all get one date.

    A module with several names (hard links) has one head for all: where these do not agree, or one of them is no
    compiled module, it stays as it is, and its sources keep their time.
    """
    plan = Bytecode()
    linked: dict[int, list[_Module]] = defaultdict(list)
    names = _Names(merged.tree)
    for path, number in merged.paths():
        module = _module(merged, names, path, number) if path.endswith(b".pyc") else None
        if module is None:
            continue
        if merged.tree.node(number).nlink > 1:
            linked[number].append(module)
        else:
            _settle(plan, number, module)
    for number, modules in linked.items():
        if len(modules) == merged.tree.node(number).nlink and len(set(modules)) == 1:
            _settle(plan, number, modules[0])
        else:
            plan.kept_times |= {each.source for each in modules if each.source is not None}
    return plan


class _Names:
    """Looks for names in folders; the modules of one folder stand behind each other."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folder: tuple[bytes, int | None] = (b"", ROOT)

    def find(self, folder: bytes, name: bytes) -> int | None:
        if folder != self._folder[0]:
            self._folder = folder, self._tree.find(folder)
        number = self._folder[1]
        return self._tree.lookup(number, name) if number is not None else None


def _module(merged: Merged, names: _Names, path: bytes, number: int) -> _Module | None:
    """None for what Python does not compare with a source."""
    inode = merged.tree.node(number)
    content = merged.content(inode)
    folder, _, base = path.rpartition(b"/")
    above, _, cache = folder.rpartition(b"/")
    if not stat.S_ISREG(inode.mode) or cache != _FOLDER:
        return None  # one beside its source is read only where there is no source, whatever it says
    is_unknown = not content.bytecode and inode.nlink > 1  # its first name in the layer is another one
    if not is_unknown and not is_bytecode(path, content):
        return None
    magic, flags, time, size = (content.bytecode[at : at + 4] for at in (0, 4, 8, 12))
    name = base.partition(b".")[0] + b".py"
    found = names.find(above, name)
    if found is None or (_is_rewritable(magic) and any(flags)):
        return None
    source = _followed(merged, above + b"/" + name if above else name, found)
    there = merged.tree.node(source) if source is not None else None
    if there is not None and not stat.S_ISREG(there.mode):
        return None
    fresh = there is not None and time == _u32(there.mtime_ns // _NS) and size == _u32(there.size)
    return _Module(magic, source, fresh, time == _u32(FIXED_TIME))


def _settle(plan: Bytecode, number: int, module: _Module) -> None:
    if not _is_rewritable(module.magic):
        plan.kept_times |= {module.source} if module.source is not None else set()
    elif module.is_fresh:
        plan.rewrites[number] = Rewrite(module.magic, module.source)
    elif module.has_fixed_time:
        plan.rewrites[number] = Rewrite(module.magic, None)


def _is_rewritable(magic: bytes) -> bool:
    return _FIRST_WITH_FLAGS <= int.from_bytes(magic[:2], "little") <= _LAST_MAGIC


def _followed(merged: Merged, path: bytes, number: int | None) -> int | None:
    """The number of what a path leads to; None where a link leads through other links, in a circle or to nothing.
    number: what stands at the path."""
    for _ in range(_MAX_LINKS):
        if number is None or not stat.S_ISLNK(merged.tree.node(number).mode):
            return number
        target = merged.tree.node(number).target
        if b".." in target.lstrip(b"./").split(b"/"):
            return None
        path = posixpath.normpath(b"/" + posixpath.join(path.rpartition(b"/")[0], target)).lstrip(b"/")
        number = merged.tree.find(path)
    return None


def hashes_source(rewrite: Rewrite) -> bool:
    """Whether the source has to be read for it."""
    return rewrite.source is not None and int.from_bytes(rewrite.magic[:2], "little") >= _FIRST_SIPHASH_13


def source_hash(magic: bytes, source: bytes) -> bytes:
    """The hash of a source as the Python with this magic number makes it: 8 bytes."""
    return _imp.source_hash(int.from_bytes(magic, "little"), source)


def new_head(rewrite: Rewrite, hashed: bytes) -> bytes:
    """The 16 bytes that a module begins with. hashed: its source; empty where that was not read."""
    if rewrite.source is None:
        return rewrite.magic + _CHECKED + _NO_HASH
    return rewrite.magic + _UNCHECKED + (hashed or _NO_HASH)


def _u32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")
