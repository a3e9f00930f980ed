"""Which package a file belongs to: of the distribution, whose advisories and backports then stand for it, or of another
list of packages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry_pipelines.scan.facts import (
    CondaPackage,
    NpmPackage,
    OsDatabase,
    OsPackage,
    OwnedFiles,
    PythonDistribution,
    StandardLibrary,
)
from registry_pipelines.scan.merge import Tree
from registry_pipelines.scan.ownership import agrees

_DISTRIBUTION_MAINTAINER = re.compile(
    r"@(?:[a-z0-9-]+\.)*(?:debian\.org|ubuntu\.com|debian\.net)>?\s*\Z", re.IGNORECASE
)

_DISTRIBUTION_VENDOR = re.compile(
    r"(?:Fedora Project|Red Hat, Inc\.|CentOS|AlmaLinux|Rocky(?: Enterprise Software Foundation)?|Oracle America|"
    r"Amazon(?: Linux|\.com)|openSUSE|SUSE LLC(?: <https://www\.suse\.com/>)?|openEuler|"
    r"Microsoft Corporation|VMware, Inc\.)\Z"
)
"""What a distribution writes into its own packages as ``Vendor``."""

_MAKERS = {"deb": _DISTRIBUTION_MAINTAINER, "rpm": _DISTRIBUTION_VENDOR, "apk": re.compile("")}
"""apk does not tell."""


Origins = dict[tuple[str, str, str, str], int]
"""Manager, name, version and architecture of a package to the layer that installed it."""


def origins_of(tree: Tree) -> Origins:
    """An upper layer writes the whole database again: what a package came with is the lowest of the layers in a row
    that have it, downwards from the top."""
    origins: Origins = {}
    for path, editions in tree.databases.items():
        if path not in tree.facts:
            continue
        standing: set[tuple[str, str, str, str]] | None = None
        for number, fact in reversed(editions):
            here = {(fact.manager, each.name, each.version, each.architecture) for each in fact.packages}
            standing = here if standing is None else standing & here
            origins.update(dict.fromkeys(standing, number))
            if not standing:
                break
    return origins


def unchanged_owner(tree: Tree, path: str, owner: str, origins: Origins) -> str:
    """The package of the distribution that owns a file, unless a layer above that package's put another file there."""
    manager, _, name = owner.partition(" ")
    installed = [number for key, number in origins.items() if key[:2] == (manager, name)]
    return owner if installed and tree.layers.get(path, 0) <= max(installed) else ""


def os_owners(tree: Tree) -> dict[str, str]:
    """Path to owning package of the distribution. dpkg packages of other makers (their maintainer tells) do not count:
    nobody backports fixes into those."""
    makers = {
        (fact.manager, package.name): bool(_MAKERS[fact.manager].search(package.maintainer))
        for fact in tree.facts.values()
        if isinstance(fact, OsDatabase)
        for package in fact.packages
    }
    owners: dict[str, str] = {}
    for fact in tree.facts.values():
        if isinstance(fact, OwnedFiles) and makers.get(("deb", fact.package)):
            owners.update((tree.real(path), f"deb {fact.package}") for path in fact.paths)
        elif isinstance(fact, OsDatabase):
            for package, paths in fact.owned:
                if makers[fact.manager, package]:
                    owners.update((tree.real(path), f"{fact.manager} {package}") for path in paths)
    return owners


def os_packages(tree: Tree) -> dict[str, list[OsPackage]]:
    """By what :func:`os_owners` calls them; several architectures of one package may be installed."""
    packages: dict[str, list[OsPackage]] = {}
    for fact in tree.facts.values():
        if isinstance(fact, OsDatabase):
            for package in fact.packages:
                packages.setdefault(f"{fact.manager} {package.name}", []).append(package)
    return packages


def standing_owner(
    owners: dict[str, str], packages: dict[str, list[OsPackage]], path: str, fact: PythonDistribution | NpmPackage
) -> str:
    """The package of the distribution that owns the file, if what the file tells is still that package; else nobody."""
    owner = owners.get(path, "")
    manager = owner.partition(" ")[0]
    return owner if agrees(packages.get(owner, []), manager, fact.name, fact.version) else ""


def other_owned(tree: Tree) -> Iterable[str]:
    """Paths that any other database of packages lists: conda's, dpkg's for packages of other makers."""
    installed = {
        package.name for fact in tree.facts.values() if isinstance(fact, OsDatabase) for package in fact.packages
    }
    for fact in tree.facts.values():
        if isinstance(fact, CondaPackage) or (isinstance(fact, OwnedFiles) and fact.package in installed):
            yield from (tree.real(path) for path in fact.paths)
        elif isinstance(fact, OsDatabase):
            yield from (tree.real(path) for _, paths in fact.owned for path in paths)


def python_paths(tree: Tree) -> set[str]:
    """Where the metadata of Python packages is."""
    return {tree.real(path) for path, fact in tree.facts.items() if isinstance(fact, PythonDistribution)}


def is_owned(tree: Tree, path: str, owned: set[str]) -> bool:
    """Listed by a package database, or inside an egg, a node module, or an interpreter's own modules."""
    if tree.real(path) in owned or ".egg/" in path:
        return True
    package = _node_package(path)
    if package and isinstance(tree.facts.get(f"{package}/package.json"), NpmPackage):
        return True
    folder, dynload, _ = path.partition("/lib-dynload/")
    return bool(dynload) and isinstance(tree.facts.get(f"{folder}/os.py"), StandardLibrary)


def _node_package(path: str) -> str:
    head, modules, tail = path.rpartition("node_modules/")
    parts = tail.split("/")
    size = 2 if tail.startswith("@") else 1
    return head + modules + "/".join(parts[:size]) if modules and len(parts) > size else ""


__all__ = [
    "Origins",
    "is_owned",
    "origins_of",
    "os_owners",
    "os_packages",
    "other_owned",
    "python_paths",
    "standing_owner",
    "unchanged_owner",
]
