"""Documents of the state: a name, as ``report/cost/2026-11-30.parquet``, and its bytes, which every worker sees alike.

One protocol with two homes: the state folder of one machine (here), where a document is the file of its name, and the
database that many machines share (``stored_documents``). What a stage keeps for the next run, and what another machine
must not do a second time, goes through this; caches do not.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from registry_pipelines.errors import LocalError, StateLocked
from registry_pipelines.oci.files import held_alone, local_errors, sync_folder, write_file

MOST_BYTES = 1 << 30
"""Of a document that is not told to be smaller: an inventory of a million layers has some hundred MB."""
MOST_TRIES = 100
"""Of :func:`change`: each time that one loses another one has won."""
ONCE = "Wait for it; once is enough"


class Document(NamedTuple):
    """content: its bytes. version: what :meth:`Documents.replace` asks for; no two contents have one."""

    content: bytes
    version: str


class Entry(NamedTuple):
    """A document in a list. name: in its folder, without it. size: in bytes. at: when it was written, seconds since
    1970 by the clock of where it lies."""

    name: str
    size: int
    at: float


class Documents(Protocol):
    """Documents below a folder of the state. Safe for threads and processes. All methods raise LocalError (DiskFull):
    files or the database cannot be used. A document is there whole or not at all."""

    where: str
    """For errors: the folder, or the database and the folder."""

    def under(self, folder: str) -> Documents:
        """Those below a folder, as ``report/cost``."""
        ...

    def read(self, name: str, *, most: int = MOST_BYTES) -> Document | None:
        """A document; None where there is none. Raises LocalError for one of more than ``most`` bytes."""
        ...

    def read_all(self, names: Iterable[str], *, most: int = MOST_BYTES) -> dict[str, Document]:
        """Those of some documents that are there, by name, asked for together. Raises as :meth:`read`; ``most`` is of
        each of them, and the caller holds them all."""
        ...

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """Write it, over the one before. lasting: see ``write_file``."""
        ...

    def replace(self, name: str, content: bytes | None, version: str) -> bool:
        """Write it (None: delete it) where it still is the version that was read, "" for none; else False, and nothing
        is changed."""
        ...

    def delete(self, name: str) -> None:
        """Delete it; nothing where there is none."""
        ...

    def entries(self, folder: str = "") -> list[Entry]:
        """What is directly in a folder, by name."""
        ...

    def local(self, name: str, *beside: str) -> Path | None:
        """A file with a document's content, for who reads by path; None where there is none. In its folder are those
        of ``beside`` that are there. It is not to be written, and stays for some minutes when the document changes."""
        ...

    def take(self, name: str, file: Path) -> None:
        """Write a document from a finished file of :meth:`scratch`, which is gone then."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A new folder of this machine for files that become documents; it goes with all that is in it."""
        ...

    def held(self, name: str, what: str, *, do: str = ONCE) -> AbstractContextManager[object]:
        """Do something as the only one of all workers. what: another one does that holds it, as ``another process
        updates advisories``. Raises StateLocked at once."""
        ...


def change(
    documents: Documents, name: str, act: Callable[[bytes | None], bytes | None], *, most: int = MOST_BYTES
) -> bytes | None:
    """Make a document's next content of its last one, also where others do so at once; what it is now. act: may be
    called again; None for no document. Raises LocalError, StateLocked (others were always first)."""
    for _ in range(MOST_TRIES):
        before = documents.read(name, most=most)
        after = act(before.content if before else None)
        if after == (before.content if before else None):
            return after
        if documents.replace(name, after, before.version if before else ""):
            return after
    raise StateLocked(f"{name} changes all the time", where=documents.where, do="Try again")


@contextmanager
def scratch_folder(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it in the end. Raises LocalError."""
    with local_errors(folder):
        folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def checked_name(name: str) -> str:
    """A relative name without ways out of its folder; names are made by this program, so another one is a mistake."""
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r} is no name of a document")
    return name


def too_large(name: str, most: int, where: str) -> LocalError:
    """Of a document with more bytes than its reader takes."""
    return LocalError(
        f"{name} has more than {most} bytes", where=where, do="It was not written by this program: move it away"
    )


class FolderDocuments:
    """See Documents; files below a folder, which is made when something is written. The version is the content's."""

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def under(self, folder: str) -> FolderDocuments:
        """See Documents."""
        return FolderDocuments(self.root / checked_name(folder))

    def path(self, name: str) -> Path:
        """Where a document is, or would be."""
        return self.root / checked_name(name)

    def read(self, name: str, *, most: int = MOST_BYTES) -> Document | None:
        """See Documents."""
        path = self.path(name)
        with local_errors(path):
            try:
                with path.open("rb") as file:
                    content = file.read(most + 1)
            except FileNotFoundError:
                return None
        if len(content) > most:
            raise too_large(name, most, self.where)
        return Document(content, _version(content))

    def read_all(self, names: Iterable[str], *, most: int = MOST_BYTES) -> dict[str, Document]:
        """See Documents."""
        return {name: found for name in names if (found := self.read(name, most=most))}

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """See Documents."""
        path = self.path(name)
        with self._writing(path):
            write_file(path, content, lasting=lasting)

    def replace(self, name: str, content: bytes | None, version: str) -> bool:
        """See Documents."""
        path = self.path(name)
        with self._writing(path):
            before = self.read(name)
            if (before.version if before else "") != version:
                return False
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_file(path, content)
        return True

    def delete(self, name: str) -> None:
        """See Documents."""
        path = self.path(name)
        with local_errors(path):
            path.unlink(missing_ok=True)

    def entries(self, folder: str = "") -> list[Entry]:
        """See Documents."""
        root = self.path(folder) if folder else self.root
        found = []
        with local_errors(root):
            try:
                files = sorted(root.iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []
            for each in files:
                try:
                    told = each.stat()
                except FileNotFoundError:
                    continue
                if each.is_file() and not each.name.startswith("."):
                    found.append(Entry(each.name, told.st_size, told.st_mtime))
        return found

    def local(self, name: str, *beside: str) -> Path | None:
        """See Documents."""
        path = self.path(name)
        with local_errors(path):
            return path if path.is_file() else None

    def take(self, name: str, file: Path) -> None:
        """See Documents."""
        path = self.path(name)
        with self._writing(path):
            file.replace(path)
            sync_folder(path.parent)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Documents."""
        folder = self.root / f".scratch-{uuid.uuid4().hex}"
        with scratch_folder(folder):
            yield folder

    def held(self, name: str, what: str, *, do: str = ONCE) -> AbstractContextManager[object]:
        """See Documents."""
        return held_alone(self.path(name), what, do=do)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """As the only one who writes into the document's folder: the folder itself is locked, so no file is left."""
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


__all__ = ["Document", "Documents", "Entry", "FolderDocuments", "change"]
