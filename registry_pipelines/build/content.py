"""Files of this machine as a layer: the interpreter base and application folders. The key is a hash of all content."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zlib_ng import zlib_ng

from registry_pipelines.build import compiling
from registry_pipelines.build.entries import FILE_MODE, file_entry, folder_entry, link_entry
from registry_pipelines.build.pushing import LayerJob
from registry_pipelines.build.splice import CODEC, LayerWriter
from registry_pipelines.errors import InputError
from registry_pipelines.registry.protocol import BUFFER_BYTES

FORMAT = 1
"""Raised when equal input shall give other bytes than before."""


@dataclass(frozen=True)
class LayerEntry:
    """One entry of a layer. ``path``: in the image, without leading slash. Exactly one of ``source`` (a file here),
    ``content``, ``link`` (target of a symbolic link) and ``folder``."""

    path: str
    mode: int = FILE_MODE
    source: Path | None = None
    content: bytes | None = None
    link: str = ""
    folder: bool = False
    owner: int = 0


def content_job(contents: str, entries: Iterable[LayerEntry], *, byte_code: bool) -> LayerJob:
    """A layer of these entries, sorted by path, then byte code of the ``.py`` files.

    Every file is hashed now for the key. Raises InputError when one cannot be read.
    """
    ordered = sorted(entries, key=lambda entry: entry.path.encode(errors="surrogateescape"))
    digests = [_fingerprint(entry) for entry in ordered]
    identity = ["content", FORMAT, CODEC, compiling.IDENTITY if byte_code else "", digests]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    size = sum(entry.source.stat().st_size for entry in ordered if entry.source)
    modules = _modules(ordered, digests) if byte_code else []

    def write(writer: LayerWriter, advance: Callable[[int], None]) -> None:
        with compiling.Compilation(modules) as compiled:
            for entry, digest in zip(ordered, digests, strict=True):
                _write(writer, entry, digest, advance)
            _write_byte_code(writer, compiled)

    return LayerJob(key, contents, size, write, len(modules))


def _fingerprint(entry: LayerEntry) -> list[str | int]:
    kind = "link" if entry.link else "folder" if entry.folder else "file"
    content = entry.link
    if entry.source is not None:
        with _reading(entry.source), entry.source.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif entry.content is not None:
        content = hashlib.sha256(entry.content).hexdigest()
    return [entry.path, kind, entry.mode, entry.owner, content]


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(source)) from error


def _write(writer: LayerWriter, entry: LayerEntry, digest: list[str | int], advance: Callable[[int], None]) -> None:
    if entry.source is not None:
        _copy(writer, entry, entry.source, str(digest[-1]), advance)
        return
    if entry.content is not None:
        writer.header(_owned(file_entry(entry.path, len(entry.content), mode=entry.mode), entry))
        writer.content(entry.content)
        writer.hashed(bytes.fromhex(str(digest[-1])), zlib_ng.crc32(entry.content))
    elif entry.link:
        writer.header(link_entry(entry.path, entry.link))
    else:
        writer.header(_owned(folder_entry(entry.path, mode=entry.mode), entry))


def _owned(info: tarfile.TarInfo, entry: LayerEntry) -> tarfile.TarInfo:
    info.uid = info.gid = entry.owner
    return info


def _copy(writer: LayerWriter, entry: LayerEntry, source: Path, sha256: str, advance: Callable[[int], None]) -> None:
    with _reading(source):
        size = source.stat().st_size
    writer.header(file_entry(entry.path, size, mode=entry.mode))
    digest, crc = hashlib.sha256(), 0
    for piece in _pieces(source, size):
        digest.update(piece)
        crc = zlib_ng.crc32(piece, crc)
        writer.content(piece)
        advance(len(piece))
    _check(source, digest.hexdigest(), sha256)
    writer.hashed(digest.digest(), crc)


def _pieces(source: Path, size: int) -> Iterator[bytes]:
    """The first ``size`` bytes, or as many as there are."""
    with _reading(source), source.open("rb") as file:
        while piece := file.read(min(BUFFER_BYTES, size)):
            yield piece
            size -= len(piece)


def _check(source: Path, actual: str, sha256: str) -> None:
    if actual != sha256:
        raise InputError("the file changed while it was packed", where=str(source), do="Build again")


def _modules(entries: Sequence[LayerEntry], digests: Sequence[list[str | int]]) -> list[compiling.Source]:
    taken = {entry.path for entry in entries}
    modules = []
    for entry, digest in zip(entries, digests, strict=True):
        if entry.source is None or not entry.path.endswith(".py") or compiling.compiled_path(entry.path) in taken:
            continue
        size = entry.source.stat().st_size
        if size <= compiling.MAX_SOURCE_BYTES:
            modules.append(compiling.Source("/" + entry.path, size, partial(_read, entry.source, str(digest[-1]))))
    return modules


def _read(source: Path, sha256: str) -> bytes:
    with _reading(source):
        content = source.read_bytes()
    _check(source, hashlib.sha256(content).hexdigest(), sha256)
    return content


def _write_byte_code(writer: LayerWriter, compiled: Iterable[tuple[str, bytes]]) -> None:
    folders: set[str] = set()
    for source, pyc in compiled:
        path = compiling.compiled_path(source)
        folder = path.rpartition("/")[0]
        if folder not in folders:
            folders.add(folder)
            writer.header(folder_entry(folder))
        writer.header(file_entry(path, len(pyc)))
        writer.content(pyc)
        writer.hashed(hashlib.sha256(pyc).digest(), zlib_ng.crc32(pyc))
