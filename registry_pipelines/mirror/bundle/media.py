"""Find a bundle's files on media, and look at every byte before anything is written.

A medium is a folder. Parts are known by their content: one that was renamed, or that came on another medium than its
neighbours, counts; so does any whole copy of several. Files are only read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.mirror.bundle.format import (
    MAX_DOCUMENT_BYTES,
    TOOL_FOLDER,
    Bundle,
    Part,
    Sealed,
    ToolFile,
    read_bundle,
)
from registry_pipelines.progress import Progress, count_text, size_text
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool

DOCUMENT_SUFFIX = ".bundle.json"

HASH_THREADS = 4
"""Parts that are read at once: one core hashes less than a fast disk gives. Each holds 1 MiB."""

MAX_FILES = 200_000
"""On one medium: 2 TB in parts of 10 MB. More is somebody's home, and not searched."""

State = Literal["whole", "renamed", "missing", "damaged"]


@dataclass(frozen=True)
class FoundFile:
    """What became of a part, or of a file of the tool. path: where it is whole; None where it is not. why: a sentence
    for one that is damaged or found under another name."""

    name: str
    size: int
    state: State
    path: Path | None = None
    why: str = ""


@dataclass(frozen=True)
class Found:
    """A bundle on media. parts and tool: in the order of the document."""

    sealed: Sealed
    parts: tuple[FoundFile, ...]
    tool: tuple[FoundFile, ...] = ()

    @property
    def bundle(self) -> Bundle:
        """The document."""
        return self.sealed.bundle

    @property
    def whole(self) -> bool:
        """Whether all parts are there; the tool's files are for whoever installs it."""
        return all(part.path for part in self.parts)

    @property
    def lacking(self) -> list[int]:
        """The parts to be had again, from 1."""
        return [number for number, part in enumerate(self.parts, 1) if part.path is None]

    @property
    def paths(self) -> list[Path]:
        """Where the parts are; call it for a whole one."""
        return [part.path for part in self.parts if part.path]


@dataclass(frozen=True)
class Media:
    """What is on some folders. unreadable: documents that are none, with the reason."""

    folders: tuple[Path, ...]
    documents: tuple[Sealed, ...]
    unreadable: tuple[RegistryPipelinesError, ...] = ()
    files: Mapping[int, Sequence[Path]] = field(default_factory=dict)
    """All other files by their size in bytes."""


def open_media(folders: Sequence[Path]) -> Media:
    """List media and read the documents on them; no part is read. A document that is on several media counts once.
    Raises InputError for a folder that cannot be read, or that holds too many files to be a medium."""
    documents: dict[str, Sealed] = {}
    unreadable: list[RegistryPipelinesError] = []
    files: dict[int, list[Path]] = {}
    for folder in folders:
        for path, size in _files(folder):
            if not path.name.endswith(DOCUMENT_SUFFIX):
                files.setdefault(size, []).append(path)
                continue
            try:
                sealed = read_bundle(_read(path), where=str(path))
            except RegistryPipelinesError as error:
                unreadable.append(error)
            else:
                documents.setdefault(hashlib.sha256(sealed.envelope.payload).hexdigest(), sealed)
    ordered = sorted(documents.values(), key=lambda each: (each.bundle.mirror, each.bundle.line, each.bundle.number))
    return Media(tuple(folders), tuple(ordered), tuple(unreadable), files)


def look_at(media: Media, sealed: Sealed, progress: Progress) -> Found:
    """Read all files of a bundle and compare their SHA-256 with the signed document. Files that have its names are
    looked at first; then, for what is missing or damaged, all others of the same size. Raises nothing for what is
    wrong on a medium: that is in the answer."""
    bundle = sealed.bundle
    looker = _Looker(media, bundle, progress)
    progress.begin(f"verify {bundle.name}", total_bytes=bundle.stream_size)
    parts = looker.find(bundle.parts)
    tool = looker.find(bundle.tool, folder=TOOL_FOLDER)
    found = Found(sealed, tuple(parts), tuple(tool))
    progress.end(
        f"verify {bundle.name}", note="whole" if found.whole else f"{count_text(len(found.lacking), 'part')} lacking"
    )
    return found


class _Looker:
    def __init__(self, media: Media, bundle: Bundle, progress: Progress) -> None:
        self._media, self._task, self._progress = media, f"verify {bundle.name}", progress
        self._named: dict[str, list[tuple[Path, int]]] = {}
        for size, paths in media.files.items():
            for path in paths:
                self._named.setdefault(path.name, []).append((path, size))
        self._hashed: dict[Path, str] = {}
        self._failed: dict[Path, str] = {}

    def find(self, wanted: Sequence[Part | ToolFile], *, folder: str = "") -> list[FoundFile]:
        """Where each is whole, or why not. folder: in which they are on a medium."""
        with Pool(HASH_THREADS, "verify") as pool:
            first = list(pool.map(lambda each: self._by_name(each, folder), wanted))
            lost = {each.sha256 for each, found in zip(wanted, first, strict=True) if found.path is None}
            if not lost:
                return first
            sizes = {each.size for each in wanted if each.sha256 in lost}
            others = [path for size in sizes for path in self._media.files.get(size, ()) if path not in self._hashed]
            list(pool.map(self._hash, others))
        whole = {sha256: path for path, sha256 in self._hashed.items() if sha256 in lost}
        return [_renamed(found, whole.get(each.sha256)) for each, found in zip(wanted, first, strict=True)]

    def _by_name(self, wanted: Part | ToolFile, folder: str) -> FoundFile:
        problems: list[str] = []
        for path, size in self._named.get(wanted.name, ()):
            if (path.parent.name == TOOL_FOLDER) != (folder == TOOL_FOLDER):
                continue
            if size != wanted.size:
                problems.append(f"{path} has {size} of {wanted.size} bytes")
            elif self._hash(path) == wanted.sha256:
                return FoundFile(wanted.name, wanted.size, "whole", path)
            else:
                problems.append(self._failed.get(path) or f"{path} is damaged: its SHA-256 is another")
        state: State = "damaged" if problems else "missing"
        return FoundFile(wanted.name, wanted.size, state, None, "; ".join(problems))

    def _hash(self, path: Path) -> str:
        """The SHA-256 of a file; empty where it cannot be read to its end."""
        if path in self._hashed:
            return self._hashed[path]
        hasher = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                buffer = memoryview(bytearray(BUFFER_BYTES))
                while count := file.readinto(buffer):
                    hasher.update(buffer[:count])
                    self._progress.advance(self._task, count)
        except OSError as error:
            self._failed[path] = f"{path} cannot be read: {error.strerror}"
            self._hashed[path] = ""
        else:
            self._hashed[path] = hasher.hexdigest()
        return self._hashed[path]


def _renamed(found: FoundFile, path: Path | None) -> FoundFile:
    if found.path or path is None:
        return found
    return FoundFile(found.name, found.size, "renamed", path, f"its content is in {path}")


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """All regular files below a folder with their sizes; links are not followed."""
    count, waiting = 0, [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if here != folder:  # lost+found and the like
                continue
            raise InputError(
                f"the medium cannot be read: {error.strerror}", where=str(folder), do="Name the folder with the bundle"
            ) from error
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                count += 1
                if count > MAX_FILES:
                    what = f"there are more than {MAX_FILES} files"
                    raise InputError(what, where=str(folder), do="Name the folder with the bundle alone")
                yield Path(entry.path), entry.stat(follow_symlinks=False).st_size


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(path)) from error
    return raw


def size_of_parts(found: Found) -> str:
    """``25.0 GiB in 2 parts``, for people."""
    return f"{size_text(found.bundle.stream_size)} in {count_text(len(found.parts), 'part')}"
