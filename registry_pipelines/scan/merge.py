"""Layers on top of each other: what is left of their facts (image-spec 1.1, layer.md, "Applying Changesets")."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.facts import AnyFact, HardLink, LayerContent, OsDatabase, Unreadable
from registry_pipelines.scan.names import sizes, with_sizes

MAX_LINK_HOPS = 40
"""Symbolic links followed for one path (Linux, ``path_resolution(7)``)."""


@dataclass
class Tree:
    """The merged image, as far as facts go."""

    facts: dict[str, AnyFact] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    """Which layer, from 0 for the base, brought what is known of each path."""
    databases: dict[str, list[tuple[int, OsDatabase]]] = field(default_factory=dict)
    """Every edition of each database of packages that the image has, the topmost last."""
    files: dict[str, str] = field(default_factory=dict)
    """All regular files, as ``LayerContent`` has them."""
    parents: set[str] = field(default_factory=set)
    """Folders that have, or had, regular files somewhere below them; as far as they were asked for."""
    new_folders: list[str] = field(default_factory=list)
    """Those whose parents are not among ``parents`` yet."""
    more_files: int = 0
    """Files that no layer's list had room for."""
    more_bytes: int = 0
    digests: tuple[Digest, ...] = ()
    """Of the layers, base first; empty: not known."""
    escapes: set[str] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)
    """Why the rest of a layer was not looked at, one for each such layer."""
    _folders: dict[str, str] = field(default_factory=dict)

    def real(self, path: str) -> str:
        """The path with symbolic links in its folders followed (``lib/x`` is ``usr/lib/x`` after the usr merge)."""
        folder, slash, base = path.rpartition("/")
        if not slash:
            return path
        real_folder = self._folders.get(folder)
        if real_folder is None:
            real_folder = self._folders[folder] = self._follow(folder)
        return f"{real_folder}/{base}" if real_folder else base

    def real_folder(self, folder: str) -> str:
        """A folder with all symbolic links on its way followed; the root is empty."""
        return self.real(f"{folder}/").rstrip("/") if folder else ""

    def layer_of(self, number: int | None) -> Digest | None:
        """The digest of a layer by its place."""
        return self.digests[number] if number is not None and number < len(self.digests) else None

    def forget_folders(self) -> None:
        """To be called when ``links`` changed after :meth:`real` was asked."""
        self._folders.clear()

    def _follow(self, folder: str) -> str:
        done: list[str] = []
        todo = folder.split("/")[::-1]
        hops = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            if part in ("", "."):
                continue
            target = self.links.get("/".join([*done, part]))
            if target is None:
                done.append(part)
                continue
            hops += 1
            if hops > MAX_LINK_HOPS:
                return folder
            if target.startswith("/"):
                done = []
            todo.extend(target.split("/")[::-1])
        return "/".join(done)


def merge_layers(layers: Sequence[LayerContent], digests: Sequence[Digest] = ()) -> Tree:
    """Apply layers, base first. A layer's whiteouts hide lower layers only, wherever they stand in the layer. digests:
    of the same layers, for who wants to know which one brought something."""
    tree = Tree(digests=tuple(digests))
    for number, layer in enumerate(layers):
        _hide(tree, layer)
        tree.links.update(layer.links)
        for path in layer.facts:
            tree.links.pop(path, None)
        for path, fact in layer.facts.items():
            known = tree.facts[path] = _linked(tree, fact)
            tree.layers[path] = number
            if isinstance(known, OsDatabase):
                tree.databases.setdefault(path, []).append((number, known))
        _add_files(tree, layer)
        tree.escapes.update(layer.escapes)
        tree.cut += [layer.cut] if layer.cut else []
    tree.escapes &= tree.links.keys()
    return tree


def _add_files(tree: Tree, layer: LayerContent) -> None:
    tree.more_files += layer.more_files
    tree.more_bytes += layer.more_bytes
    for folder, text in layer.files.items():
        below = tree.files.get(folder)
        tree.files[folder] = text if below is None else with_sizes(sizes(below) | sizes(text))
        if below is None:
            tree.new_folders.append(folder)


def _add_parents(tree: Tree) -> None:
    for folder in tree.new_folders:
        while folder and folder not in tree.parents:
            tree.parents.add(folder)
            folder = folder.rpartition("/")[0]
    tree.new_folders.clear()


def _hide_files(tree: Tree, gone: Iterable[str], hidden_folders: set[str]) -> None:
    """The same for what is only counted. What was written through a symbolic link is gone with it here."""
    if hidden_folders and tree.files:
        _add_parents(tree)
    hidden = {folder for folder in hidden_folders if not folder or folder in tree.parents}
    if hidden:
        for folder in [each for each in tree.files if each in hidden or _is_below(each, hidden)]:
            del tree.files[folder]
    by_folder: dict[str, list[str]] = {}
    for path in gone:
        folder, _, base = path.rpartition("/")
        if folder in tree.files:
            by_folder.setdefault(folder, []).append(base)
    for folder, bases in by_folder.items():
        there = sizes(tree.files[folder])
        count = len(there)
        for base in bases:
            there.pop(base, None)
        if not there:
            del tree.files[folder]
        elif len(there) < count:
            tree.files[folder] = with_sizes(there)


def _hide(tree: Tree, layer: LayerContent) -> None:
    """Remove what whiteouts, opaque folders and things of another kind at the same path hide."""
    no_folders = {*layer.removed, *layer.links}
    hidden_folders = {*no_folders, *layer.opaque, *layer.facts}
    gone = {*no_folders, *layer.folders}
    tree.forget_folders()
    _hide_files(tree, gone, {*no_folders, *layer.opaque})
    hidden = [path for path in tree.facts if path in gone or _is_below(path, hidden_folders)]
    for path in hidden:
        fact, real = tree.facts.pop(path), tree.real(path)
        # What was written through a symbolic link is not gone with the link.
        stays = path not in gone and real != path and real not in gone and not _is_below(real, hidden_folders)
        if stays and tree.facts.setdefault(real, fact) is fact:
            tree.layers[real] = tree.layers[path]
    for path in [path for path in tree.links if path in gone or _is_below(path, hidden_folders)]:
        del tree.links[path]
    tree.forget_folders()


def _is_below(path: str, folders: Iterable[str]) -> bool:
    if "" in folders:
        return True
    while path := posixpath.dirname(path):
        if path in folders:
            return True
    return False


def _linked(tree: Tree, fact: AnyFact) -> AnyFact:
    if not isinstance(fact, HardLink):
        return fact
    target = tree.facts.get(fact.target)
    if target is None or isinstance(target, HardLink):
        return Unreadable(reason=f"it is a hard link to {fact.target}, which was not read")
    return target
