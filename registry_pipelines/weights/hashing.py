"""Read a folder of weights: which files it has, what they are, and their digests; what changes meanwhile is noticed.

A file's identity is its inode, size and times of change as the system has them: taken before the first byte, and again
behind the last one, here and once more when it is sent.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry_pipelines.errors import ContentError, InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool
from registry_pipelines.weights.formats import HEAD_BYTES, Format, kind_of
from registry_pipelines.weights.model import RAW_TYPES, WeightFile, WeightSet, weight_set
from registry_pipelines.weights.paths import LIST_FILE, SIGNATURE_FILE, STAGING_FOLDER, fault_of

LEFT_OUT = frozenset(
    {LIST_FILE, SIGNATURE_FILE, STAGING_FOLDER, ".git", ".github", ".gitattributes", ".gitignore", ".cache"}
)
"""Names directly below the folder that are no part of the model: ours, signatures, and what git and download programs
keep beside it."""

THREADS = min(4, os.cpu_count() or 1)
"""Files hashed at once; more than a disk gives to."""


@dataclass(frozen=True)
class Identity:
    """What the system says of a file; another one after a write."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """Of what ``stat`` gave."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Origin:
    """Where a file of a set lies on this machine, as it was when it was hashed."""

    path: Path
    identity: Identity

    def check(self, found: os.stat_result) -> None:
        """Raise ContentError where the file is another one by now."""
        if Identity.of(found) != self.identity:
            raise changed(self.path)


def changed(path: Path) -> ContentError:
    """The error about a file that was written while it was read."""
    return ContentError(
        "the file changed while it was read; nothing names what was sent of it",
        where=str(path),
        do="Let its writer finish, then run the command again",
    )


@dataclass(frozen=True)
class Folder:
    """A folder as it was read. origins: for each file of the set. formats: what each is. left_out: names that are no
    part of it."""

    weights: WeightSet
    origins: dict[str, Origin]
    formats: dict[str, Format]
    left_out: tuple[str, ...]


def read_folder(folder: Path, *, follow_links: bool = False, progress: Progress | None = None) -> Folder:
    """Hash all files of a folder. follow_links: symbolic links to files count as the files.

    Raises as :func:`find_files`, InputError for no files, ContentError for a file that changed meanwhile.
    """
    progress = progress or Silent()
    found = find_files(folder, follow_links=follow_links).items()
    left_out = tuple(sorted(path.name for path in folder.iterdir() if path.name in LEFT_OUT))
    hash_it = partial(_hash, progress)
    with Pool(THREADS, "hash") as pool:
        read = list(pool.map(hash_it, [name for name, _ in found], [path for _, path in found]))
    files = [file for file, _, _ in read]
    formats = {file.path: what for file, _, what in read}
    weights = weight_set(files, formats=[what.name for what in formats.values() if what.kind == "weights"])
    return Folder(weights, {file.path: origin for file, origin, _ in read}, formats, left_out)


def find_files(folder: Path, *, follow_links: bool = False) -> dict[str, Path]:
    """The files of a model's folder, by their path in it, sorted; nothing is read. Raises InputError for no folder,
    symbolic links (unless followed; never to folders) and what is no file at all, LocalError."""
    if not folder.is_dir():
        raise InputError("this is no folder", where=str(folder), do="Name the folder that has the model's files")
    with local_errors(folder):
        if all((folder / each).is_dir() for each in ("blobs", "refs", "snapshots")):
            inner = sorted(f"snapshots/{each.name}" for each in (folder / "snapshots").iterdir())
            raise InputError(
                "this is a model's entry in a Hugging Face cache, with all its versions",
                where=str(folder),
                do=f"Name one version, and say --follow-links: {', '.join(inner[:3]) or 'snapshots/REVISION'}",
            )
        return dict(sorted(_walk(folder, "", follow_links)))


def _walk(folder: Path, below: str, follow_links: bool) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not below and entry.name in LEFT_OUT:
                continue
            name, path = f"{below}{entry.name}", folder / entry.name
            if fault := fault_of(name):
                raise InputError(f"the name {name!r} {fault}", where=str(folder), do="Rename it")
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, f"{name}/", follow_links)
            elif entry.is_symlink() and not (follow_links and path.is_file()):
                raise InputError(
                    "this is a symbolic link" + (", and to no file" if follow_links else ""),
                    where=str(path),
                    do="Put the file itself there"
                    + ("" if follow_links else ", or say --follow-links, as for a download cache of links to files"),
                )
            elif not entry.is_file():
                raise InputError("this is neither a file nor a folder", where=str(path), do="Remove it")
            else:
                yield name, path


def _hash(progress: Progress, name: str, path: Path) -> tuple[WeightFile, Origin, Format]:
    with local_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe by now does not hold us
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise changed(path)
            head = os.pread(descriptor, HEAD_BYTES, 0)
            progress.begin(f"hash {name}", total_bytes=before.st_size)
            digest, size = _digest(stream, f"hash {name}", progress)
            origin = Origin(path, Identity.of(before))
            origin.check(os.fstat(descriptor))
            origin.check(path.stat())  # another file may have taken the name
    progress.end(f"hash {name}")
    what = kind_of(name, head, size)
    file = WeightFile(name, digest, size, what.kind, RAW_TYPES[what.kind], untested=what.name == "unknown")
    return file, origin, what


def _digest(stream: object, task: str, progress: Progress) -> tuple[Digest, int]:
    hashed, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(BUFFER_BYTES))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        hashed.update(buffer[:count])
        progress.advance(task, count)
        size += count
    return Digest(f"sha256:{hashed.hexdigest()}"), size


def digest_of(path: Path) -> Digest:
    """The digest of a file. Raises LocalError."""
    with local_errors(path), path.open("rb", buffering=0) as stream:
        return _digest(stream, "", Silent())[0]


__all__ = [
    "LEFT_OUT",
    "LIST_FILE",
    "SIGNATURE_FILE",
    "STAGING_FOLDER",
    "Folder",
    "Identity",
    "Origin",
    "digest_of",
    "find_files",
    "read_folder",
]
