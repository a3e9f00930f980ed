"""A blob that is made while it is sent: its digest and size are known when its last byte is.

It is made into parts of the shared memory. What ends within its first part is sent whole. More goes into an upload
session, and the digest with the closing request (distribution-spec 1.1, "Pushing a blob in chunks"): nothing touches
the disk. Where a registry takes no chunks (Artifact Registry, layout folders), or lost the session, it goes through a
file, from which it is sent in one piece.

A part that fails is sent again as long as there is patience. What is lost with its session is made anew, once: then
the file has it. What a killed process left is of no use, since nobody knows which blob it would have become, and
whoever makes the same one cancels it; unless its maker says that the same bytes come under the same name: then they are
made again, and sent behind those that the registry has. The closing request's digest says whether they were the same.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import BinaryIO, Protocol, TypeVar, cast

from registry_pipelines.errors import (
    ContentError,
    NotFound,
    OverQuota,
    Refused,
    RegistryFull,
    RegistryPipelinesError,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.protocol import CarriedUploads, Place, UploadSession, UploadSessions
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.courier import Shipment
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part
from registry_pipelines.transfer.blob.sinks import pace_of, refuses_chunks, refuses_streams
from registry_pipelines.transfer.blob.spool import FileSource
from registry_pipelines.transfer.blob.tools import BlobTools, takes_chunks
from registry_pipelines.transfer.flow.patience import Elsewhere

Write = Callable[[memoryview | bytes], object]
"""Takes the blob's bytes in order; a view is used during the call only. Raises what ended the upload."""

Produce = Callable[[Write], Descriptor]
"""Makes the blob from its first byte and tells what it is; may be called a second time."""

_T = TypeVar("_T")


def produce_blob(
    target: Place, name: str, produce: Produce, tools: BlobTools, *, resumed: Callable[[int], None] | None = None
) -> Descriptor:
    """Make a blob and store it at a target.

    name: by which whoever makes it in another process finds what this one left. resumed: the same name always means the
    same bytes, so an upload that another process left is gone on with; is told how many bytes of it are there. Raises
    what ``produce`` raises, and the RegistryError, ContentError and LocalError families; then nothing stays open at the
    registry, unless it can be gone on with.
    """
    tries, registry = _Tries(target, tools), target.registry
    if isinstance(registry, UploadSessions) and takes_chunks(target, tools):
        with contextlib.suppress(Elsewhere):
            return _make(produce, tries, partial(_Session, tries, registry, name, resumed))
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


class _Session:
    """Sends a part into an upload session while the next one is made. Parts are gone once they are sent, so each is
    tried until it is there; the journal tells who may cancel the session, or go on with it.

    What may be gone on with is sent by the courier, where there is one: docker-registry forgets an upload when a kill
    tears a request."""

    def __init__(
        self, tries: _Tries, sessions: UploadSessions, name: str, resumed: Callable[[int], None] | None
    ) -> None:
        self._tries, self._sessions, self._journal = tries, sessions, tries.tools.journal
        self._resumed, self._is_lost, self._is_torn = resumed, False, False
        self._named = Descriptor(media_type="", digest=Digest.of(name.encode()), size=0)
        """What the journal calls it, as long as nobody knows the blob."""
        self._session: UploadSession | None = None
        self._pool = Pool(1, "send")
        self._sending: Future[None] | None = None

    def put(self, part: Part) -> None:
        try:
            self._wait()
            self._sending = self._pool.submit(self._send, part)
        except BaseException:
            part.release()
            raise

    def _wait(self) -> None:
        """Until the part before is there; so a blob holds two at most."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()

    def _send(self, part: Part) -> None:
        try:
            session = self._session or self._begin()
            before = session.offset
            self._persist(session, partial(self._append, session, part))
            if self._resumed and self._journal and session.offset > before:
                self._journal.record(self._tries.target, self._named, session)
        finally:
            part.release()

    def _append(self, session: UploadSession, part: Part) -> None:
        if self._is_torn:
            there = self._sessions.upload_offset(session)
            if there is None or not session.offset <= there <= part.stop:
                raise NotFound(
                    "a part was torn, and how much of it is there is not known", where=str(self._tries.target)
                )
            session.offset, self._is_torn = there, False
        if session.offset < part.offset:
            raise NotFound("parts that were taken are gone", where=str(self._tries.target))
        rest = part.view[session.offset - part.offset :]
        if rest and not self._carry(session, part):
            self._sessions.append_upload(session, rest)

    def _carry(self, session: UploadSession, part: Part) -> bool:
        """Send the rest of a part by the courier; False where there is none, or the registry takes no streams."""
        courier, name, sessions = self._tries.tools.courier, self._tries.target.registry.name, self._sessions
        note = self._journal.note(self._tries.target, self._named.digest) if self._resumed and self._journal else None
        if note is None or courier is None or not courier.usable or name in courier.refusing:
            return False
        if not isinstance(sessions, CarriedUploads):
            return False
        part.share(1)
        left = [part]
        shipment = Shipment(
            courier,
            lambda: left.pop() if left else None,
            lambda _stop, _size: None,
            offset=session.offset,
            note=note,
            pace=pace_of(sessions),
        )
        try:
            sessions.append_carried(session, shipment)
        except (Refused, Unsupported) as error:
            if not refuses_streams(error):
                raise
            courier.refusing.add(name)
            return False
        except Unavailable:
            self._is_torn = True
            raise
        finally:
            for each in left:
                each.release()
        return True

    def _begin(self) -> UploadSession:
        """Go on with what a process left that was killed over the same blob, or cancel it and begin."""
        target = self._tries.target
        while self._journal and (left := self._journal.resume(target, self._named)):
            if self._resumed and self._may_go_on(left):
                self._resumed(left.offset)
                self._session = left
                return left
            self._cancel(left)
        self._session = self._tries.persist(partial(self._sessions.begin_upload, target.repository))
        if self._journal:
            self._journal.record(target, self._named, self._session)
        return self._session

    def _may_go_on(self, session: UploadSession) -> bool:
        """Agree with the registry on where. It may know more than we, of what was under way; one that says less is ECR,
        whose status never moves. What it has ends with a part, or it takes parts of any size."""
        try:
            there = self._tries.persist(partial(self._sessions.upload_offset, session))
        except (NotFound, Refused, Unsupported):
            return False
        if there is None or there > session.offset + PART_BYTES:
            return False
        session.offset = max(there, session.offset)
        return session.offset > 0 and not (session.min_chunk_bytes and session.offset % PART_BYTES)

    def _persist(self, session: UploadSession, act: Callable[[], object]) -> None:
        """Registries say in many ways that they take no chunks or lost a session. What is wrong for good comes again
        with the file."""
        try:
            self._tries.persist(act)
        except (RegistryFull, OverQuota):
            raise
        except (NotFound, Refused, ContentError, Unsupported) as error:
            target = self._tries.target
            if refuses_chunks(error, session):
                self._tries.tools.whole_only.add(target.registry.name)
            self._is_lost = True
            raise Elsewhere("the upload session was lost", where=str(target)) from error

    def finish(self, descriptor: Descriptor) -> None:
        self._wait()
        session = self._session
        assert session is not None  # noqa: S101 - a part was sent
        self._persist(session, partial(self._sessions.commit_upload, session, descriptor.digest))
        self._pool.shutdown()
        self._session = None
        self._forget()

    def abandon(self) -> None:
        self._pool.shutdown()
        session, self._session = self._session, None
        if session is not None and (self._is_lost or not self._resumed or not self._journal):
            with contextlib.suppress(RegistryPipelinesError):  # what led here matters more
                self._cancel(session)

    def _cancel(self, session: UploadSession) -> None:
        with contextlib.suppress(RegistryPipelinesError):  # one that cannot be reached will expire it
            self._sessions.cancel_upload(session)
        self._forget()

    def _forget(self) -> None:
        if self._journal:
            self._journal.forget(self._tries.target, self._named.digest)


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
