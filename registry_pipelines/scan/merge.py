"""Layers on top of each other: what is left of their facts (image-spec 1.1, layer.md, "Applying Changesets")."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from registry_pipelines.scan.facts import AnyFact, HardLink, LayerContent, Unreadable

MAX_LINK_HOPS = 40
"""Symbolic links followed for one path (Linux, ``path_resolution(7)``)."""


@dataclass
class Tree:
    """The merged image, as far as facts go."""

    facts: dict[str, AnyFact] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
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


def merge_layers(layers: Sequence[LayerContent]) -> Tree:
    """Apply layers, base first. A layer's whiteouts hide lower layers only, wherever they stand in the layer."""
    tree = Tree()
    for layer in layers:
        _hide(tree, layer)
        tree.links.update(layer.links)
        for path in layer.facts:
            tree.links.pop(path, None)
        for path, fact in layer.facts.items():
            tree.facts[path] = _linked(tree, fact)
        tree.escapes.update(layer.escapes)
        tree.cut += [layer.cut] if layer.cut else []
    tree.escapes &= tree.links.keys()
    return tree


def _hide(tree: Tree, layer: LayerContent) -> None:
    """Remove what whiteouts, opaque folders and things of another kind at the same path hide."""
    no_folders = {*layer.removed, *layer.links}
    hidden_folders = {*no_folders, *layer.opaque, *layer.facts}
    gone = {*no_folders, *layer.folders}
    tree.forget_folders()
    hidden = [path for path in tree.facts if path in gone or _is_below(path, hidden_folders)]
    for path in hidden:
        fact, real = tree.facts.pop(path), tree.real(path)
        # What was written through a symbolic link is not gone with the link.
        if path not in gone and real != path and real not in gone and not _is_below(real, hidden_folders):
            tree.facts.setdefault(real, fact)
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
