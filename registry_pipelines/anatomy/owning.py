"""Which package a file is of: by RECORD (wheels), conda's and npm's metadata, and the distribution's own lists."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from registry_pipelines.scan.facts import (
    CondaPackage,
    Names,
    NpmPackage,
    OsDatabase,
    OwnedFiles,
    PythonDistribution,
    StandardLibrary,
    WheelRecord,
)
from registry_pipelines.scan.merge import Tree

_BYTECODE = "__pycache__"


class Owners:
    """Asks by path. What a language's package manager lists comes before the distribution's list: it was installed
    over it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folders: dict[str, dict[str, tuple[str, ...]]] = {}
        self._npm: dict[str, str] = {}
        self.interpreters = {
            tree.real_folder(posixpath.dirname(path))
            for path, fact in tree.facts.items()
            if isinstance(fact, StandardLibrary)
        }
        """Folders of the standard libraries of Python."""
        for owner, names in _lists(tree):
            self._add(owner, names)
        for path, fact in tree.facts.items():
            if isinstance(fact, NpmPackage):
                self._npm[tree.real_folder(posixpath.dirname(path))] = f"npm {fact.name} {fact.version}".rstrip()
            elif isinstance(fact, OsDatabase):
                for package, paths in fact.owned:
                    for each in paths:
                        self._put(tree.real(each), f"{fact.manager} {package}")

    def of(self, path: str) -> tuple[str, ...]:
        """The packages that list a file, the one that counts first."""
        folder, _, base = self._tree.real(path).rpartition("/")
        if found := self._folders.get(folder, {}).get(base):
            return found
        if posixpath.basename(folder) == _BYTECODE:
            source = f"{base.partition('.')[0]}.py"
            if found := self._folders.get(posixpath.dirname(folder), {}).get(source):
                return found
        return self._npm_owner(folder)

    def _npm_owner(self, folder: str) -> tuple[str, ...]:
        while folder and "node_modules" in folder:
            if folder in self._npm:
                return (self._npm[folder],)
            folder = posixpath.dirname(folder)
        return ()

    def _add(self, owner: str, names: Names) -> None:
        for folder, text in names.items():
            real = self._tree.real_folder(folder)
            below = self._folders.setdefault(real, {})
            for base in text.split("/"):
                known = below.get(base, ())
                if owner not in known:
                    below[base] = (*known, owner)

    def _put(self, path: str, owner: str) -> None:
        """In place of the bare name of its manager."""
        folder, _, base = path.rpartition("/")
        below = self._folders.setdefault(folder, {})
        manager = owner.partition(" ")[0]
        known = tuple(each for each in below.get(base, ()) if each != manager and each != owner)
        below[base] = (*known, owner)


def _lists(tree: Tree) -> Iterator[tuple[str, Names]]:
    """Package and its files: wheels, then conda, then the distribution's."""
    facts = tree.facts
    for path, fact in facts.items():
        if isinstance(fact, WheelRecord):
            about = facts.get(f"{posixpath.dirname(path)}/METADATA")
            if isinstance(about, PythonDistribution):
                yield f"python {about.name} {about.version}", fact.names
    for fact in facts.values():
        if isinstance(fact, CondaPackage):
            yield f"conda {fact.name} {fact.version}", fact.names
    installed = {package.name for fact in facts.values() if isinstance(fact, OsDatabase) for package in fact.packages}
    for fact in facts.values():
        if isinstance(fact, OwnedFiles) and fact.package in installed:
            yield f"deb {fact.package}", fact.names
        elif isinstance(fact, OsDatabase) and fact.names:
            yield fact.manager, fact.names
