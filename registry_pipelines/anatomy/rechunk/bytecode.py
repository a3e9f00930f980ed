"""Compiled Python modules that name the time of their source (PEP 552, "Specification"): with one date for all files
they would be out of date, and every start would compile.

A module that is up to date in the image becomes "unchecked hash-based": Python loads it without a look at the source,
as it did. One that is out of date stays so. One of a Python before 3.7, or of another interpreter, cannot be changed:
there the source keeps its time.
"""

from __future__ import annotations

import _imp
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.anatomy.rechunk.merged import Merged
from registry_pipelines.anatomy.rechunk.tree_digest import is_bytecode
from registry_pipelines.build.entries import FIXED_TIME

_FIRST_WITH_FLAGS, _LAST_MAGIC = 3394, 19999
"""Magic numbers of CPython 3.7 and of those to come; PyPy's and Python 2's lie outside."""

_FIRST_SIPHASH_13 = 3495
"""CPython 3.11's. Older ones hash sources with SipHash-2-4, which nothing here has; nothing reads an unchecked module's
hash but ``--check-hash-based-pycs always``, which then compiles."""

_UNCHECKED, _CHECKED = (1).to_bytes(4, "little"), (3).to_bytes(4, "little")
_NO_HASH = bytes(8)
_NS = 10**9
_FOLDER = b"__pycache__"


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


def plan_bytecode(merged: Merged) -> Bytecode:
    """What to do with the compiled modules of an image whose files all get one date."""
    plan = Bytecode()
    for path, number in merged.paths():
        if path.endswith(b".pyc"):
            _plan(merged, path, number, plan)
    return plan


def _plan(merged: Merged, path: bytes, number: int, plan: Bytecode) -> None:
    inode = merged.tree.node(number)
    content = merged.content(inode)
    folder, _, base = path.rpartition(b"/")
    above, _, cache = folder.rpartition(b"/")
    if not stat.S_ISREG(inode.mode) or not is_bytecode(path, content) or cache != _FOLDER:
        return  # one beside its source is read only where there is no source, whatever it says
    source = merged.tree.find((above + b"/" if above else b"") + base.partition(b".")[0] + b".py")
    if source is None:
        return
    there = merged.tree.node(source)
    magic, flags, time, size = (content.bytecode[at : at + 4] for at in (0, 4, 8, 12))
    rewritable = _FIRST_WITH_FLAGS <= int.from_bytes(magic[:2], "little") <= _LAST_MAGIC
    if not stat.S_ISREG(there.mode) or (rewritable and any(flags)):
        return
    if not rewritable:
        plan.kept_times.add(source)
    elif time == _u32(there.mtime_ns // _NS) and size == _u32(there.size):
        plan.rewrites[number] = Rewrite(magic, source)
    elif time == _u32(FIXED_TIME):
        plan.rewrites[number] = Rewrite(magic, None)


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
