"""The layers on each other, as far as a dynamic loader looks (image-spec 1.1, layer.md, "Applying Changesets")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from registry_pipelines.build.elf import read_cache
from registry_pipelines.oci.elf import ElfFacts
from registry_pipelines.oci.layer.linkage import LayerLinks

MAX_LINK_HOPS = 40
"""Symbolic links followed for one path (Linux, ``path_resolution(7)``)."""


class Root:
    """ELF files by their real path, without a leading slash, and what else decides where libraries are found."""

    def __init__(self, layers: Sequence[LayerLinks | None]) -> None:
        """layers: base first; None is one that nobody could read."""
        self.files: dict[str, ElfFacts] = {}
        self.layer: dict[str, int] = {}
        """Which layer, from 0, brought each of ``files``."""
        self.settings: dict[str, str] = {}
        self.cache: dict[str, list[str]] | None = None
        """Library to paths in the loader's cache, without leading slashes; None: there is no cache."""
        self.owners: dict[str, dict[str, str]] = {}
        """Real path of a library to the wheels whose RECORD has it, each with the hash there."""
        self.problems: list[str] = []
        self._links: dict[str, str] = {}
        self._known: dict[str, str] = {}
        """Real folders, until a link changes."""
        self._parents: set[str] = set()
        """Folders that have, or had, files somewhere below them."""
        for number, layer in enumerate(layers):
            if layer is None:
                self.problems.append(f"layer {number + 1} was not read")
            else:
                self._add(number, layer)

    def _add(self, number: int, layer: LayerLinks) -> None:
        self._hide([*layer.removed], [*layer.removed, *layer.opaque])
        for path in layer.others:
            self._drop(self.real(path))
        for path, target in layer.links.items():
            real = self.real(path)
            if real in self.files or real in self._parents:
                self._hide([real], [real])
            self._links[real] = target
            self._known.clear()
        for path, facts in layer.files.items():
            self._put(number, self.real(path), facts)
        for path, target in layer.same.items():
            found = self.resolve(target)
            if found:
                self._put(number, self.real(path), self.files[found])
        for path, text in layer.settings.items():
            self.settings[self.real(path)] = text
        if layer.cache is not None:
            known = read_cache(layer.cache)
            self.cache = {name: [str(path).lstrip("/") for path in paths] for name, paths in known.items()}
        for wheel, paths in layer.owners.items():
            for path, digest in paths.items():
                self.owners.setdefault(self.real(path), {})[wheel] = digest
        if layer.problem:
            self.problems.append(f"layer {number + 1}: {layer.problem}")

    def _put(self, number: int, real: str, facts: ElfFacts) -> None:
        self._unlink(real)
        self.files[real], self.layer[real] = facts, number
        while (real := real.rpartition("/")[0]) and real not in self._parents:
            self._parents.add(real)

    def _unlink(self, real: str) -> None:
        if self._links.pop(real, None) is not None:
            self._known.clear()

    def _drop(self, real: str) -> None:
        self.files.pop(real, None)
        self._unlink(real)

    def _hide(self, paths: Iterable[str], folders: Iterable[str]) -> None:
        """Take away what stands at paths, and below folders."""
        gone = set(map(self.real, paths))
        below = {self.real_folder(folder) for folder in folders}
        for known in (self.files, self._links, self.settings, self.owners):
            for path in [path for path in known if path in gone or _is_below(path, below)]:
                known.pop(path)
        self._known.clear()

    def real(self, path: str) -> str:
        """The path with the links in its folders followed."""
        folder, slash, base = path.rpartition("/")
        return f"{self.real_folder(folder)}/{base}".lstrip("/") if slash else path

    def real_folder(self, folder: str) -> str:
        """A folder with all links on its way followed, and without ``.`` and ``..``; the root is empty."""
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = self._follow(folder)
        return known

    def _follow(self, folder: str) -> str:
        done: list[str] = []
        todo, hops = folder.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
            elif part not in ("", "."):
                target = self._links.get("/".join([*done, part]))
                if target is None or hops >= MAX_LINK_HOPS:
                    done.append(part)
                    continue
                hops += 1
                done = [] if target.startswith("/") else done
                todo.extend(target.split("/")[::-1])
        return "/".join(done)

    def resolve(self, path: str) -> str:
        """The real path of the ELF file that a path leads to; empty when it leads to none."""
        real = self.real(path)
        if real in self._links:
            real = self.real_folder(real)
        return real if real in self.files else ""


def _is_below(path: str, folders: set[str]) -> bool:
    if "" in folders:
        return True
    while path := path.rpartition("/")[0]:
        if path in folders:
            return True
    return False
