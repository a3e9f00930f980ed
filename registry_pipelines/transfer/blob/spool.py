"""For registries that take a blob only whole (Google Artifact Registry, GitHub): collect it on disk, then send it once.

Such an upload cannot go on after a kill, so at least the download must: the file keeps what arrived, and the next run
reads the rest only. The digest is checked while the file is sent; a file that does not hold it is thrown away.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from registry_pipelines.errors import DigestMismatch, DiskFull, StateLocked
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.room import Share, room_of
from registry_pipelines.transfer.blob.sinks import Inbox, Moved

MAX_COLLECTORS = 16
"""Processes that may collect one blob for one target at once, each in a file of its own. More are a mistake, and would
fill the disk."""


class SpoolSink:
    """A sink (see ``sinks.Sink``) with a file between. folder: where files lie, named by target and digest."""

    def __init__(self, target: Place, descriptor: Descriptor, folder: Path, moved: Moved) -> None:
        self.target = target
        self._descriptor, self._moved = descriptor, moved
        safe = str(target).replace("/", "_").replace(":", "_").strip("_")
        self._folder = folder / safe
        self._path = self._folder / descriptor.digest.hex
        self._file: BinaryIO | None = None
        self._share: Share | None = None

    def open(self) -> int:
        """How much of the blob the file has, once there is room for the rest. Raises StateLocked when too many others
        collect it too, DiskFull, LocalError."""
        if self._file is None:
            with local_errors(self._path):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._path, self._file = self._claim()
        size = self._file.seek(0, os.SEEK_END)
        if size > self._descriptor.size:
            self._file.truncate(0)
            size = 0
        if self._share is None:
            try:
                left = self._descriptor.size - size
                self._share = room_of(self._folder).take(self._folder, left, where=str(self._path))
            except BaseException:
                self._close()
                raise
        return size

    def _claim(self) -> tuple[Path, BinaryIO]:
        """The fullest file that nobody fills, an empty one when all are in use. To wait for the other process would
        save the bytes, but then its trouble were ours, and its end, which may be a failure, tells us nothing."""
        name = self._descriptor.digest.hex
        paths = [self._folder / (f"{name}-{number}" if number else name) for number in range(MAX_COLLECTORS)]
        for path in sorted(paths, key=_size, reverse=True):
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            if os.fstat(file.fileno()).st_nlink:
                return path, file
            file.close()  # its owner was done, and removed it, just between our open and our lock
        raise StateLocked(
            f"{MAX_COLLECTORS} others collect the same blob for the same target",
            where=str(self._path),
            do="Wait for them; one copy is enough",
        )

    def run(self, inbox: Inbox) -> None:
        """Collect what is missing, then upload. Raises RegistryError, DigestMismatch, DiskFull."""
        file = self._file
        assert file is not None  # noqa: S101 - open comes first
        try:
            with local_errors(self._path):
                self._collect(inbox, file)
                source = FileSource(file, self._sent)
                self.target.registry.upload_blob(self.target.repository, self._descriptor, source)
        except (DigestMismatch, DiskFull):
            self._discard()
            raise
        self._discard()

    def _collect(self, inbox: Inbox, file: BinaryIO) -> None:
        while (part := inbox.get()) is not None:
            try:
                at = file.seek(0, os.SEEK_END)
                if part.stop > at:
                    written = file.write(part.view[at - part.offset :])
                    if self._share:
                        self._share.moved(written)
            finally:
                part.release()
        file.flush()

    def _sent(self, offset: int, count: int) -> None:
        if self._share:
            self._share.moved()
        self._moved(offset, count)

    def leave(self) -> None:
        """Keep the file for the next run."""
        self._close()

    def give_up(self) -> None:
        """Keep the file for the next run."""
        self._close()

    def _discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._share is not None:
            self._share.close()
            self._share = None


def _size(path: Path) -> int:
    """Bytes; -1 for a file that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


class FileSource:
    """A file as something to upload, again if need be. moved: told how far it was read."""

    def __init__(self, file: BinaryIO, moved: Moved) -> None:
        self._file, self._moved = file, moved
        self.rewind()

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._moved(self._file.tell(), count)
        return count

    def rewind(self) -> None:
        """Start again from the first byte."""
        self._file.seek(0)
