"""Files that nobody owns: in no package's list, and no component by themselves. They are counted, so that "no finding"
is not read as a word about them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from registry_pipelines.scan.facts import (
    CondaPackage,
    GoProgram,
    Interpreter,
    JavaArchive,
    Names,
    NpmPackage,
    OsDatabase,
    OwnedFiles,
    PythonDistribution,
    StandardLibrary,
    WheelRecord,
)
from registry_pipelines.scan.merge import Tree
from registry_pipelines.scan.names import sizes
from registry_pipelines.scan.report import FolderCount, Unattributed, largest

_KEPT_BY_MANAGERS = ("var/lib/dpkg", "lib/apk", "usr/lib/apk", "var/lib/apk", "var/lib/rpm", "usr/lib/sysimage/rpm")
"""What package managers write for themselves, and list nowhere."""
_NOT_STANDARD = re.compile(r"/(?:site|dist)-packages(?:/|\Z)")
_MAX_PARTS = 2
"""Folders are named by their first parts."""
_BYTECODE = "__pycache__"


def count_unattributed(tree: Tree) -> Unattributed:
    """The files of an image that nobody owns."""
    owned = _owned(tree)
    claimed = _claimed_folders(tree)
    alone = _tell_themselves(tree)
    counts: dict[str, list[int]] = {}
    for folder, text in tree.files.items():
        real = tree.real_folder(folder)
        if _is_in(real, claimed):
            continue
        files = sizes(text)
        for name in _names(owned.get(real, ())):
            files.pop(name, None)
        if files and posixpath.basename(real) == _BYTECODE:
            sources = set(_names(owned.get(posixpath.dirname(real), ())))
            files = {name: size for name, size in files.items() if f"{name.partition('.')[0]}.py" not in sources}
        if real in alone:
            files = {name: size for name, size in files.items() if name not in alone[real]}
        if files:
            count = counts.setdefault("/".join(real.split("/")[:_MAX_PARTS]), [0, 0])
            count[0] += len(files)
            count[1] += sum(files.values())
    if tree.more_files:
        counts["(not listed)"] = [tree.more_files, tree.more_bytes]
    folders = [FolderCount(folder=folder, files=files, size_bytes=size) for folder, (files, size) in counts.items()]
    return Unattributed(
        files=sum(each.files for each in folders),
        size_bytes=sum(each.size_bytes for each in folders),
        folders=largest(folders),
    )


def _owned(tree: Tree) -> dict[str, list[str]]:
    """By folder, with links followed: the names in it that packages list, several ``/`` texts."""
    owned: dict[str, list[str]] = {}
    for names in _lists(tree):
        for folder, text in names.items():
            real = tree.real_folder(folder)
            owned.setdefault(real, []).append(text)
    return owned


def _lists(tree: Tree) -> Iterator[Names]:
    installed = {
        package.name for fact in tree.facts.values() if isinstance(fact, OsDatabase) for package in fact.packages
    }
    for path, fact in tree.facts.items():
        whole = isinstance(fact, OwnedFiles) and fact.package in installed
        whole = whole or (isinstance(fact, WheelRecord) and f"{posixpath.dirname(path)}/METADATA" in tree.facts)
        if isinstance(fact, (OsDatabase, CondaPackage)) or (isinstance(fact, (OwnedFiles, WheelRecord)) and whole):
            yield fact.names


def _names(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from text.split("/")


def _claimed_folders(tree: Tree) -> set[str]:
    """Folders of which everything belongs to a package or its manager."""
    claimed = {tree.real_folder(folder) for folder in _KEPT_BY_MANAGERS}
    for path, fact in tree.facts.items():
        folder = posixpath.dirname(path)
        if isinstance(fact, PythonDistribution):
            if folder.endswith(".egg/EGG-INFO"):
                claimed.add(tree.real_folder(posixpath.dirname(folder)))
            elif folder.endswith("-info"):
                claimed.add(tree.real_folder(folder))
        elif isinstance(fact, (NpmPackage, CondaPackage, StandardLibrary)):
            claimed.add(tree.real_folder(folder))
    return claimed


def _is_in(folder: str, claimed: set[str]) -> bool:
    """Whether a folder or one above it is claimed. An interpreter's library is, and not what was installed into it."""
    inner = _NOT_STANDARD.search(folder)
    outermost = folder[: inner.start()] if inner else ""
    while folder:
        if folder == outermost:
            # Above this lie folders of an interpreter, which say nothing of what was installed.
            return False
        if folder in claimed:
            return True
        folder = posixpath.dirname(folder)
    return False


def _tell_themselves(tree: Tree) -> dict[str, set[str]]:
    """Files that are components and say themselves which, by folder."""
    alone: dict[str, set[str]] = {}
    for path, fact in tree.facts.items():
        tells = (
            (isinstance(fact, GoProgram) and fact.main is not None)
            or (isinstance(fact, JavaArchive) and any(each.group for each in fact.artifacts))
            or (isinstance(fact, Interpreter) and fact.version)
            or (isinstance(fact, PythonDistribution) and path.endswith((".egg", ".egg-info")))
        )
        if tells:
            folder, _, base = tree.real(path).rpartition("/")
            alone.setdefault(folder, set()).add(base)
    return alone
