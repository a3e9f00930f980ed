"""A blob that is made while it is sent: its digest and size are known when its last byte is.

It is made into parts of the shared memory. What ends within its first part is sent whole. More goes into an upload
session, and the digest with the closing request (distribution-spec 1.1, "Pushing a blob in chunks"): nothing touches
the disk. Where a registry takes no chunks (Artifact Registry, layout folders), or lost the session, it goes through a
file, from which it is sent in one piece.

A part that fails is sent again as long as there is patience. What is lost with its session is made anew, once: then
the file has it. What a killed process left is of no use, since nobody knows which blob it would have become; whoever
makes the same one cancels it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Protocol, TypeVar, cast

from registry_pipelines.errors import ContentError, NotFound, OverQuota, Refused, RegistryFull, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.protocol import Place, UploadSession, UploadSessions
from registry_pipelines.transfer.blob.fanout import BlobTools, takes_chunks
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part
from registry_pipelines.transfer.blob.sinks import Inbox, SessionSink
from registry_pipelines.transfer.blob.spool import FileSource
from registry_pipelines.transfer.flow.patience import Elsewhere

Write = Callable[[memoryview | bytes], object]
"""Takes the blob's bytes in order; a view is used during the call only. Raises what ended the upload."""

Produce = Callable[[Write], Descriptor]
"""Makes the blob from its first byte and tells what it is; may be called a second time."""

UNKNOWN_BYTES = sys.maxsize

_T = TypeVar("_T")


def produce_blob(target: Place, name: str, produce: Produce, tools: BlobTools) -> Descriptor:
    """Make a blob and store it at a target.

    name: by which whoever makes it in another process finds what this one left. Raises what ``produce`` raises, and
    the RegistryError, ContentError and LocalError families; then nothing stays open at the registry.
    """
    tries = _Tries(target, tools)
    if takes_chunks(target, tools):
        with contextlib.suppress(Elsewhere):
            return _make(produce, tries, partial(_Session, tries, name))
    return _make(produce, tries, partial(_File, tries))


class _Tries:
    """The attempts of one blob at its target."""

    def __init__(self, target: Place, tools: BlobTools) -> None:
        self.target, self.tools = target, tools
        self._patience = tools.patience()

    def persist(self, act: Callable[[], _T]) -> _T:
        """Do it, and again as long as there is patience, which success starts afresh."""
        result = self.tools.health.persist(self.target, "content", act, patience=self._patience)
        self._patience.progress()
        return result

    def moved(self, _stop: int, _byte_count: int) -> None:
        """The target took bytes."""
        self.tools.health.worked(self.target, "content")


class _Outlet(Protocol):
    """Where a blob of more than one part goes."""

    def put(self, part: Part) -> None:
        """Take a part over. Raises what ended the upload."""
        ...

    def finish(self, descriptor: Descriptor) -> None:
        """All of it was put: store it."""
        ...

    def abandon(self) -> None:
        """Leave nothing behind, as far as something was left."""
        ...


def _make(produce: Produce, tries: _Tries, open_outlet: Callable[[], _Outlet]) -> Descriptor:
    making = _Making(tries, open_outlet)
    try:
        descriptor = produce(making.write)
        making.finish(descriptor)
    except BaseException:
        making.abandon()
        raise
    return descriptor


class _Making:
    """One time that the blob is made: fills parts, and sends what ends within the first."""

    def __init__(self, tries: _Tries, open_outlet: Callable[[], _Outlet]) -> None:
        self._tries, self._open_outlet = tries, open_outlet
        self._outlet: _Outlet | None = None
        self._part: Part | None = None
        self._offset = self._filled = 0

    def write(self, piece: memoryview | bytes) -> None:
        view = memoryview(piece)
        while view:
            if self._filled == PART_BYTES:
                self._hand_over()
            if self._part is None:
                self._part = self._take()
            count = min(len(view), PART_BYTES - self._filled)
            self._part.view[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]

    def _take(self) -> Part:
        group = frozenset([self._tries.target.registry.name])
        return self._tries.tools.memory.take(self._offset, PART_BYTES, large=True, group=group)

    def _hand_over(self) -> None:
        if self._outlet is None:
            self._outlet = self._open_outlet()
        part, self._part = self._part, None
        if part is not None:
            part.shorten(self._filled)
            self._offset += self._filled
            self._filled = 0
            self._outlet.put(part)

    def finish(self, descriptor: Descriptor) -> None:
        if self._offset:
            self._hand_over()
            assert self._outlet is not None  # noqa: S101 - it took the first part
            self._outlet.finish(descriptor)
            return
        target, content = self._tries.target, self._part.view[: self._filled] if self._part else b""
        source = BytesSource(content)

        def upload() -> None:
            source.rewind()
            target.registry.upload_blob(target.repository, descriptor, source)

        self._tries.persist(upload)
        self._release()

    def abandon(self) -> None:
        self._release()
        if self._outlet is not None:
            self._outlet.abandon()

    def _release(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.release()


class ProducedSink(SessionSink):
    """A session for a blob whose digest comes last and whose parts are gone once they are sent: each is tried until it
    is there, and the journal only tells who may cancel the session."""

    def __init__(self, tries: _Tries, name: str) -> None:
        self._tries, target, tools = tries, tries.target, tries.tools
        unknown = Descriptor(media_type="", digest=Digest.of(name.encode()), size=UNKNOWN_BYTES)
        sessions = cast(UploadSessions, target.registry)
        super().__init__(target, sessions, unknown, tools.journal, None, tries.moved, tools.whole_only)
        self.digest: Digest | None = None
        """Told before the parts end."""

    def open(self) -> int:
        """Begin, and cancel what a process left that was killed over the same blob."""
        while super().open():
            self.give_up()
        return 0

    def _record(self) -> None:
        if self._session and not self._session.offset:
            super()._record()

    def _send_chunk(self, session: UploadSession, chunk: memoryview) -> None:
        stop = session.offset + len(chunk)

        def rest() -> None:
            self._sessions.append_upload(session, chunk[len(chunk) - (stop - session.offset) :])

        self._tries.persist(rest)

    def _commit(self, session: UploadSession) -> None:
        assert self.digest is not None  # noqa: S101 - told before the parts end
        self._tries.persist(partial(self._sessions.commit_upload, session, self.digest))

    def _restart_or_raise(self, error: NotFound | Refused | ContentError | Unsupported) -> None:
        """Registries say in many ways that they take no chunks or lost a session. What is wrong for good comes again
        with the file."""
        self.give_up()
        if isinstance(error, RegistryFull | OverQuota):
            raise error
        raise Elsewhere("the upload session was lost", where=str(self.target)) from error


class _Session:
    """Sends parts into an upload session, in a thread of its own: the next one is made meanwhile."""

    def __init__(self, tries: _Tries, name: str) -> None:
        self._sink, self._inbox = ProducedSink(tries, name), Inbox()
        self._error: BaseException | None = None
        self._ended = False
        tries.persist(self._sink.open)
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._sink.run(self._inbox)
        except BaseException as error:
            self._error = error
        finally:
            self._inbox.drain()

    def put(self, part: Part) -> None:
        if self._error is not None:
            part.release()
            raise self._error
        self._inbox.put(part)

    def finish(self, descriptor: Descriptor) -> None:
        self._sink.digest = descriptor.digest
        self._end(complete=True)
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        self._end(complete=False)
        self._sink.give_up()

    def _end(self, *, complete: bool) -> None:
        if not self._ended:
            self._ended = True
            self._inbox.end(complete=complete)
            self._thread.join()


class _File:
    """Collects parts in a file without a name, so that not even a kill leaves it."""

    def __init__(self, tries: _Tries) -> None:
        self._tries, folder = tries, tries.tools.spool
        self._where = str(folder or tempfile.gettempdir())
        with local_errors(self._where):
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a buffer would be written once more while closing, and hide the error of a full disk.
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115 - closed below

    def put(self, part: Part) -> None:
        try:
            with local_errors(self._where):
                view = part.view
                while view:
                    view = view[self._file.write(view) :]
        finally:
            part.release()

    def finish(self, descriptor: Descriptor) -> None:
        target = self._tries.target

        def upload() -> None:
            source = FileSource(self._file, self._tries.moved)
            target.registry.upload_blob(target.repository, descriptor, source)

        self._tries.persist(upload)
        self._file.close()

    def abandon(self) -> None:
        self._file.close()
