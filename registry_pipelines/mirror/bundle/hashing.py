"""Bytes that are hashed twice and written once, at the same time: as a part of the stream, and as the blob they are of.

Each of the three has a thread of its own, and takes pieces in their order; a piece is memory of the shared budget
(``transfer.blob.memory``) that the last of them gives back. Python lets go of its lock for each: on two cores both
hashes cost little more than one.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from registry_pipelines.errors import DigestMismatch
from registry_pipelines.mirror.bundle.format import BundleBlob
from registry_pipelines.transfer.blob.memory import Part

WRITEBACK_BYTES = 16 * 1024 * 1024
"""Written before the system is told to put it on the medium. Else all of a part waits for its end, nothing is read or
hashed meanwhile, and a slow medium fills the memory with what is still to be written."""

_DEPTH = 256
"""Pieces that wait for a thread; their memory is bounded by the budget of parts, this only bounds what is small."""


class BlobCheck:
    """Hashes one blob as its bytes go by. The end must be its digest."""

    def __init__(self, blob: BundleBlob, where: str) -> None:
        self.blob, self._where = blob, where
        self._hasher = blob.digest.hasher()
        self._seen = 0

    def update(self, piece: memoryview | bytes) -> None:
        """The next bytes. Raises DigestMismatch, with the last ones."""
        self._hasher.update(piece)
        self._seen += len(piece)
        if self._seen == self.blob.size and self._hasher.hexdigest() != self.blob.digest.hex:
            raise DigestMismatch(
                f"{self.blob.digest} has other bytes than its name says",
                where=self._where,
                do="Run the same command again: on the way a byte may change. If it stays so, repair it at the source",
            )


class _Worker(threading.Thread):
    """Does one thing with each piece. After an error it does nothing more, and goes on letting pieces go."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: queue.Queue[tuple[Callable[[Any], object], Any, Part | None] | None] = queue.Queue(_DEPTH)
        self.error: BaseException | None = None
        self.start()

    def put(self, act: Callable[[Any], object], piece: memoryview | bytes, part: Part | None) -> None:
        self._work.put((act, piece, part))

    def drain(self) -> None:
        """Until all that was put is done."""
        self._work.join()

    def close(self) -> None:
        self._work.put(None)
        self.join()

    def run(self) -> None:
        while (work := self._work.get()) is not None:
            act, piece, part = work
            try:
                if self.error is None:
                    act(piece)
            except BaseException as error:
                self.error = error
            finally:
                del work, piece
                if part is not None:
                    part.release()
                self._work.task_done()


class Hashing:
    """The three threads; a context manager. :meth:`begin` a part, :meth:`put` pieces, :meth:`end` it."""

    def __init__(self) -> None:
        self._of_part, self._of_blob, self._writer = _Worker("hash-part"), _Worker("hash-blob"), _Worker("write")
        self._workers = (self._of_part, self._of_blob, self._writer)
        self._hasher = hashlib.sha256()
        self._file = -1
        self._written = self._told = 0

    def begin(self, file: int | None) -> None:
        """A part begins. file: where it is written; None only hashes."""
        self._hasher = hashlib.sha256()
        self._file = -1 if file is None else file
        self._written = self._told = 0

    def put(self, piece: memoryview | bytes, check: BlobCheck | None, part: Part | None = None) -> None:
        """The next bytes of the stream. check: of the blob they are of. part: the memory they lie in, which is shared
        here and let go of later. Raises what one of the threads met."""
        self._raise()
        if part is not None:
            part.share(2 + (check is not None))
        self._of_part.put(self._hasher.update, piece, part)
        if check is not None:
            self._of_blob.put(check.update, piece, part)
        self._writer.put(self._write, piece, part)

    def skip(self, piece: memoryview | bytes, check: BlobCheck) -> None:
        """Bytes of a blob that are in an earlier part."""
        self._raise()
        self._of_blob.put(check.update, piece, None)

    def end(self) -> str:
        """All bytes of the part were put: its SHA-256 in hex, when they are written and every blob that ended in it is
        what it should be. Raises as :meth:`put`."""
        for worker in self._workers:
            worker.drain()
        self._raise()
        return self._hasher.hexdigest()

    def _write(self, piece: memoryview | bytes) -> None:
        view = memoryview(piece)
        while view and self._file >= 0:
            count = os.write(self._file, view)
            self._written += count
            view = view[count:]
        if self._written - self._told >= WRITEBACK_BYTES and hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._file, self._told, self._written - self._told, os.POSIX_FADV_DONTNEED)
            self._told = self._written

    def _raise(self) -> None:
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    def __enter__(self) -> Hashing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.error = worker.error or error
            worker.close()
