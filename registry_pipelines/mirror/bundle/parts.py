"""Write the parts of a bundle onto media: a part is there whole, under its name, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import ContentError, DigestMismatch, DiskFull, InputError, StateLocked
from registry_pipelines.mirror.bundle.format import BundleBlob, Part, part_name
from registry_pipelines.mirror.bundle.hashing import BlobCheck, Hashing
from registry_pipelines.mirror.bundle.reading import Origins, Piece, is_small, read_stream
from registry_pipelines.mirror.bundle.stream import Stream
from registry_pipelines.oci.files import local_errors, sync_folder
from registry_pipelines.progress import Progress, Silent, size_text
from registry_pipelines.transfer.blob.memory import Part as MemoryPart
from registry_pipelines.transfer.blob.memory import PartMemory

HALF = ".partial"
"""Ends the name of a part that is being written."""

Done = Callable[[int, Part, Path], None]
"""Hears of each part that is finished: its number, what it is, and its folder."""
Begin = Callable[[int, Path], None]
"""Hears of each part before its file is made."""
Undo = Callable[[int], None]
"""Hears that this part, and those behind it, hold bytes of a blob that turned out to be wrong."""
Heads = Callable[[BundleBlob, int], Iterator[bytes | memoryview]]
"""The first bytes of a blob that begins in an earlier part, so many: they are hashed with the rest of it."""


@dataclass
class Media:
    """Folders that are filled one after the other. own: file names there that may be written over, because this bundle
    began them."""

    folders: Sequence[Path]
    own: frozenset[tuple[Path, str]] = frozenset()
    at: int = 0

    def next_with_room(self, size: int) -> Path:
        """The folder for the next part: the present one, or the next that has room for it. Raises DiskFull for none."""
        for place in range(self.at, len(self.folders)):
            folder = self.folders[place]
            with local_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                free = os.statvfs(folder)
            if free.f_bavail * free.f_frsize >= size:
                self.at = place
                return folder
        raise full(self.folders, size)

    def is_full(self, size: int) -> None:
        """The present folder took no more. Raises DiskFull when it was the last."""
        self.at += 1
        if self.at >= len(self.folders):
            raise full(self.folders, size)


def no_head(_blob: BundleBlob, _size: int) -> Iterator[bytes | memoryview]:
    """Of a bundle that is begun with its first part."""
    return iter(())


def full(folders: Sequence[Path], size: int) -> DiskFull:
    """What is said when the last medium has no room for so many bytes more."""
    return DiskFull(
        f"no space is left for the next part, of {size_text(size)} at most; the finished parts stay",
        where=", ".join(map(str, folders)),
        do="Run the same command with another --to: it goes on with the rest",
    )


@dataclass
class Writing:
    """How the parts of one bundle are written."""

    mirror: str
    number: int
    stream: Stream
    part_size: int
    origins: Origins
    media: Media
    begin: Begin
    done: Done
    undo: Undo
    progress: Progress = field(default_factory=Silent)
    memory: PartMemory = field(default_factory=PartMemory)
    heads: Heads = no_head

    @property
    def count(self) -> int:
        """Parts of the whole bundle."""
        return -(-self.stream.size // self.part_size)

    def span(self, number: int) -> tuple[int, int]:
        """First byte of a part in the stream, and the one behind its last. The first part is 1."""
        start = (number - 1) * self.part_size
        return start, min(start + self.part_size, self.stream.size)

    def write(self, first: int) -> None:
        """Write part ``first`` and all behind it. Raises ContentError, RegistryError, InputError, LocalError."""
        while first <= self.count:
            try:
                self._run(first)
                return
            except _Full as full_at:
                self.media.is_full(self.part_size)
                first = full_at.number

    def _run(self, first: int) -> None:
        """As many parts as the medium takes, with one reading of the source."""
        start = self.span(first)[0]
        pieces = read_stream(self.stream, self.origins, self.memory, start=start, stop=self.stream.size)
        with Hashing() as hashing, _closing(pieces), _Cut(pieces) as cut:
            check = self._begun(hashing, start)
            for number in range(first, self.count + 1):
                check = self._one(number, hashing, cut, check)

    def _begun(self, hashing: Hashing, start: int) -> BlobCheck | None:
        """The check of the blob that the first part begins within, with what is before it."""
        for segment, at, _ in self.stream.between(start, start + 1):
            if segment.blob is not None and at and not is_small(segment.blob):
                check = self._check(segment.blob)
                for piece in self.heads(segment.blob, at):
                    hashing.skip(piece, check)
                return check
        return None

    def _check(self, blob: BundleBlob) -> BlobCheck:
        return BlobCheck(blob, str(self.origins[blob.digest]))

    def _one(self, number: int, hashing: Hashing, cut: _Cut, check: BlobCheck | None) -> BlobCheck | None:
        """Write one part. check: of the blob that it begins within; returns that of the one that it ends within."""
        first = check
        start, stop = self.span(number)
        folder = self.media.next_with_room(stop - start)
        name = part_name(self.mirror, self.number, number)
        self._refuse_others(folder, name)
        self.begin(number, folder)
        self.progress.begin(name, total_bytes=stop - start, group=str(folder))
        try:
            with half_written(folder, name) as file:
                hashing.begin(file)
                for piece in cut.take(stop - start):
                    if piece.blob is not None and (check is None or check.blob is not piece.blob):
                        check = self._check(piece.blob)
                    hashing.put(piece.content, check if piece.blob else None, piece.part)
                    self.progress.advance(name, len(piece.content))
                sha256 = hashing.end()
        except DigestMismatch:
            if first is not None:  # its first bytes are in parts that count as finished
                self.undo(first.blob.offset // self.part_size + 1)
            raise
        except DiskFull as error:
            self.progress.end(name, note="the medium is full")
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EFBIG:
                raise _too_large(folder, stop - start) from error
            raise _Full(number) from error
        self.done(number, Part(name=name, size=stop - start, sha256=sha256), folder)
        self.progress.end(name)
        return check

    def _refuse_others(self, folder: Path, name: str) -> None:
        if (folder / name).exists() and (folder, name) not in self.media.own:
            raise InputError(
                f"there is a file {name} of another bundle",
                where=str(folder),
                do="Name another folder, or move the file away",
            )

    def one_again(self, wanted: Part, number: int, folder: Path) -> Path:
        """Make one part alone once more, byte for byte. Raises ContentError when the source gives other bytes now, and
        then no file is left."""
        start, stop = self.span(number)
        self._refuse_others(folder, wanted.name)
        pieces = read_stream(self.stream, self.origins, self.memory, start=start, stop=stop)
        self.progress.begin(wanted.name, total_bytes=stop - start, group=str(folder))
        with (
            Hashing() as hashing,
            _closing(pieces),
            _Cut(pieces) as cut,
            half_written(folder, wanted.name) as file,
        ):
            hashing.begin(file)
            for piece in cut.take(stop - start):
                hashing.put(piece.content, None, piece.part)
                self.progress.advance(wanted.name, len(piece.content))
            if hashing.end() != wanted.sha256:
                raise ContentError(
                    "the part has other bytes than the bundle's document says",
                    where=str(folder / wanted.name),
                    do="The source changed since: make a new bundle",
                )
        self.progress.end(wanted.name)
        return folder / wanted.name


def _too_large(folder: Path, size: int) -> InputError:
    return InputError(
        f"the medium takes no file of {size_text(size)}",
        where=str(folder),
        do="Make a new bundle of smaller parts (--restart --part-size 4000MB fits FAT), or take another file system",
    )


class _Full(Exception):
    """The medium is full; ``number`` is the part that did not fit."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Cut:
    """Pieces, cut where parts end; a context manager that lets go of the last one's memory, whatever happens: who
    fetches waits for it."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._rest: Piece | None = None
        self._held: MemoryPart | None = None

    def take(self, size: int) -> Iterator[Piece]:
        """Pieces of so many bytes together. A piece's memory is let go of when the next is asked for."""
        while size:
            piece = self._rest or next(self._pieces)
            self._held, self._rest = piece.part, None
            now = Piece(piece.content[:size], piece.blob, piece.part)
            size -= len(now.content)
            if len(now.content) < len(piece.content):
                self._rest = Piece(piece.content[len(now.content) :], piece.blob, piece.part)
            yield now
            if self._rest is None:
                self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def __enter__(self) -> _Cut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._let_go()


@contextmanager
def half_written(folder: Path, name: str) -> Iterator[int]:
    """A file to write that gets its name at the end of the block; on any error it is removed. Raises DiskFull,
    StateLocked while another process writes it, LocalError."""
    path, half = folder / name, folder / f"{name}{HALF}"
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _begun_anew(half)
    try:
        with local_errors(path):
            yield file
            os.fsync(file)
            half.rename(path)
            sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            half.unlink()
        raise
    finally:
        os.close(file)


def _begun_anew(half: Path) -> int:
    """A file that was not there before, locked. What is left of a killed process goes away; a link is not followed: a
    medium comes from elsewhere, and may lead out of itself."""
    while True:
        with suppress(FileNotFoundError):
            _remove_left(half)
        try:
            file = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file


def _remove_left(half: Path) -> None:
    if half.is_symlink():
        half.unlink()
        return
    file = os.open(half, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateLocked("another process writes this file", where=str(half), do="Name another folder") from error
    except OSError:  # some file systems have no locks
        pass
    finally:
        os.close(file)
    half.unlink()


@contextmanager
def _closing(pieces: Iterator[Piece]) -> Iterator[None]:
    """Ends the reading, whatever happens."""
    try:
        yield
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
