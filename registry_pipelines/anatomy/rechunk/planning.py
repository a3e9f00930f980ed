"""What each layer of a rechunked image holds, and the key that says so before a byte is read."""

from __future__ import annotations

import hashlib
import stat
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from registry_pipelines.anatomy.advice import FILE_KINDS
from registry_pipelines.anatomy.classes import class_of
from registry_pipelines.anatomy.owning import Owners
from registry_pipelines.anatomy.reading import ReadLayer
from registry_pipelines.anatomy.rechunk.bytecode import Bytecode, plan_bytecode
from registry_pipelines.anatomy.rechunk.layouts import package_of, plan_layout
from registry_pipelines.anatomy.rechunk.merged import Merged
from registry_pipelines.anatomy.rechunk.model import Dropped, Layout, LayoutLayer, RechunkOptions
from registry_pipelines.anatomy.rechunk.tree_digest import tree_line
from registry_pipelines.build.entries import FIXED_TIME
from registry_pipelines.build.splice import CODEC
from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text
from registry_pipelines.stream.lazy.tree import ROOT, Inode

VERSION = 1
"""Part of every layer's key: raised when the same files make another layer than before."""

LARGE_FILE_BYTES = 128 * 1024
"""Larger files are compressed by themselves when they are read, and smaller ones with their layer: together they are
10 % smaller, and there are few bytes of them."""

SEGMENT_BYTES = 4 * 1024 * 1024
"""Of a large file, compressed at once, so that all cores share in one file; each begins with what the one before ended
with, as pigz does it."""

EXAMPLES = 3
_NS = 10**9
_TOP = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, 0, 0, 0, b"", {})


class PlannedEntry(NamedTuple):
    """One entry of a layer's tar. path: empty for the top."""

    path: bytes
    number: int
    first: bytes
    """Of a file with several names: the name it was first given, in the same layer."""


@dataclass
class PlannedLayer:
    """One layer."""

    layer: LayoutLayer
    entries: list[PlannedEntry]
    key: str = ""


@dataclass
class Plan:
    """An image."""

    merged: Merged
    layers: list[PlannedLayer]
    layout: Layout
    bytecode: Bytecode
    without: set[bytes]
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keeps_times: bool = False

    def mtime_ns(self, number: int, inode: Inode) -> int:
        """What a layer says of a file's time."""
        kept = self.keeps_times or number in self.bytecode.kept_times
        return inode.mtime_ns if kept else FIXED_TIME * _NS


Weights = Collection[tuple[int, int]]
"""Files with weights: the layer, from 0 for the base, and where in its tar the content begins."""


def plan_image(
    merged: Merged, owners: Owners, options: RechunkOptions, previous: Layout | None, weights: Weights
) -> Plan:
    """Decide where every file goes. weights: as ``weights_of`` finds them."""
    bytecode = Bytecode() if options.times == "keep" else plan_bytecode(merged)
    dropped = _caches(merged) if "caches" in options.drop else {}
    if "weights" in options.drop and (paths := _weights(merged, weights, dropped)):
        dropped["baked-weights"] = paths
    plan = Plan(merged, [], Layout(), bytecode, {path for paths in dropped.values() for path in paths})
    plan.keeps_times = options.times == "keep"
    used = {number for path, number in merged.paths() if path not in plan.without} if dropped else set()
    plan.dropped = [_dropped(merged, kind, paths, used) for kind, paths in sorted(dropped.items())]
    packages, sizes = _packages(plan, owners)
    plan.layout = plan_layout(sizes, previous)
    layer_of = {package: at for at, layer in enumerate(plan.layout.layers) for package in layer.packages}
    members: list[list[PlannedEntry]] = [[] for _ in plan.layout.layers]
    for package, entries in packages.items():
        members[layer_of[package]] += entries
    for layer, entries in zip(plan.layout.layers, members, strict=True):
        planned = PlannedLayer(layer, _with_folders(plan, entries))
        planned.key = _key(plan, planned)
        plan.layers.append(planned)
    return plan


def _caches(merged: Merged) -> dict[str, list[bytes]]:
    """What lies in caches of package managers, by the kind of advice; folders stay."""
    kinds = [kind for kind in FILE_KINDS if kind.name.endswith("-cache")]
    found: dict[str, list[bytes]] = defaultdict(list)
    for path, _, inode in merged.nodes():
        if not stat.S_ISDIR(inode.mode):
            text = path.decode("utf-8", "surrogateescape")
            kind = next((kind.name for kind in kinds if kind.path.search(text)), None)
            if kind:
                found[kind].append(path)
    return found


def _weights(merged: Merged, weights: Weights, caches: Mapping[str, Sequence[bytes]]) -> list[bytes]:
    """All names of files with weights, but for those in caches that go anyway."""
    known = {path for paths in caches.values() for path in paths}
    found = []
    for path, _, inode in merged.nodes():
        if stat.S_ISREG(inode.mode) and (inode.layer, inode.position) in weights and path not in known:
            found.append(path)
    return found


def weights_of(read: Sequence[ReadLayer], options: RechunkOptions) -> set[tuple[int, int]]:
    """Where files with weights are in the layers of an image, where they are to be left out. Raises InputError: not all
    of a layer was looked at, so that some may stay."""
    if "weights" not in options.drop:
        return set()
    for each in read:
        if each.content is None or each.content.cut or each.content.more_weights:
            raise InputError(
                "it holds too much to be looked at as a whole, so weights might stay in it",
                where=str(each.descriptor.digest),
                do="Leave them out where the image is built; `weights find` lists those that were found",
            )
    return {(at, found.position) for at, each in enumerate(read) if each.content for found in each.content.weights}


def _dropped(merged: Merged, kind: str, paths: Sequence[bytes], used: Collection[int]) -> Dropped:
    """used: numbers of what has a name that stays; a hard link less to it saves no bytes."""
    numbers = {number for number in map(merged.tree.find, paths) if number and number not in used}
    inodes = [merged.tree.node(number) for number in numbers]
    return Dropped(
        kind=kind,
        files=len(paths),
        size=sum(each.size for each in inodes if stat.S_ISREG(each.mode)),
        examples=tuple(path.decode("utf-8", "backslashreplace") for path in paths[:EXAMPLES]),
    )


def _packages(plan: Plan, owners: Owners) -> tuple[dict[str, list[PlannedEntry]], dict[str, int]]:
    """Everything but folders that hold something, by package; and unpacked bytes of each."""
    tree = plan.merged.tree
    packages: dict[str, list[PlannedEntry]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    of_links: dict[int, tuple[str, bytes]] = {}
    shared: list[str] = []
    torn = 0
    folders: dict[bytes, int] = {}
    held: set[bytes] = set()
    for path, number, inode in plan.merged.nodes():
        if path in plan.without or number == ROOT:
            continue
        if stat.S_ISDIR(inode.mode):
            folders[path] = number
            continue
        _hold(held, path)
        package, size, is_shared = _package(owners, path, inode)
        if is_shared:
            shared.append(path.decode("utf-8", "replace"))
        if inode.nlink > 1:
            of_first, first = of_links.setdefault(number, (package, path))
            torn += of_first != package
            packages[of_first].append(PlannedEntry(path, number, first))
            sizes[of_first] += size if first == path else 0
            continue
        packages[package].append(PlannedEntry(path, number, b""))
        sizes[package] += size
    for path in (path for path in folders if path not in held):
        package, size, is_shared = _package(owners, path, tree.node(folders[path]))
        if is_shared:
            shared.append(path.decode("utf-8", "replace"))
        packages[package].append(PlannedEntry(path, folders[path], b""))
        sizes[package] += size
    _note(plan, shared, torn)
    return packages, sizes


def _note(plan: Plan, shared: Sequence[str], torn: int) -> None:
    if shared:
        names = ", ".join(shared[:3])
        files = count_text(len(shared), "file")
        plan.notes.append(f"{files} of several packages went with the one that was installed last: {names}")
    if torn:
        plan.notes.append(
            f"{count_text(torn, 'hard link')} of one package to a file of another went with that file, because a link "
            "cannot leave its layer"
        )
    if plan.bytecode.kept_times:
        count = len(plan.bytecode.kept_times)
        plan.notes.append(
            f"{count_text(count, 'Python source')} kept the time, which compiled modules compare that "
            "stay as they are: of interpreters without PEP 552, or with several names"
        )


def _package(owners: Owners, path: bytes, inode: Inode) -> tuple[str, int, bool]:
    """Whose a file is, its bytes, and whether several say that it is theirs."""
    text = path.decode("utf-8", "surrogateescape")
    found = owners.of(text)
    size = inode.size if stat.S_ISREG(inode.mode) else 0
    owner = found[0] if found else ""
    return package_of(owner, class_of(text, size, owner, owners.interpreters), text), size, len(found) > 1


def _hold(held: set[bytes], path: bytes) -> None:
    """The folders above a file: layers have them with what stands below."""
    above = path.rpartition(b"/")[0]
    while above and above not in held:
        held.add(above)
        above = above.rpartition(b"/")[0]


def _with_folders(plan: Plan, entries: Sequence[PlannedEntry]) -> list[PlannedEntry]:
    """The entries with all folders above them, as they are in the image: Docker makes those that a layer lacks with
    root as owner, and hides so what they were below. In the order of the tree."""
    tree = plan.merged.tree
    folders: dict[bytes, int] = {}
    own = {each.path for each in entries}  # a folder that holds empty ones alone is an entry, too; Docker takes no twin
    for each in entries:
        above = each.path.rpartition(b"/")[0]
        while above and above not in folders:
            number = tree.find(above)
            assert number is not None  # noqa: S101 - what stands in the tree has folders
            folders[above] = number
            above = above.rpartition(b"/")[0]
    if _is_told(tree.node(ROOT)):
        folders[b""] = ROOT
    every = [*entries, *(PlannedEntry(path, number, b"") for path, number in folders.items() if path not in own)]
    return sorted(every, key=lambda each: each.path.split(b"/") if each.path else [])


def _is_told(top: Inode) -> bool:
    """Whether the top directory is another one than runtimes make."""
    return (top.mode, top.uid, top.gid, top.xattrs) != (_TOP.mode, _TOP.uid, _TOP.gid, _TOP.xattrs)


def _key(plan: Plan, planned: PlannedLayer) -> str:
    """What a layer's bytes depend on: its files with their contents, and what makes it."""
    merged, hasher = plan.merged, hashlib.sha256(f"{VERSION} {CODEC} {LARGE_FILE_BYTES} {SEGMENT_BYTES}\n".encode())
    for path, number, first in planned.entries:
        inode = merged.tree.node(number)
        content = merged.content(inode) if stat.S_ISREG(inode.mode) else None
        hasher.update(tree_line(path, inode, content, first))
        hasher.update(b"%d " % plan.mtime_ns(number, inode))
        rewrite = plan.bytecode.rewrites.get(number)
        if rewrite is not None:
            source = merged.tree.node(rewrite.source) if rewrite.source else None
            hasher.update(b"rewritten " + (merged.content(source).sha256 if source else b"stale"))
        elif content is not None:
            hasher.update(content.sha256)
        hasher.update(b"\n")
    return f"rechunk {hasher.hexdigest()}"


def first_names(entries: Collection[PlannedEntry]) -> Mapping[int, bytes]:
    """Files of a layer by number: where each stands with its content."""
    return {each.number: each.path for each in entries if not each.first or each.first == each.path}
