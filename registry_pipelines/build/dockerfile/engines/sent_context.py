"""A context as the tar that Docker's engine takes, made while it is sent: nothing is held in memory or on the disk.

The daemon reads the Dockerfile from the context, too. Where it is not one of the files that the ignore file lets
through, it goes along so that no step sees it: the daemon removes what the ``.dockerignore`` of the tar names, and
that file itself, before the first step.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from registry_pipelines.build.dockerfile.context import IGNORE_FILE, Context, ContextEntry, read_ignore_file
from registry_pipelines.errors import InputError

_PIECE = 1 << 20
_FILE_MODE = 0o644


def dockerfile_in(context: Context, dockerfile: Path, text: bytes) -> tuple[str, dict[str, bytes]]:
    """The Dockerfile's name in the tar, and files to add or to take instead of those of the context."""
    paths = set(context.paths)
    inside = _inside(context.folder, dockerfile)
    if inside in paths:
        return inside, {}
    own = context.folder / IGNORE_FILE
    if inside and IGNORE_FILE in paths and context.ignore_file == own and read_ignore_file(own).leaves_out(inside):
        return inside, {inside: text}
    name = f".dockerfile.{hashlib.sha256(text).hexdigest()[:16]}"
    if IGNORE_FILE in paths:
        # Steps see these lines in the file. Rare: a Dockerfile from elsewhere, or with an ignore file of its own.
        return name, {name: text, IGNORE_FILE: own.read_bytes() + f"\n!{IGNORE_FILE}\n{name}\n".encode()}
    return name, {name: text, IGNORE_FILE: f"{name}\n{IGNORE_FILE}\n".encode()}


def _inside(folder: Path, dockerfile: Path) -> str:
    """Its path in the folder; empty for one that is elsewhere."""
    try:
        return dockerfile.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return ""


def context_tar(context: Context, added: Mapping[str, bytes], tell: Callable[[int], object]) -> Iterator[bytes]:
    """The tar, piece by piece. Owner 0, as the docker command sends it; times as they are. tell: gets the bytes that
    were read. Raises InputError: a file cannot be read, or changed meanwhile."""
    for entry in context.entries:
        if entry.path not in added:
            yield from _entry(context.folder, entry, tell)
    for name, data in added.items():
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), _FILE_MODE
        yield _header(member) + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.BLOCKSIZE * 2


def _entry(folder: Path, entry: ContextEntry, tell: Callable[[int], object]) -> Iterator[bytes]:
    path = folder / entry.path
    try:
        status = path.lstat()
        member = tarfile.TarInfo(entry.path)
        member.mode, member.mtime = status.st_mode & 0o7777, int(status.st_mtime)
        if entry.is_folder:
            member.type = tarfile.DIRTYPE
            yield _header(member)
        elif path.is_symlink():
            member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
            yield _header(member)
        else:
            with path.open("rb") as file:
                member.size = os.fstat(file.fileno()).st_size
                yield _header(member)
                left = member.size
                while left:
                    piece = file.read(min(left, _PIECE))
                    if not piece:
                        raise InputError("the file became shorter while it was sent", where=str(path), do="Try again")
                    left -= len(piece)
                    tell(len(piece))
                    yield piece
                yield b"\0" * (-member.size % tarfile.BLOCKSIZE)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
