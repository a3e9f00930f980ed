"""What a build's context holds, measured before anything is sent: files, bytes, and where most of them are.

Which files: those that the ignore file lets through, as BuildKit reads it: ``NAME.dockerignore`` beside the Dockerfile
``NAME``, else ``.dockerignore`` of the context (Docker's reference, "Filename and location"). Sockets are not sent; a
link goes as a link, wherever it points to.
"""

from __future__ import annotations

import heapq
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.build.application import MAX_IGNORE_BYTES, walk
from registry_pipelines.build.ignorefile import Patterns, read_patterns
from registry_pipelines.errors import InputError

IGNORE_FILE = ".dockerignore"

LARGEST = 10
"""Paths that are named."""

MAX_ENTRIES = 2_000_000
"""Files, folders and links of a context; more is a mistake, and would take gigabytes of memory."""


@dataclass(frozen=True)
class ContextEntry:
    """A file, folder or link that is sent. path: relative to the context. byte_count: of a file; 0 of others."""

    path: str
    mode: int
    """With the type, as ``lstat`` gives it."""
    byte_count: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True)
class Context:
    """A whole context. entries: in the order of names, folders before what is in them."""

    folder: Path
    entries: tuple[ContextEntry, ...]
    ignore_file: Path | None
    """The one that counts; None where there is none."""
    sockets: tuple[str, ...] = ()
    """Left out, as engines do."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of everything that is sent."""
        return tuple(entry.path for entry in self.entries)

    @property
    def file_count(self) -> int:
        """Files and links, without folders."""
        return sum(not entry.is_folder for entry in self.entries)

    @property
    def byte_count(self) -> int:
        """Bytes of all files."""
        return sum(entry.byte_count for entry in self.entries)

    def largest(self, most: int = LARGEST) -> tuple[tuple[str, int], ...]:
        """Where most bytes are: (path, bytes), the largest first. A folder (with a slash at its end) is named when no
        single thing in it has half of its bytes; else what is in it."""
        totals, children = folder_totals(self.entries)
        found: list[tuple[str, int]] = []
        heap = [(-totals[path], path) for path in children.get("", [])]
        heapq.heapify(heap)
        while heap and len(found) < most:
            size, path = heapq.heappop(heap)
            inner = children.get(path, [])
            if inner and 2 * max(totals[each] for each in inner) >= -size:
                for each in inner:
                    heapq.heappush(heap, (-totals[each], each))
            elif size:
                found.append((path + "/" if path in children else path, -size))
        return tuple(found)


def folder_totals(entries: tuple[ContextEntry, ...]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Bytes of every path with what is below it, and what stands in each folder (``""`` is the context)."""
    totals: dict[str, int] = {"": 0}
    children: dict[str, list[str]] = {}
    for entry in entries:
        totals[entry.path] = totals.get(entry.path, 0) + entry.byte_count
        if entry.is_folder:
            children.setdefault(entry.path, [])
        parent = entry.path.rpartition("/")[0]
        children.setdefault(parent, []).append(entry.path)
        while entry.byte_count:
            totals[parent] = totals.get(parent, 0) + entry.byte_count
            if not parent:
                break
            parent = parent.rpartition("/")[0]
    return totals, children


def measure_context(folder: Path, dockerfile: Path | None = None) -> Context:
    """Look at every file that would be sent. dockerfile: ``Dockerfile`` of the folder unless told.

    Raises InputError: no such folder, an ignore file with a line that is not understood, a folder or file that cannot
    be read, a name that is not UTF-8 (no engine takes it), a device, more than MAX_ENTRIES.
    """
    if not folder.is_dir():
        raise InputError("the context is no folder", where=str(folder), do="Name the folder with `context`")
    ignore_file = find_ignore_file(folder, dockerfile or folder / "Dockerfile")
    entries: list[ContextEntry] = []
    sockets: list[str] = []
    for relative, found in walk(folder, "", read_ignore_file(ignore_file)):
        entry = _entry(folder, relative, found)
        if entry is None:
            sockets.append(relative)
            continue
        entries.append(entry)
        if len(entries) > MAX_ENTRIES:
            raise InputError(
                f"the context has more than {MAX_ENTRIES} files",
                where=str(folder),
                do=f"Leave some out in {IGNORE_FILE}, or name a smaller folder",
            )
    return Context(folder, tuple(entries), ignore_file, tuple(sockets))


def find_ignore_file(folder: Path, dockerfile: Path) -> Path | None:
    """The Dockerfile's own where there is one, else the context's."""
    own = dockerfile.with_name(dockerfile.name + IGNORE_FILE)
    # A link to nowhere is no absent file: reading it says so.
    return next((path for path in (own, folder / IGNORE_FILE) if os.path.lexists(path)), None)


def read_ignore_file(path: Path | None) -> Patterns:
    """Its patterns; none without a file. Raises InputError."""
    return read_patterns(ignore_text(path), str(path))


def ignore_text(path: Path | None) -> bytes:
    """Its bytes; none without a file. Raises InputError: it cannot be read, or is larger than MAX_IGNORE_BYTES."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_IGNORE_BYTES + 1)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > MAX_IGNORE_BYTES:
        raise InputError(f"the file is larger than {MAX_IGNORE_BYTES} bytes", where=str(path))
    return raw


def _entry(folder: Path, relative: str, found: os.DirEntry[str]) -> ContextEntry | None:
    """None for a socket."""
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the name {relative!r} is not UTF-8", where=str(folder), do=f"Rename it, or leave it out in {IGNORE_FILE}"
        ) from error
    try:
        status = found.stat(follow_symlinks=False)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=found.path) from error
    mode = status.st_mode
    if stat.S_ISSOCK(mode):
        return None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise InputError(
            "only files, folders and links can be sent", where=found.path, do=f"Leave it out in {IGNORE_FILE}"
        )
    if stat.S_ISREG(mode) and not os.access(found.path, os.R_OK):
        raise InputError(
            "the file cannot be read: Permission denied",
            where=found.path,
            do=f"Change its mode, or leave it out in {IGNORE_FILE}",
        )
    return ContextEntry(relative, mode, status.st_size if stat.S_ISREG(mode) else 0)
