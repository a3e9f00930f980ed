"""The application folder as a layer: what is taken along, what is left out, what is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.entries import FILE_MODE, FOLDER_MODE, PROGRAM_MODE
from registry_pipelines.build.ignorefile import Matches, Patterns, read_patterns
from registry_pipelines.errors import InputError

IGNORE_FILES = (".imageignore", ".dockerignore")
"""The first that exists is used."""

ALWAYS_IGNORED = (
    *("**/.git", "**/.hg", "**/.svn", "**/__pycache__", "**/*.pyc", "**/.venv", "**/.DS_Store"),
    *("**/.mypy_cache", "**/.ruff_cache", "**/.pytest_cache", "**/.registry-pipelines", *IGNORE_FILES),
)

MAX_FILES = 100_000
MAX_IGNORE_BYTES = 1024 * 1024
"""A larger folder or pattern file is a mistake (a data set, a virtual environment) and is refused."""


def application_entries(folder: Path, workdir: str) -> list[LayerEntry]:
    """The folder's entries below ``workdir``. Owner, times and all but the executable bit are dropped.

    Raises InputError: no folder, a symbolic link that leaves it, a device or socket, a name that is not UTF-8, too many
    files.
    """
    if not folder.is_dir():
        raise InputError("the application folder does not exist", where=str(folder))
    patterns = application_patterns(folder)
    prefix = workdir.strip("/")
    entries = [LayerEntry(prefix, FOLDER_MODE, folder=True)] if prefix else []
    for relative, entry in walk(folder, "", patterns):
        if len(entries) > MAX_FILES:
            raise InputError(f"more than {MAX_FILES} files", where=str(folder), do="Leave some out in .imageignore")
        entries.append(_layer_entry(folder, relative, entry, f"{prefix}/{relative}".lstrip("/")))
    return entries


def packed_paths(folder: Path) -> set[str]:
    """Files and links that are packed, relative to the folder. Raises InputError as ``application_entries`` does."""
    return {entry.path for entry in application_entries(folder, "/") if not entry.folder}


def application_patterns(folder: Path) -> Patterns:
    """What stays out: the built-in patterns, then those of the folder's own file. Raises InputError for that file."""
    return read_patterns("\n".join(ALWAYS_IGNORED).encode(), "built in") + _own_patterns(folder)


def _own_patterns(folder: Path) -> Patterns:
    for name in IGNORE_FILES:
        path = folder / name
        # A link to nowhere is no absent file: what it should have kept out would be packed.
        if os.path.lexists(path):
            try:
                if path.stat().st_size > MAX_IGNORE_BYTES:
                    raise InputError(f"the file is larger than {MAX_IGNORE_BYTES} bytes", where=str(path))
                raw = path.read_bytes()
            except OSError as error:
                raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
            return read_patterns(raw, str(path))
    return Patterns(())


def walk(folder: Path, prefix: str, patterns: Patterns, above: Matches = ()) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Path (below ``prefix``) and entry of everything that the patterns let through, in the order of names, a folder
    before what is in it. A folder that is ignored comes where something in it is taken. Raises InputError."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from error
    for entry in entries:
        relative = prefix + entry.name
        ignored, matches = patterns.ignores(relative, above)
        if not ignored:
            yield relative, entry
        if entry.is_dir(follow_symlinks=False):
            if not ignored:
                yield from walk(Path(entry.path), relative + "/", patterns, matches)
            elif patterns.may_take_back_below(relative):
                taken = walk(Path(entry.path), relative + "/", patterns, matches)
                first = next(taken, None)
                if first is not None:
                    yield relative, entry
                    yield first
                    yield from taken


def _layer_entry(folder: Path, relative: str, entry: os.DirEntry[str], target: str) -> LayerEntry:
    path = Path(entry.path)
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name {relative!r} is not UTF-8", where=str(folder)) from error
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return LayerEntry(target, link=_checked_link(folder, path))
    if stat.S_ISDIR(mode):
        return LayerEntry(target, FOLDER_MODE, folder=True)
    if not stat.S_ISREG(mode):
        raise InputError(
            "only files, folders and links can be packed", where=str(path), do="Leave it out in .imageignore"
        )
    return LayerEntry(target, PROGRAM_MODE if mode & 0o111 else FILE_MODE, source=path)


def _checked_link(folder: Path, path: Path) -> str:
    link = str(path.readlink())
    end = os.path.normpath(os.path.join(path.parent, link))  # noqa: PTH118 - the text decides, not the disk
    root = os.path.normpath(folder)
    if os.path.isabs(link) or not (end == root or end.startswith(root + os.sep)):  # noqa: PTH117
        raise InputError(
            f"the link to {link!r} leaves the application folder",
            where=str(path),
            do="Copy what it names, or leave it out",
        )
    return link
